# SPDX-License-Identifier: BSD-3-Clause
"""The small Twinkles subset that comes with the package: five visits of one sensor, with the truth beside.

It is stored compressed in the package and unpacked, as plain FITS, into the user's cache at first use.
"""

from __future__ import annotations

import shutil
import tempfile
from hashlib import sha256
from pathlib import Path

from diffrun.errors import OutputError
from diffrun.files.atomic import publish_folder

__all__ = ["truth_path", "unpack"]

_PACKED = Path(__file__).parent / "packed"


def unpack(cache: Path | None = None) -> Path:
    """The root of the subset's Gen2 repository, unpacked if it is not there yet.

    Parameters
    ----------
    cache : `pathlib.Path`, optional
        Where to unpack; the user's cache folder by default. The repository lies in it under a name made from
        its content, so that another version of the package never meets this one's files.

    Returns
    -------
    root : `pathlib.Path`
        Complete: the folder gets its name by one rename, and any number of processes may ask at once.

    Raises
    ------
    diffrun.errors.OutputError
        If the cache cannot be written (`diffrun.errors.DiskFullError` if it is full).
    diffrun.errors.DataError
        If the packed files are damaged.
    """
    root = _folder(cache) / f"twinkles-{_digest()}"
    if root.is_dir():
        return root
    _unpack_into(root)
    return root


def truth_path(cache: Path | None = None) -> Path:
    """The table of what was injected, one row an object and visit (ECSV); ``static.ecsv`` lies beside it."""
    return unpack(cache) / "truth.ecsv"


def _unpack_into(root: Path) -> None:
    # NumPy is loaded here, not with the package.
    from diffrun.twinkles.packing import write_all

    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".twinkles-", dir=root.parent))
    except OSError as error:
        what = f"cannot unpack the Twinkles subset into {root.parent}: {error.strerror}"
        raise OutputError(what, "set DIFFRUN_CACHE to a folder that you may write") from error
    try:
        write_all(_PACKED, temporary)
        temporary.chmod(0o755)
        publish_folder(temporary, root)
    except OutputError:
        # Another process was first: its folder is whole, and ours is not needed.
        if not root.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _folder(cache: Path | None) -> Path:
    if cache is not None:
        return cache
    from platformdirs import user_cache_path

    return user_cache_path("diffrun", appauthor=False)


def _digest() -> str:
    """The first 12 digits of the SHA-256 of what is packed."""
    total = sha256()
    for path in sorted(_PACKED.glob("*.tar.xz")):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()[:12]
