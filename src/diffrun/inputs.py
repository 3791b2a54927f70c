# SPDX-License-Identifier: BSD-3-Clause
"""A file that a run reads, with its sum."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun.errors import DataError, RepositoryError


@dataclass(frozen=True)
class Input:
    """One file that the run reads.

    Attributes
    ----------
    path : `pathlib.Path`
    name : `str`
        Its path in the repository, or the file's name for a configuration file.
    sha256 : `str`
    size, mtime_ns : `int`
        As they were when the sum was taken; `unchanged` compares them.
    """

    path: Path
    name: str
    sha256: str
    size: int
    mtime_ns: int

    def unchanged(self) -> bool:
        """Whether the file still has the size and time that it had when its sum was taken."""
        try:
            now = self.path.stat()
        except OSError:
            return False
        return (now.st_size, now.st_mtime_ns) == (self.size, self.mtime_ns)

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        return {"name": self.name, "path": str(self.path), "bytes": self.size, "sha256": self.sha256}


def summed(path: Path, name: str) -> Input:
    """A file as an input, with its sum; `RepositoryError` or `DataError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        kind = RepositoryError if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM) else DataError
        raise kind(f"cannot read {path}: {error.strerror}", "check the file and its permissions") from None
    return Input(path, name, digest, before.st_size, before.st_mtime_ns)
