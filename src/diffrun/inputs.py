# SPDX-License-Identifier: BSD-3-Clause
"""A file that a run reads, with its sum."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

from diffrun.errors import DataError, RepositoryError
from diffrun.threads import give_way

_SUMMERS = 4


@dataclass(frozen=True)
class Input:
    """One file that the run reads; its sum is taken when it is first asked for, or while the engine works.

    Attributes
    ----------
    path : `pathlib.Path`
    name : `str`
        Its path in the repository, or the file's name for a configuration file.
    size, mtime_ns : `int`
        As they were when the run was planned; `unchanged` compares them.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int
    _sums: list[str] = field(default_factory=list, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """Its sum; `RepositoryError` or `DataError` if it cannot be read."""
        if not self._sums:
            self._sums.append(_sum(self.path))
        return self._sums[0]

    def unchanged(self) -> bool:
        """Whether the file still has the size and time that it had when the run was planned."""
        try:
            now = self.path.stat()
        except OSError:
            return False
        return (now.st_size, now.st_mtime_ns) == (self.size, self.mtime_ns)

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        return {"name": self.name, "path": str(self.path), "bytes": self.size, "sha256": self.sha256}


def planned(path: Path, name: str) -> Input:
    """A file as an input; `RepositoryError` or `DataError` if it cannot be read."""
    with _reading(path) as file:
        state = os.fstat(file.fileno())
    return Input(path, name, state.st_size, state.st_mtime_ns)


def summed(path: Path, name: str) -> Input:
    """As `planned`, with its sum."""
    return replace(planned(path, name), _sums=[_sum(path)])


@contextmanager
def summing(inputs: Iterable[Input], workers: int = _SUMMERS) -> Iterator[None]:
    """Take the sums of files meanwhile; at the end all are there. Raises as `Input.sha256`."""
    # hashlib sums without the interpreter's lock
    pool = ThreadPoolExecutor(min(workers, _SUMMERS), initializer=give_way)
    try:
        begun = [pool.submit(lambda item: item.sha256, item) for item in inputs if not item._sums]
        yield
        for one in begun:
            one.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _sum(path: Path) -> str:
    with _reading(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        kind = RepositoryError if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM) else DataError
        raise kind(f"cannot read {path}: {error.strerror}", "check the file and its permissions") from None
