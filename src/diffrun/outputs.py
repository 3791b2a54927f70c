# SPDX-License-Identifier: BSD-3-Clause
"""The outputs of a run, whole and nothing else: they decide whether it succeeded, not an exit status."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun.errors import DataError, OutputError
from diffrun.files import fits
from diffrun.repository import paths
from diffrun.repository.dataid import SOURCE_BITS, DataId

RECORD = "record.json"
CRATE = "ro-crate-metadata.json"
LOG = "log.txt"
PICTURE = "picture"
SUMMARY = "summary"
PARENT = "_parent"
_LINKS = (PARENT,)
_LARGEST = 8 * 2**30
_FILES_EACH = 64
_SUMMERS = 4
_PREFIXES = ("deepDiff", "goodSeeingDiff")
#: Dataset -> the configuration field that asks for it.
_PRODUCTS = {
    "differenceExp": "doWriteSubtractedExp",
    "matchedExp": "doWriteMatchedExp",
    "diaSrc": "doWriteSources",
}
_SWITCH = re.compile(r"^config\.(doWrite\w+)=(True|False)$", re.MULTILINE)


@dataclass(frozen=True)
class Output:
    """One file of a run folder, by its path in it."""

    name: str
    size: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        return {"name": self.name, "bytes": self.size, "sha256": self.sha256}


def examine(folder: Path, science: Sequence[DataId], repository: Path) -> tuple[str, ...]:
    """Make sure that a program left its products and nothing that could mislead who reads them: their names.

    What runs in a container is not trusted: no link is followed, and nothing is kept that is not a plain file
    of the caller's own. Files and folders get the modes that the caller's umask gives.

    Raises
    ------
    OutputError
        Naming the first thing that is missing, or must not be there.
    """
    for name, target in links(folder).items():
        if (folder / target).resolve() != repository.resolve():
            raise OutputError(f"the engine left {name}, a link to {target}, not to the repository")
        if target != str(repository.resolve()):  # in a container, a link to the repository is a plain folder
            (folder / name).unlink()
            (folder / name).symlink_to(repository.resolve())
    names = []
    for name in walk(folder):
        names.append(name)
        if len(names) > _FILES_EACH * (1 + len(science)):
            raise OutputError(f"the engine left more than {len(names) - 1} files", "see its lines with -v")
    _refuse_missing(folder, science, names)
    mask = os.umask(0)
    os.umask(mask)
    for name in {*names, *(str(each) for path in names for each in Path(path).parents if each.name)}:
        _set_mode(folder / name, ~mask)
    return tuple(names)


def point_home(folder: Path, seen: Mapping[str, str]) -> None:
    """Let the link to the parent repository lead to where that is here, not to its place in a container."""
    here = seen.get(links(folder).get(PARENT, ""))
    if here is not None:
        (folder / PARENT).unlink()
        (folder / PARENT).symlink_to(here)


def _set_mode(path: Path, mask: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, (0o777 if stat.S_ISDIR(os.fstat(descriptor).st_mode) else 0o666) & mask)
    finally:
        os.close(descriptor)


def check(folder: Path, science: Iterable[DataId], names: Iterable[str] | None = None) -> tuple[Output, ...]:
    """Every file of a folder that the engine has filled, after making sure that all is there and whole.

    Parameters
    ----------
    folder : `pathlib.Path`
    science : iterable of `DataId`
    names : iterable of `str`, optional
        The files to look at, where more are being written; all without.

    Raises
    ------
    OutputError
        If a product is missing, cut short or of another data id, or there is something that is not a plain
        file.
    """
    science, names = tuple(science), list(walk(folder) if names is None else names)
    _refuse_missing(folder, science, names)
    for name in names:
        if name.endswith(".fits"):
            try:
                fits.check(folder / name)
            except DataError as error:
                said = error.message.replace(f"{folder}/", "")
                raise OutputError(f"the engine left a damaged file: {said}") from None
    for data_id in science:
        _refuse_another(folder, str(paths.relative(f"{prefix(folder)}_diaSrc", data_id)), data_id)
    with ThreadPoolExecutor(_SUMMERS) as pool:  # hashlib sums without the interpreter's lock
        return tuple(pool.map(lambda name: _summed(folder, name), (n for n in names if n != RECORD)))


def complete(folder: Path, known: Iterable[Output]) -> tuple[Output, ...]:
    """Every file of a folder; those that are known already are not summed again."""
    found = {output.name: output for output in known}
    return tuple(found.get(name) or _summed(folder, name) for name in walk(folder) if name != RECORD)


def _refuse_another(folder: Path, name: str, data_id: DataId) -> None:
    """`OutputError` if the sources of a catalogue are not of its data id: their ids hold the exposure."""
    if not (folder / name).is_file():
        return
    try:
        ids = fits.integers(folder / name, "id")
    except DataError:  # no catalogue of afw: nothing to compare
        return
    if any(each >> SOURCE_BITS != data_id.ccd_exposure_id for each in ids):
        raise OutputError(f"the engine left {name} with sources of another exposure than {data_id}")


def verify(folder: Path, outputs: Iterable[Output]) -> None:
    """Compare a finished folder with its record; `OutputError` naming the first file that differs."""
    remedy = f"remove {folder} and run again, or give another --output"
    for known in outputs:
        try:
            now = _summed(folder, known.name)
        except OSError as error:
            raise OutputError(f"{folder / known.name} cannot be read: {error.strerror}", remedy) from None
        if now != known:
            raise OutputError(f"{folder / known.name} has changed since the run", remedy)


def walk(folder: Path) -> Iterator[str]:
    """Names of all plain files, sorted; other links, devices, pipes and foreign owners are refused."""

    def unreadable(error: OSError) -> None:
        raise OutputError(f"the engine left {error.filename}, which cannot be read: {error.strerror}")

    for where, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        for name in sorted((*files, *(each for each in folders if (Path(where) / each).is_symlink()))):
            path = Path(where) / name
            if path.is_symlink() and path.parent == folder and name in _LINKS:
                continue
            state = path.lstat()
            wrong = "is not a plain file" if not stat.S_ISREG(state.st_mode) else _suspect(state)
            if wrong:
                raise OutputError(f"the engine left {path.relative_to(folder)}, which {wrong}")
            yield str(path.relative_to(folder))


def links(folder: Path) -> dict[str, str]:
    """The links that a run folder may have, and where they lead: the parent repository."""
    return {name: str((folder / name).readlink()) for name in _LINKS if (folder / name).is_symlink()}


def _suspect(state: os.stat_result) -> str:
    """What is wrong with a plain file, or nothing."""
    if state.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "has a set-uid or set-gid bit"
    if state.st_nlink != 1:
        return "has another name elsewhere (a hard link)"
    if state.st_uid != os.geteuid():
        return f"belongs to the user {state.st_uid}"
    if state.st_size > _LARGEST:
        return f"is larger than {_LARGEST >> 30} GiB"
    return ""


def prefix(folder: Path) -> str:
    """First word of the datasets, ``deepDiff``; `OutputError` if there is no configuration."""
    for word in _PREFIXES:
        if (folder / paths.relative(f"{word}_config")).is_file():
            return word
    raise OutputError(
        "the engine ended without an error, but wrote no configuration", "see its lines with -v"
    )


def _refuse_missing(folder: Path, science: Iterable[DataId], names: Sequence[str]) -> None:
    missing = next((name for name in _expected(folder, science) if name not in names), None)
    if missing:
        raise OutputError(
            f"the engine ended without an error, but {missing} is missing", "see its lines with -v"
        )


def _expected(folder: Path, science: Iterable[DataId]) -> Iterator[str]:
    """What the resolved configuration promises."""
    word = prefix(folder)
    config = folder / paths.relative(f"{word}_config")
    switches = dict(_SWITCH.findall(config.read_text(encoding="utf-8", errors="replace")))
    wanted = [name for name, switch in _PRODUCTS.items() if switches.get(switch) != "False"]
    for data_id in science:
        for name in (*wanted, "metadata"):
            yield str(paths.relative(f"{word}_{name}", data_id))


def _summed(folder: Path, name: str) -> Output:
    descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        return Output(name, size, hashlib.file_digest(file, "sha256").hexdigest())


def of_record(record: dict[str, Any], folder: Path) -> tuple[Output, ...]:
    """The outputs that a record names; `DataError` if it is not a record of ours."""
    try:
        found = tuple(Output(str(o["name"]), int(o["bytes"]), str(o["sha256"])) for o in record["outputs"])
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{folder / RECORD} is damaged", "remove the folder, or give another --output"
        ) from None
    for output in found:
        if output.name.startswith("/") or ".." in Path(output.name).parts:
            raise DataError(f"{folder / RECORD} names a file outside its folder: {output.name}")
    return found
