# SPDX-License-Identifier: BSD-3-Clause
"""What the machine needs for the steps that no difference can do without: a floor for the stages."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine
import numpy as np
from scipy.fft import irfft2, rfft2

#: Planes of one exposure: image, mask, variance; 10 bytes a pixel in a file.
FILE_BYTES = 10
IMPORTS = "import numpy, scipy.fft, scipy.linalg, scipy.ndimage, numba, astropy.io.fits, astropy.wcs"


def measure(shape: tuple[int, int], folder: Path) -> dict[str, list[float]]:
    """Wall and CPU seconds of each step on a frame of this shape, the better of three."""
    frame = np.random.default_rng(0).standard_normal(shape, np.float32)
    data = bytes(FILE_BYTES * frame.size)
    path = folder / "frame"
    workers = len(os.sched_getaffinity(0))
    spectrum = rfft2(frame, workers=workers)
    imports = engine.run([sys.executable, "-c", IMPORTS], folder / "imports.log")
    return {
        "write one exposure, to the disk": _best(lambda: _write(path, data)),
        "read one exposure": _best(path.read_bytes),
        "one real FFT": _best(lambda: rfft2(frame, workers=workers)),
        "one back": _best(lambda: irfft2(spectrum, shape, workers=workers)),
        "one pass over a plane": _best(lambda: np.add(frame, frame)),
        "import NumPy, SciPy, Numba, Astropy": [imports.wall, imports.cpu],
    }


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _best(work: Callable[[], Any]) -> list[float]:
    found = []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        found.append([time.perf_counter() - wall, time.process_time() - cpu])
    return min(found)
