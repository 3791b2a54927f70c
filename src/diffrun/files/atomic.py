# SPDX-License-Identifier: BSD-3-Clause
"""The one writer of every product: a file or a folder appears whole under its name, or not at all."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from diffrun.errors import DiskFullError, OutputError

# EFBIG is what a file size limit gives.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_bytes(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file so that it exists with all its bytes or not at all.

    A temporary name in the same folder, ``os.write`` until all is written, ``fsync``, one rename, ``fsync``
    of the folder. Missing folders are made. An older file keeps its content when this fails.

    Parameters
    ----------
    path : `pathlib.Path`
        The file to write, replaced if it exists.
    data : `bytes` or anything with a buffer
        All that it shall hold.

    Raises
    ------
    diffrun.errors.DiskFullError
        If there is no room; the message has the bytes needed and free.
    diffrun.errors.OutputError
        If the file cannot be written for any other reason.
    """
    view = memoryview(data).cast("B")
    write_pieces(path, view.nbytes, [(0, view)])


def write_pieces(path: Path, size: int, pieces: Iterable[tuple[int, bytes | bytearray | memoryview]]) -> None:
    """Write a file as `write_bytes` does, from pieces that need not all be there at the same time.

    Parameters
    ----------
    path : `pathlib.Path`
    size : `int`
        Bytes of the whole file.
    pieces : iterable of (`int`, `bytes`)
        Each with the byte at which it begins; together they fill the file.
    """
    with _explained(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _write_all(descriptor, pieces)
            # Path.replace and os.replace are one system call; nothing may come between it and the fsync.
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def write_stream(path: Path) -> Iterator[TextIO]:
    """A text file that is written piece by piece, and appears under its name when all of it is there.

    Raises
    ------
    diffrun.errors.DiskFullError, diffrun.errors.OutputError
        As `write_bytes`.
    """
    with binary_stream(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        yield text
        text.flush()
        text.detach()


@contextmanager
def binary_stream(path: Path) -> Iterator[BinaryIO]:
    """A file of bytes that is written piece by piece, as `write_stream` does it."""
    with _explained(path, 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.tmp")
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def publish_folder(temporary: Path, final: Path) -> None:
    """Give a finished folder its final name by one rename that replaces nothing.

    Parameters
    ----------
    temporary, final : `pathlib.Path`
        Both on one file system. ``final`` must not exist, save as an empty folder.

    Raises
    ------
    diffrun.errors.OutputError
        If something of that name is there, or the rename fails.
    """
    with _explained(final, 0):
        for folder, _, _ in os.walk(temporary):
            sync_folder(Path(folder))
        try:
            # rename(2) onto a folder that is not empty, or onto a file, fails: it is the arbiter of races.
            temporary.rename(final)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) and os.path.lexists(final):
                raise OutputError(
                    f"{final} exists already", "remove it, or name another output folder"
                ) from error
            raise
        sync_folder(final.parent)


def _write_all(descriptor: int, pieces: Iterable[tuple[int, bytes | bytearray | memoryview]]) -> None:
    """Write, fsync and close, where the error of each counts."""
    try:
        for start, piece in pieces:
            view, written = memoryview(piece), 0
            while written < view.nbytes:
                written += os.pwrite(descriptor, view[written:], start + written)
        os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems have no fsync for folders and say so with EINVAL.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path, needed: int) -> Iterator[None]:
    """Turn an error of the operating system into one of ours, with a remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NO_ROOM:
            free = _free_bytes(path.parent)
            raise DiskFullError(
                f"no room to write {path}: {needed} bytes needed, {free} free ({reason})",
                "free some space, or name an output on another disk",
            ) from error
        raise OutputError(
            f"cannot write {path}: {reason}", "check that the folder exists and that you may write there"
        ) from error


def _free_bytes(folder: Path) -> str:
    """Free bytes of the file system that holds a folder, or of its nearest ancestor that exists."""
    for ancestor in (folder, *folder.parents):
        if ancestor.is_dir():
            return str(shutil.disk_usage(ancestor).free)
    return "an unknown number"
