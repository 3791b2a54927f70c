# SPDX-License-Identifier: BSD-3-Clause
"""Where compiled kernels are kept, so that only the first run compiles them.

numba keeps them beside the source, or below the user's home; where it can write to neither it ends the
program. Ours is installed for many users, and runs in batch jobs without a home.
"""

from __future__ import annotations

import atexit
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
_MEMORY = Path("/dev/shm")  # a private folder is made in it


def keep(package: Path = Path(__file__).parent) -> None:
    """Name a folder to numba, before it is imported, where it would find none beside the source.

    What is in the folder is run: one that others can write to is not taken. Where none lasts, there is one
    for this process alone.

    Parameters
    ----------
    package : `pathlib.Path`, optional
        The folder of the source with the kernels.
    """
    given = os.environ.get(VARIABLE)
    if (given and _is_usable(Path(given))) or _is_usable(package / "__pycache__"):
        return
    found = next((folder for folder in _lasting() if _is_usable(folder)), None)
    os.environ[VARIABLE] = str(found or _passing())


def load() -> None:
    """Load what numba loads with its first kernel, so that copies of this process have it."""
    from numba.core.registry import cpu_target

    cpu_target.target_context.refresh()


def _lasting() -> Iterator[Path]:
    """Folders of this user, the best first."""
    from platformdirs import user_cache_path

    yield user_cache_path("diffrun") / "kernels"
    for place in _temporary():
        folder = place / f"diffrun-{os.geteuid()}"
        if _is_private(folder):
            yield folder / "kernels"


def _temporary() -> tuple[Path, ...]:
    try:
        return Path(tempfile.gettempdir()), _MEMORY
    except FileNotFoundError:
        return (_MEMORY,)


def _passing() -> str:
    folder = tempfile.TemporaryDirectory(prefix="diffrun-kernels-", dir=_temporary()[0])
    atexit.register(folder.cleanup)
    return folder.name


def _is_usable(folder: Path) -> bool:
    """Whether a file can be made there; the folder is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _is_private(folder: Path) -> bool:
    """Whether a folder where all may write is this user's alone; it is made if it is not there."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & 0o077
