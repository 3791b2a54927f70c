# SPDX-License-Identifier: BSD-3-Clause
"""What a run costs: processor time and peak memory, from the number of pixels."""

from __future__ import annotations

import time

import numpy as np

#: Peak memory in MiB: of the program itself, and for each million pixels of science image and of template.
_PROGRAM, _SCIENCE, _TEMPLATE = 276.0, 24.4, 7.0
#: Processor time in units of `reference`: without pixels, for each million of the science image and template.
_START, _SCIENCE_TIME, _TEMPLATE_TIME = 3250.0, 325.0, 58.0
_ROUNDS, _PASSES = 25, 4
_SMALL = 4.0


def memory(science: tuple[int, int], template: tuple[int, int]) -> float:
    """Peak memory of one sensor, MiB.

    Parameters
    ----------
    science, template : `tuple` [`int`, `int`]
        Shapes of both images, of the template as much of it as is kept.
    """
    ours, theirs = (ny * nx / 1e6 for ny, nx in (science, template))
    return _PROGRAM + max(_SCIENCE * ours, _TEMPLATE * theirs)


def work(science: tuple[int, int], template: tuple[int, int]) -> float:
    """Processor time of a run of one sensor, the picture included, in units of `reference`."""
    ours, theirs = (ny * nx / 1e6 for ny, nx in (science, template))
    return _START + _SCIENCE_TIME * ours + _TEMPLATE_TIME * theirs


def disk(science: tuple[int, int]) -> float:
    """What the run folder of one sensor takes, MiB: two exposures of 10 bytes a pixel, and small files."""
    return _SMALL + 20 * science[0] * science[1] / 2**20


def reference() -> float:
    """Processor time of a fixed small computation, s: the best of many rounds.

    Sums of shifted float32 planes that do not fit into the first cache, and a sort: what most of a run does.
    """
    plane = np.arange(1 << 18, dtype=np.float32).reshape(512, 512) % 977
    best = np.inf
    for _ in range(_ROUNDS):
        before = time.process_time()
        total = plane.copy()
        for shift in range(1, _PASSES + 1):
            total[:, :-shift] += plane[:, shift:] * np.float32(0.5)
            np.median(total[:: 4 * shift])
        best = min(best, time.process_time() - before)
    return float(best)


def expected(science: tuple[int, int], template: tuple[int, int]) -> dict[str, float]:
    """What a run of one sensor takes, for the printed object.

    ``seconds`` of processor time, and ``reference``, the measured unit that it stands on; ``memory_mib`` at
    the peak; ``disk_mib``.
    """
    unit = reference()
    return {
        "seconds": round(work(science, template) * unit, 2),
        "reference": round(unit, 6),
        "memory_mib": round(memory(science, template)),
        "disk_mib": round(disk(science)),
    }
