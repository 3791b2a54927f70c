# SPDX-License-Identifier: BSD-3-Clause
"""Is a run folder what its record says? Each file, the record itself, its crate, and the inputs it names."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffrun import crate, outputs, record
from diffrun.display import counted
from diffrun.errors import DiffrunError, OutputError, RepositoryError, VerificationError
from diffrun.outputs import CRATE, PARENT, RECORD, Output

_SET_ID = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True)
class Finding:
    """One thing that is not as the record has it."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


@dataclass(frozen=True)
class Report:
    """What was looked at, and what was found.

    Attributes
    ----------
    folder : `pathlib.Path`
    record : `dict`
    files, inputs : `int`
        How many of each are as they were.
    findings : `tuple` [`Finding`, ...]
        None, if all is as it was.
    notes : `tuple` [`str`, ...]
        What could not be looked at.
    """

    folder: Path
    record: dict[str, Any] = field(repr=False)
    files: int
    inputs: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "schema": "diffrun.verification/1",
            "folder": str(self.folder),
            "files": self.files,
            "inputs": self.inputs,
            "findings": [{"name": found.name, "what": found.what} for found in self.findings],
            "notes": list(self.notes),
        }

    def refuse(self) -> None:
        """`VerificationError` that names the first findings, if there are any."""
        if self.findings:
            more = f" and {len(self.findings) - 3} more" if len(self.findings) > 3 else ""
            told = ", ".join(str(found) for found in self.findings[:3])
            raise VerificationError(
                f"{self.folder} is not what its record says: {told}{more}",
                "restore these files, or remove the folder and run again",
            )


def examine(folder: Path) -> Report:
    """Compare a run folder with its record.

    Raises
    ------
    RepositoryError
        If the folder is not there, or is not a run folder.
    VerificationError
        If its record cannot be read.
    """
    tree = _tree(folder)
    found, content = _record(folder, tree)
    notes: list[str] = []
    findings = [*_of_record(folder, found, content, tree, notes)]
    if any(finding.name == RECORD for finding in findings):  # by a spoilt record nothing can be judged
        return Report(folder, found, 0, 0, tuple(findings), tuple(notes))
    known = _known(folder, found)
    wrong = [*_of_files(folder, known, tree)]
    sealed = {RECORD, CRATE} if found["schema"] == record.SCHEMA else {RECORD}
    findings += [*wrong, *_strangers(folder, known, sealed, found, tree)]
    there, spoilt = _inputs(found, notes)
    return Report(folder, found, len(known) - len(wrong), there, (*findings, *spoilt), tuple(notes))


def _tree(folder: Path) -> dict[str, os.stat_result]:
    """Everything below a folder by its path in it; links are not followed."""
    if not folder.is_dir():
        raise RepositoryError(f"{folder} is not a folder", "give the run folder")
    tree: dict[str, os.stat_result] = {}
    try:
        for where, folders, files in os.walk(folder, onerror=_raise):
            for name in (*folders, *files):
                path = Path(where) / name
                tree[str(path.relative_to(folder))] = path.lstat()
    except OSError as error:
        raise VerificationError(f"{error.filename} cannot be read: {error.strerror}") from None
    return dict(sorted(tree.items()))


def _raise(error: OSError) -> None:
    raise error


def _record(folder: Path, tree: Mapping[str, os.stat_result]) -> tuple[dict[str, Any], bytes]:
    if RECORD not in tree:
        raise RepositoryError(f"{folder} is not a run folder: it has no {RECORD}", "give the run folder")
    if kind := _kind(tree[RECORD]):
        raise VerificationError(f"{folder / RECORD} is {kind}", "restore it")
    try:
        found = record.read(folder)
        return found, (folder / RECORD).read_bytes()
    except OutputError as error:
        raise VerificationError(error.message, "restore it, or verify with a newer diffrun") from None


def _of_record(
    folder: Path,
    found: Mapping[str, Any],
    content: bytes,
    tree: Mapping[str, os.stat_result],
    notes: list[str],
) -> Iterator[Finding]:
    """The record by its seal; its crate by making it anew."""
    if found["schema"] != record.SCHEMA:
        notes.append(
            f"{RECORD} is of schema {found['schema']}, which has no seal: it cannot be checked itself"
        )
        return
    if not record.is_sealed(content, found):
        yield Finding(RECORD, "changed: its seal does not hold")
        return
    if CRATE not in tree:
        yield Finding(CRATE, "missing")
    elif kind := _kind(tree[CRATE]):
        yield Finding(CRATE, kind)
    elif (folder / CRATE).read_bytes() != _crate(found, content):
        yield Finding(CRATE, "changed: it is not the crate of this record")


def _crate(found: Mapping[str, Any], content: bytes) -> bytes:
    try:
        return crate.make(found, content)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise VerificationError(f"{RECORD} is sealed, but diffrun did not write it", "restore it") from None


def _known(folder: Path, found: dict[str, Any]) -> tuple[Output, ...]:
    try:
        return outputs.of_record(found, folder)
    except DiffrunError as error:
        raise VerificationError(error.message, "restore it") from None


def _of_files(folder: Path, known: Iterable[Output], tree: Mapping[str, os.stat_result]) -> Iterator[Finding]:
    for output in known:
        status = tree.get(output.name)
        if status is None:
            yield Finding(output.name, "missing")
        elif kind := _kind(status):
            yield Finding(output.name, kind)
        elif what := _changed(folder / output.name, output.size, output.sha256):
            yield Finding(output.name, what)


def _strangers(
    folder: Path,
    known: Iterable[Output],
    ours: set[str],
    found: Mapping[str, Any],
    tree: Mapping[str, os.stat_result],
) -> Iterator[Finding]:
    """What the record does not have: files, links, pipes, folders without a file of its own."""
    names = {output.name for output in known} | ours
    parents = {str(parent) for name in names for parent in Path(name).parents}
    links = found.get("links", dict.fromkeys({PARENT} & set(tree)))  # schema 1 says nothing of it
    if PARENT in links:
        yield from _of_link(folder / PARENT, links[PARENT])
    for name, status in tree.items():
        is_folder = stat.S_ISDIR(status.st_mode)
        if name in names or (name == PARENT and PARENT in links) or (is_folder and name in parents):
            continue
        yield Finding(name, f"unexpected: {_kind(status) or 'a file'} that the record does not have")


def _of_link(path: Path, lead: str | None) -> Iterator[Finding]:
    if not path.is_symlink():
        yield Finding(path.name, "missing: it is no link any more")
    elif lead not in (None, str(path.readlink())):
        yield Finding(path.name, f"changed: it leads to {path.readlink()}, not to {lead}")


def _kind(status: os.stat_result) -> str:
    """What something is, if it is not a plain file as we write them."""
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISDIR(mode):
        return "a folder"
    if not stat.S_ISREG(mode):
        return "not a plain file"
    return "a file with a set-id bit" if mode & _SET_ID else ""


def _changed(path: Path, size: int, sha256: str) -> str:
    """How a file differs from its size and sum; empty if it does not. A pipe or device is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return "not a plain file"
            if status.st_size != size:
                return f"changed: {counted(status.st_size, 'byte')}, not {size}"
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return "changed: other bytes of the same number"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _inputs(found: Mapping[str, Any], notes: list[str]) -> tuple[int, list[Finding]]:
    """The inputs where the record has them; those that are not there cannot be checked."""
    there, wrong, absent = 0, [], 0
    try:
        items = [
            (Path(item["path"]), int(item["bytes"]), str(item["sha256"]))
            for kind in ("inputs", "configfiles")
            for item in found[kind]
        ]
    except (KeyError, TypeError, ValueError):
        raise VerificationError(f"{RECORD} is damaged: its inputs", "restore it") from None
    for path, size, sha256 in items:
        if not path.exists():
            absent += 1
        elif what := _changed(path, size, sha256):
            wrong.append(Finding(str(path), f"input {what}"))
        else:
            there += 1
    if absent:
        notes.append(f"{counted(absent, 'input')} not here any more, not checked")
    return there, wrong
