# SPDX-License-Identifier: BSD-3-Clause
"""Sources behind brighter ones: all are found where they were put, and none where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scenes import XY0, Floats, Profile, draw, exposure

from diffrun.engine import hidden

VARIANCE = 25.0
PROFILE = Profile(4.5)
ERROR = PROFILE.sigma_of_flux(VARIANCE)


def field(
    count: int, seed: int, margin: float = 40.0, step: float = 60.0
) -> tuple[Floats, int, np.random.Generator]:
    """Places far from each other, parent pixels, (N, 2), and the size of an image for them."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(count**0.5))
    grid = np.stack(np.meshgrid(*2 * [margin + step * np.arange(side)]), axis=-1).reshape(-1, 2)[:count]
    return grid + XY0 + rng.uniform(-0.5, 0.5, grid.shape), int(2 * margin + step * (side - 1)), rng


def seen(place: Floats, flux: Floats, size: int, known: Floats, rng: np.random.Generator) -> hidden.Sources:
    image = draw((size, size), PROFILE, *place.T, flux) + rng.normal(0, VARIANCE**0.5, (size, size))
    return hidden.look(exposure(image, VARIANCE, PROFILE), *known.T)


def test_three_behind_one() -> None:
    """As four images of a quasar, of either sign; only the brightest is known, and not exactly."""
    first, size, rng = field(36, 1)
    radius = PROFILE.fwhm * rng.uniform(1.3, 1.8, (36, 3))
    angle = rng.uniform(0, 2 * np.pi, (36, 1)) + np.radians([0, 120, 240])
    others = first[:, None] + radius[:, :, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    place = np.concatenate([first, others.reshape(-1, 2)])
    snr = np.concatenate([rng.uniform(50, 80, 36), rng.uniform(15, 40, 108)]) * rng.choice([-1, 1], 144)
    known = first + rng.normal(0, 0.2, first.shape)
    found = seen(place, snr * ERROR, size, known, rng)
    assert len(found.x) == 144 and found.blended.all()
    away = np.hypot(found.x[:, None] - place[:, 0], found.y[:, None] - place[:, 1])
    own = away.argmin(axis=1)
    assert sorted(own) == list(range(144)) and own[:36].tolist() == list(range(36))
    x_error = 0.6 * PROFILE.fwhm / np.abs(snr[own])
    pulls = np.concatenate([(found.x - place[own, 0]) / x_error, (found.y - place[own, 1]) / x_error])
    assert abs(pulls.mean()) < 0.2 and 0.7 < pulls.std() < 1.3
    assert (np.sign(found.snr) == np.sign(snr[own])).all()


def test_none_behind_those_that_are_alone() -> None:
    """Up to an S/N of 500, with a PSF that is 2 % too wide, and known 0.3 pixels off."""
    place, size, rng = field(225, 2)
    snr = 10 ** rng.uniform(0.8, 2.7, 225) * rng.choice([-1, 1], 225)
    image = draw((size, size), PROFILE, *place.T, snr * ERROR) + rng.normal(0, VARIANCE**0.5, (size, size))
    found = hidden.look(
        exposure(image, VARIANCE, Profile(1.02 * PROFILE.fwhm)), *(place + rng.normal(0, 0.2, place.shape)).T
    )
    assert len(found.x) == 225 and not found.blended.any()


def test_none_behind_a_saturated_star() -> None:
    place, size, rng = field(1, 3)
    image = draw((size, size), PROFILE, *place.T, 3000 * ERROR) + rng.normal(0, VARIANCE**0.5, (size, size))
    image = np.minimum(image, 0.05 * image.max())
    mask = np.zeros(image.shape, np.int32)
    on = exposure(image, VARIANCE, PROFILE)
    mask[image == image.max()] = on.bits("SAT")
    assert len(hidden.look(on, *place.T).x) > 1
    assert len(hidden.look(replace(on, mask=mask), *place.T).x) == 1


def test_of_none() -> None:
    found = hidden.look(exposure(np.zeros((50, 50)), 1.0, PROFILE), np.empty(0), np.empty(0))
    assert len(found.x) == len(found.snr) == 0


def test_a_chain_of_very_many_is_left_alone() -> None:
    """As false sources along the spikes of a star."""
    x = XY0[0] + np.arange(30.0, 1430.0, 6.0)
    y = np.full_like(x, XY0[1] + 40.0)
    image = np.random.default_rng(4).normal(0, VARIANCE**0.5, (80, 1460))
    image += draw(image.shape, PROFILE, x, y, np.full_like(x, 50 * ERROR))
    found = hidden.look(exposure(image, VARIANCE, PROFILE), x, y)
    assert (found.x == x).all() and (found.y == y).all() and not found.snr.any() and not found.blended.any()
