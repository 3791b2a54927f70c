# SPDX-License-Identifier: BSD-3-Clause
"""Simulate a pair of visits of one sensor as a repository that ``imageDifference.py`` takes.

    python bench/simulate.py --seed 11 --config default --output FOLDER

The science visit is 100, the template 200. The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "ci" / "twinkles"))

import numpy as np
import repository
from conditions import BAND, CONFIGURATIONS, READ_NOISE, SCALE, SCIENCE, TEMPLATE, Configuration, Night
from expose import calexp, see, sky_of
from extraction import catalogue_of
from objects import build
from truepsf import TruePsf
from truths import change_table, ideal_power, static_table

from diffrun.files.afw.background import Background, Layer
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.repository.dataid import DataId

#: Seeds of the subset and its tests, which were looked at while the engine was made.
TAKEN = (230, 231, 232, 233)


@dataclass(frozen=True)
class Visit:
    """What the registry knows of a visit."""

    number: int
    band: str
    mjd: float


@dataclass(frozen=True)
class Products:
    """What processCcd writes for a visit."""

    exposure: Exposure
    background: Background
    sources: Catalog


def simulate(configuration: Configuration, seed: int, output: Path, psf_error: float = 0.0) -> None:
    """Write the repository, ``truth.ecsv`` and ``static.ecsv``."""
    nights = (configuration.science, configuration.template)
    rngs = [np.random.default_rng([seed, n]) for n in (1, SCIENCE, TEMPLATE)]
    psfs = [TruePsf.of(n, configuration.shape, rng) for n, rng in zip(nights, rngs[1:], strict=True)]
    sky = build(configuration, _blank_error(configuration, psfs), rngs[0])
    scenes = [see(sky, configuration, n, psf) for n, psf in zip(nights, psfs, strict=True)]
    visits = [Visit(n.number, BAND, n.mjd) for n in nights]
    repository.start(output, visits)
    for visit, scene, rng in zip(visits, scenes, rngs[1:], strict=True):
        exposure = calexp(scene, rng, psf_error)
        here = DataId(visit.number, visit.band, "2,2", "1,1").ccd_exposure_id
        sources = catalogue_of(sky, configuration, scene, exposure, here, rng)
        repository.write(output, visit, Products(exposure, _background(scene.night, exposure.shape), sources))
    table = change_table(sky, configuration, *scenes)
    scale = configuration.science.transparency / configuration.template.transparency
    table.meta = {"seed": seed, "kernel_sum": scale, "fwhm": [n.fwhm / SCALE for n in nights]}
    table.write(output / "truth.ecsv", format="ascii.ecsv", overwrite=True)
    static_table(sky, configuration, *psfs).write(output / "static.ecsv", format="ascii.ecsv", overwrite=True)


def _blank_error(configuration: Configuration, psfs: list[TruePsf]) -> float:
    """The error of an ideal flux on blank sky at the middle of the sensor."""
    y, x = (n / 2 for n in configuration.shape)
    ratio = configuration.science.transparency / configuration.template.transparency
    noise = (n.sky + READ_NOISE**2 for n in (configuration.science, configuration.template))
    science, template = (psf.stamp(x, y, 65) for psf in psfs)
    science_noise, template_noise = noise
    return float(ideal_power(science, template, science_noise, template_noise * ratio**2) ** -0.5)


def _background(night: Night, shape: tuple[int, int]) -> Background:
    """The subtracted sky in bins of 128 pixels."""
    ny, nx = shape
    bins = (max(ny // 128, 5), max(nx // 128, 5))
    grid = sky_of(night, bins)
    return Background((Layer(grid, np.full(bins, 0.1, np.float32), (0, 0, nx, ny)),))


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the repository to make")
    parser.add_argument("--seed", type=int, default=11, help="of sky and noise (default: %(default)s)")
    parser.add_argument("--config", choices=sorted(CONFIGURATIONS), default="default")
    parser.add_argument("--size", type=int, help="side of a square in place of the whole sensor, pixels")
    parser.add_argument(
        "--psf-error", type=float, default=0.0, help="make the file's PSF too wide by this fraction"
    )
    given = parser.parse_args()
    if given.seed in TAKEN:
        parser.error(f"seed {given.seed} belongs to the subset's own tests")
    configuration = CONFIGURATIONS[given.config]
    if given.size:
        configuration = configuration.of_size(given.size)
    simulate(replace(configuration), given.seed, given.output, given.psf_error)


if __name__ == "__main__":
    main()
