# SPDX-License-Identifier: BSD-3-Clause
"""Simulated pairs, subtracted by the engine and by others, and held against the truth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import engine
import numpy as np
import peers
from conditions import CONFIGURATIONS
from engine import Used
from measures import judge
from simulate import simulate
from subject import Subject, Truth, read_output, read_truth

#: What of a difference the pictures show: a square of so many pixels around the brightest star in range.
CUTOUT = 128

Result = dict[str, Any]


def pair(name: str, folder: Path, others: tuple[str, ...] = (), cutouts: Path | None = None) -> Result:
    """Every number of a pair, ``engine``'s and the others', and of the common detection on all of them.

    Parameters
    ----------
    name : `str`
        Configuration and seed.
    folder : `pathlib.Path`
        Where the files lie meanwhile.
    others : `tuple` of `str`
        Names of `peers.TITLES`.
    cutouts : `pathlib.Path`, optional
        A file for the same square of all differences, in standard deviations.
    """
    repository, output = folder / "repository", folder / "output"
    configuration, seed = name.rsplit("-", 1)
    simulate(CONFIGURATIONS[configuration], int(seed), repository)
    used = engine.subtract(repository, output)
    subject, truth = read_output(output), read_truth(repository)
    result: Result = {"diffrun": cost(used) | judge(subject, truth)}
    if not others:
        return result
    result["common"] = peers.judged(subject, truth)
    pictures = {"diffrun": cutout(subject, truth)}
    for other, outcome in peers.compare(repository, folder / "plain", truth, others).items():
        if outcome.used is None or outcome.subject is None or outcome.numbers is None:
            result[other] = {"trouble": outcome.trouble}
            continue
        parts = {part: asdict(of_part) for part, of_part in (outcome.parts or {}).items()}
        result[other] = cost(outcome.used) | outcome.numbers | {"parts": parts}
        pictures[other] = cutout(outcome.subject, truth)
    if cutouts:
        np.savez_compressed(cutouts, **pictures)
    return result


def cost(used: Used) -> dict[str, float]:
    """Seconds, and peak memory in MiB."""
    return {"wall": used.wall, "cpu": used.cpu, "memory": used.memory / 2**20}


def cutout(subject: Subject, truth: Truth) -> np.ndarray:
    """Around the brightest unsaturated star, in standard deviations, NaN where there is no value."""
    ny, nx = subject.image.shape
    x, y = (np.asarray(truth.static[axis]).astype(int) - CUTOUT // 2 for axis in "xy")
    whole = (np.minimum(x, y) >= 0) & (x <= nx - CUTOUT) & (y <= ny - CUTOUT)
    stars = whole & (np.asarray(truth.static["kind"]) == "star")
    star = int(np.argmax(np.where(stars, truth.static["flux"], 0)))
    x, y = x[star], y[star]
    box = np.s_[y : y + CUTOUT, x : x + CUTOUT]
    variance = np.where(subject.variance[box] > 0, subject.variance[box], np.nan)
    return np.asarray(
        np.where(subject.spoilt[box], np.nan, subject.image[box] / np.sqrt(variance)), np.float16
    )
