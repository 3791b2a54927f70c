# SPDX-License-Identifier: BSD-3-Clause
"""The outputs of a run, whole and nothing else: they decide whether it succeeded, not an exit status."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun.errors import DataError, OutputError
from diffrun.repository import paths
from diffrun.repository.dataid import DataId

RECORD = "record.json"
CRATE = "ro-crate-metadata.json"
LOG = "log.txt"
PICTURE = "picture"
SUMMARY = "summary"
PARENT = "_parent"
_LINKS = (PARENT,)
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


def check(folder: Path, science: Iterable[DataId]) -> tuple[Output, ...]:
    """Every file of a folder that the engine has filled, after making sure that all is there and whole.

    Raises
    ------
    OutputError
        If a product is missing or cut short, or there is something that is not a plain file.
    """
    from diffrun.files.fits import check as check_fits  # loads numpy: not before it is needed

    names = list(_walk(folder))
    for name in _expected(folder, science):
        if name not in names:
            raise OutputError(
                f"the engine ended without an error, but {name} is missing", "see its lines with -v"
            )
    for name in names:
        if name.endswith(".fits"):
            try:
                check_fits(folder / name)
            except DataError as error:
                said = error.message.replace(f"{folder}/", "")
                raise OutputError(f"the engine left a damaged file: {said}") from None
    return tuple(_summed(folder, name) for name in names if name != RECORD)


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


def _walk(folder: Path) -> Iterator[str]:
    """Names of all plain files, sorted; links other than the parent's, devices and pipes are refused."""
    for where, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted((*files, *(each for each in folders if (Path(where) / each).is_symlink()))):
            path = Path(where) / name
            if path.is_symlink() and path.parent == folder and name in _LINKS:
                continue
            if not stat.S_ISREG(path.lstat().st_mode):
                raise OutputError(f"the engine left {path.relative_to(folder)}, which is not a plain file")
            yield str(path.relative_to(folder))


def links(folder: Path) -> dict[str, str]:
    """The links that a run folder may have, and where they lead: the parent repository."""
    return {name: str((folder / name).readlink()) for name in _LINKS if (folder / name).is_symlink()}


def prefix(folder: Path) -> str:
    """First word of the datasets, ``deepDiff``; `OutputError` if there is no configuration."""
    for word in _PREFIXES:
        if (folder / paths.relative(f"{word}_config")).is_file():
            return word
    raise OutputError(
        "the engine ended without an error, but wrote no configuration", "see its lines with -v"
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
