# SPDX-License-Identifier: BSD-3-Clause
"""From the sky to counts: light, detector, and what goes wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import galsim
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scene import Fixed, Scene
from visits import EXPOSURE_TIME, FULL_WELL, READ_NOISE, SCALE, SIZE, XY0, Visit

#: Dead columns of the sensor: parent x, width, first and last parent row. The same in every visit.
DEAD_COLUMNS = ((1713, 2, 1600, 2090), (2204, 1, 1600, 2623), (1958, 1, 2301, 2623))
GRAIN = 1024  # expected counts are rounded to 1/GRAIN, so that no last bit of an FFT decides a count


@dataclass(frozen=True)
class Frame:
    """What the camera delivers, and which of its pixels are not to be trusted; all (ny, nx)."""

    counts: NDArray[np.int32]
    saturated: NDArray[np.bool_]
    cosmic: NDArray[np.bool_]
    dead: NDArray[np.bool_]


@dataclass(frozen=True)
class Light:
    """One object as a visit sees it; flux is what falls on the PSF stamp, in counts."""

    number: int
    kind: str
    ra: float
    dec: float
    x: float
    y: float
    flux: float
    mag: float
    shape: Fixed | None = None


def lights(scene: Scene, visit: Visit) -> list[Light]:
    """Every object with some flux, constant ones first."""
    middle = visit.mjd + EXPOSURE_TIME / 2 / 86400
    seen = [(o.number, o.kind, o.ra, o.dec, o.mag(visit.band), o) for o in scene.fixed]
    for thing in scene.injected:
        ra, dec = thing.at(middle)
        seen.append((thing.number, thing.kind, ra, dec, thing.curve.mag(middle, visit.band), None))
    xs, ys = visit.to_pixel([s[2] for s in seen], [s[3] for s in seen])
    found = []
    for (number, kind, ra, dec, mag, shape), x, y in zip(seen, xs, ys, strict=True):
        flux = visit.flux_mag0 * 10 ** (-0.4 * mag)
        found.append(Light(number, kind, ra, dec, float(x), float(y), flux, mag, shape))
    return found


def expose(scene: Scene, visit: Visit, seed: int) -> Frame:
    """The frame of a visit: Poisson counts of sky and sources, read noise, saturation, defects."""
    rng = np.random.default_rng([seed, visit.number])
    expected = np.round((_sky(visit) + _sources(scene, visit)) * GRAIN) / GRAIN
    counts = rng.poisson(expected) + np.rint(rng.normal(0, READ_NOISE, expected.shape)).astype(np.int64)
    charge, cosmic = _cosmic_rays(rng)
    counts, saturated = _bleed(np.maximum(counts + charge, 0))
    dead = _dead_columns()
    return Frame(np.where(dead, 0, counts).astype(np.int32), saturated & ~dead, cosmic & ~dead, dead)


def _sky(visit: Visit) -> NDArray[np.float64]:
    """The sky with a gradient of a few per cent across the sensor and a slight bowl."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    turn = np.deg2rad(visit.number % 360)
    slope = 0.025 * (np.cos(turn) * x + np.sin(turn) * y)
    return np.asarray(visit.sky_level * (1 + slope + 0.012 * (x * x + y * y)))


def _reach(flux: float) -> int:
    """Half a stamp that holds a point source down to 0.05 counts a pixel of its wings."""
    return int(max(24.0, (9.4 * flux) ** (3 / 11)))


def _sources(scene: Scene, visit: Visit) -> NDArray[np.float64]:
    """Expected counts of all objects, (ny, nx)."""
    image = galsim.ImageD(galsim.BoundsI(XY0[0], XY0[0] + SIZE - 1, XY0[1], XY0[1] + SIZE - 1), init_value=0)
    scale = 1 / visit.stamp_fraction()
    for light, half in _drawable(lights(scene, visit)):
        accuracy = {"folding_threshold": 1e-3} if light.shape is None or light.kind == "star" else {}
        profile = visit.psf(light.x, light.y, **accuracy)
        if light.kind == "galaxy":
            profile = galsim.Convolve(_galaxy(light.shape), profile)
        box = galsim.BoundsI(*(round(c) + s * half for c in (light.x, light.y) for s in (-1, 1)))
        stamp = galsim.ImageD(box)
        (profile * (light.flux * scale)).drawImage(
            stamp, scale=SCALE, center=galsim.PositionD(light.x, light.y)
        )
        common = box & image.bounds
        image[common] += stamp[common]
    return np.asarray(image.array)


def _drawable(everything: list[Light]) -> Iterator[tuple[Light, int]]:
    """Objects that leave light on the cutout, with half the side of their stamp."""
    for light in everything:
        if not light.flux > 0:
            continue
        half = _reach(light.flux)
        if light.kind == "galaxy" and light.shape is not None:
            half = min(half + int(6 * light.shape.size / SCALE), 150)
        near = (o - half < c < o + SIZE - 1 + half for c, o in zip((light.x, light.y), XY0, strict=True))
        if all(near):
            yield light, half


def _galaxy(shape: Fixed | None) -> galsim.GSObject:
    assert shape is not None
    if shape.sersic == 1.0:
        profile: galsim.GSObject = galsim.Exponential(half_light_radius=shape.size)
    else:
        profile = galsim.Sersic(n=shape.sersic, half_light_radius=shape.size, trunc=6 * shape.size)
    return profile.shear(g1=shape.shear[0], g2=shape.shear[1])


def _cosmic_rays(rng: Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Straight tracks of 2 to 25 pixels and their charge, some thirty of them."""
    charge = np.zeros((SIZE, SIZE), np.int64)
    for _ in range(rng.poisson(32)):
        x, y = rng.uniform(0, SIZE, 2)
        angle, length = rng.uniform(0, 2 * np.pi), rng.exponential(6) + 2
        steps = np.arange(0, min(length, 25), 0.5)
        ix = np.floor(x + steps * np.cos(angle)).astype(int)
        iy = np.floor(y + steps * np.sin(angle)).astype(int)
        inside = (ix >= 0) & (ix < SIZE) & (iy >= 0) & (iy < SIZE)
        deposit = np.rint(rng.gamma(2.0, 250.0, len(steps))).astype(np.int64) + 150
        np.add.at(charge, (iy[inside], ix[inside]), deposit[inside])
    return charge, charge > 0


def _bleed(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Charge above the full well runs up and down its column until it finds room."""
    full = counts.copy()
    for x in np.unique(np.nonzero(full > FULL_WELL)[1]):
        column = full[:, x]
        for y in np.nonzero(column > FULL_WELL)[0]:
            excess = int(column[y] - FULL_WELL)
            column[y] = FULL_WELL
            for step, share in ((1, excess // 2), (-1, excess - excess // 2)):
                _pour(column, int(y), step, share)
    return full, full >= FULL_WELL


def _pour(column: NDArray[np.int64], start: int, step: int, charge: int) -> None:
    """Fill the column's pixels from ``start`` in one direction; what passes the edge is gone."""
    y = start + step
    while charge > 0 and 0 <= y < len(column):
        room = max(FULL_WELL - int(column[y]), 0)
        column[y] += min(room, charge)
        charge -= min(room, charge)
        y += step


def _dead_columns() -> NDArray[np.bool_]:
    dead = np.zeros((SIZE, SIZE), bool)
    for x, width, low, high in DEAD_COLUMNS:
        dead[low - XY0[1] : high - XY0[1] + 1, x - XY0[0] : x - XY0[0] + width] = True
    return dead
