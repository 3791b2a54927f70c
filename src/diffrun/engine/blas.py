# SPDX-License-Identifier: BSD-3-Clause
"""Which linear algebra this process computes with: another kernel of the same library gives other last bits.

OpenBLAS chooses its kernel by the processor when it is loaded, and can be asked for its name.
"""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path

#: How the builds of NumPy and SciPy decorate the library's own names.
_PREFIXES, _SUFFIXES = ("scipy_", ""), ("", "64_", "_64")


def describe(maps: Path = Path("/proc/self/maps")) -> str:
    """Every OpenBLAS in this process with its version and kernel, ``OpenBLAS 0.3.30 SkylakeX``.

    Parameters
    ----------
    maps : `pathlib.Path`, optional
        What is mapped into this process, in the form of the Linux kernel.

    Returns
    -------
    text : `str`
        Separated by commas; ``unknown`` where there is none or it cannot be asked.
    """
    import scipy.linalg  # noqa: F401  SciPy brings an OpenBLAS of its own

    found = {_asked(path) for path in _libraries(maps)} - {""}
    return ", ".join(sorted(found)) or "unknown"


def _libraries(maps: Path) -> list[str]:
    try:
        lines = maps.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in lines if "openblas" in line.rpartition("/")[2]}
    return sorted(paths)


def _asked(path: str) -> str:
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return ""
    version = _answer(library, "openblas_get_config").split()[:2]
    kernel = _answer(library, "openblas_get_corename")
    return " ".join((*version, kernel)) if kernel else ""


def _answer(library: ctypes.CDLL, name: str) -> str:
    for before, after in itertools.product(_PREFIXES, _SUFFIXES):
        function = getattr(library, f"{before}{name}{after}", None)
        if function is not None:
            function.restype = ctypes.c_char_p
            return (function() or b"").decode("ascii", "replace")
    return ""
