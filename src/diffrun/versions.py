# SPDX-License-Identifier: BSD-3-Clause
"""What the engine is made of."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path

import diffrun

#: What the engine computes with; their versions are part of the digest.
LIBRARIES = ("astropy", "lsst-pex-config", "numba", "numpy", "scipy")
#: What it needs besides to make calexps of plain images.
FOR_IMAGES = ("sep",)


def versions(further: tuple[str, ...] = ()) -> tuple[tuple[str, str], ...]:
    """What the engine is made of: its version and the sha256 of its source, Python and the libraries."""
    found = {name: _version(name) for name in (*LIBRARIES, *further)}
    found |= {"diffrun": diffrun.__version__, "python": platform.python_version(), "source": source_digest()}
    return tuple(sorted(found.items()))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def source_digest() -> str:
    """The sha256 over every Python file of the engine and of what it stands on."""
    package = Path(diffrun.__file__).resolve().parent
    files = [package / f"{name}.py" for name in ("errors", "threads", "verdict")]
    for part in ("engine", "files", "repository"):
        files += sorted((package / part).rglob("*.py"))
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()
