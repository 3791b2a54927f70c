# SPDX-License-Identifier: BSD-3-Clause
"""The claim on a run folder: one maker at a time, in a private folder beside it, with no stale locks.

The lock is the kernel's (``flock`` on ``.NAME.lock``), so a dead run holds none; who gets it removes what a
dead run left. The rename that publishes the folder is the arbiter in any case: on a file system without
``flock`` it is the only one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from diffrun.errors import DiskFullError, OutputError
from diffrun.files.atomic import publish_folder

_NO_FLOCK = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}
_REMEDY = "choose a folder that you may write to with --output"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def claimed(final: Path, on_wait: Callable[[], None], remedy: str = _REMEDY) -> Iterator[Path | None]:
    """The right to make ``final``, and the empty private folder to make it in.

    Yields `None` where ``final`` was finished by another run while this one waited for it. On the way out
    the private folder is removed if it is still there, whatever happened.

    Parameters
    ----------
    final : `pathlib.Path`
        The run folder; its parents are made.
    on_wait : callable
        Called once if another run is making the same folder.
    remedy : `str`
        What to do where the folder cannot be made.

    Raises
    ------
    OutputError, DiskFullError
        If the folder cannot be made there.
    """
    with explained(final, remedy):
        final.parent.mkdir(parents=True, exist_ok=True)
        lock = _take(final.with_name(f".{final.name}.lock"), on_wait)
    workshop = None
    try:
        if not occupied(final):
            with explained(final, remedy):
                workshop = _workshop(final, private=lock is None)
        yield workshop
    finally:
        if workshop is not None:
            shutil.rmtree(workshop, ignore_errors=True)
        if lock is not None:
            with contextlib.suppress(OSError):
                final.with_name(f".{final.name}.lock").unlink()
            os.close(lock)


def occupied(final: Path) -> bool:
    """Whether something is there that must not be replaced: anything but an empty folder."""
    if not os.path.lexists(final):
        return False
    if final.is_symlink() or not final.is_dir():
        return True
    with explained(final):
        return any(final.iterdir())


def _take(path: Path, on_wait: Callable[[], None]) -> int | None:
    """The lock as an open file descriptor, or `None` where there is no ``flock``."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _lock(lock, on_wait)
            if _is_still(path, lock):
                return lock
            os.close(lock)  # its maker has removed it: what we hold is the lock of the past
        except OSError as error:
            os.close(lock)
            if error.errno not in _NO_FLOCK:
                raise
            path.unlink(missing_ok=True)
            return None
        except BaseException:
            os.close(lock)
            raise


def _lock(lock: int, on_wait: Callable[[], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_still(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False


def _workshop(final: Path, private: bool) -> Path:
    """The private folder: of a fixed name where the lock is ours, so that leftovers are found and removed."""
    if private:
        return Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent))
    workshop = final.with_name(f".{final.name}.tmp")
    if os.path.lexists(workshop):
        if workshop.is_symlink() or not workshop.is_dir():
            raise OutputError(f"{workshop} is in the way", "remove it")
        shutil.rmtree(workshop)
    workshop.mkdir(mode=0o700)
    return workshop


@contextlib.contextmanager
def explained(final: Path, remedy: str = _REMEDY) -> Iterator[None]:
    """Turn an error of the operating system while ``final`` is made into one of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFullError(f"no room to make {final}: {error.strerror}", "free some space") from None
        where = error.filename or final
        raise OutputError(f"cannot make {final}: {where}: {error.strerror}", remedy) from None


def publish(workshop: Path, final: Path) -> None:
    """Open the private folder to whom the user's umask allows, and give it its name."""
    mask = os.umask(0)
    os.umask(mask)
    workshop.chmod(0o777 & ~mask)
    publish_folder(workshop, final)
