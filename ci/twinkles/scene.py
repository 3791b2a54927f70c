# SPDX-License-Identifier: BSD-3-Clause
"""The sky of the subset: constant stars and galaxies, and the objects that change."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from light import Steady, Supernova, Wave
from numpy.random import Generator
from numpy.typing import NDArray
from visits import SCALE, SIZE, VISITS, XY0

MARGIN = 150  # pixels around the cutout in which there is sky too
INNER = 90  # pixels kept from the cutout's edge by everything injected
SHARE = (SIZE + 2 * MARGIN) ** 2 * (SCALE / 60) ** 2  # area of sky, square arcmin
STARS = 11.5  # per square arcmin, 16.7 < r < 25.2
GALAXIES = 36.0  # per square arcmin, 18.2 < r < 25.5
FIRST_NIGHT, LAST_NIGHT = 59580, 59842


@dataclass(frozen=True)
class Fixed:
    """A constant star (``size`` 0) or galaxy."""

    number: int
    ra: float
    dec: float
    r: float
    g: float
    size: float = 0.0  # half-light radius, arcsec
    sersic: float = 0.0
    shear: tuple[float, float] = (0.0, 0.0)

    @property
    def kind(self) -> str:
        """star or galaxy."""
        return "galaxy" if self.size else "star"

    def mag(self, band: str) -> float:
        """AB magnitude."""
        return self.g if band == "g" else self.r


@dataclass(frozen=True)
class Injected:
    """An object that changes or moves: position at ``epoch``, motion in degrees a day on the sky."""

    number: int
    kind: str
    ra: float
    dec: float
    curve: Supernova | Wave | Steady
    host: int = 0
    motion: tuple[float, float] = (0.0, 0.0)
    epoch: float = 0.0

    def at(self, mjd: float) -> tuple[float, float]:
        """Position in degrees."""
        days = mjd - self.epoch if self.epoch else 0.0
        return self.ra + self.motion[0] * days / np.cos(np.deg2rad(self.dec)), self.dec + self.motion[
            1
        ] * days


@dataclass
class Scene:
    """Everything in the field."""

    fixed: list[Fixed] = field(default_factory=list)
    injected: list[Injected] = field(default_factory=list)


def build(seed: int) -> Scene:
    """The scene of a seed; the same in every visit."""
    scene = Scene()
    scene.fixed += _bright_stars(np.random.default_rng([seed, 1]))
    scene.fixed += _stars(np.random.default_rng([seed, 2]))
    scene.fixed += _galaxies(np.random.default_rng([seed, 3]))
    taken = [_pixel(s.ra, s.dec) for s in scene.fixed if s.r < 17.2]
    rng = np.random.default_rng([seed, 4])
    for add in (_lenses, _supernovae, _variables, _asteroids):
        add(rng, scene, taken)
    return scene


def _sky(x: float, y: float) -> tuple[float, float]:
    """Sky of a parent pixel of the first visit."""
    ra, dec = VISITS[230].wcs.all_pix2world(x, y, 0)
    return float(ra), float(dec)


def _pixel(ra: float, dec: float) -> tuple[float, float]:
    x, y = VISITS[230].to_pixel(ra, dec)
    return float(x), float(y)


def _place(rng: Generator, margin: float) -> tuple[float, float]:
    """A random parent pixel of the cutout, kept from its edge (or let outside it, if negative)."""
    x, y = rng.uniform(margin, SIZE - 1 - margin, 2)
    return XY0[0] + float(x), XY0[1] + float(y)


def _magnitudes(rng: Generator, number: int, slope: float, low: float, high: float) -> NDArray[np.float64]:
    """Magnitudes whose counts grow as 10^(slope m)."""
    a, b = 10 ** (slope * low), 10 ** (slope * high)
    return np.log10(a + (b - a) * rng.uniform(size=number)) / slope


def _free(place: tuple[float, float], taken: list[tuple[float, float]], reach: float) -> bool:
    return all(np.hypot(place[0] - x, place[1] - y) > reach for x, y in taken)


def _bright_stars(rng: Generator) -> list[Fixed]:
    """Four stars that saturate in every visit, well apart."""
    places: list[tuple[float, float]] = []
    while len(places) < 4:
        place = _place(rng, 110)
        if _free(place, places, 260):
            places.append(place)
    mags = np.array([14.3, 14.9, 15.3, 15.6]) + rng.uniform(-0.15, 0.15, 4)
    return [
        Fixed(1 + i, *_sky(*place), float(mag), float(mag + rng.uniform(0.3, 1.0)))
        for i, (place, mag) in enumerate(zip(places, mags, strict=True))
    ]


def _stars(rng: Generator) -> list[Fixed]:
    mags = _magnitudes(rng, round(STARS * SHARE), 0.12, 16.7, 25.2)
    colours = np.where(rng.uniform(size=len(mags)) < 0.45, rng.normal(0.5, 0.12, len(mags)), 0.0)
    colours = np.where(colours == 0, np.clip(rng.normal(1.35, 0.15, len(mags)), 0.9, 1.6), colours)
    stars = []
    for i, (mag, colour) in enumerate(zip(mags, colours, strict=True)):
        ra, dec = _sky(*_place(rng, -MARGIN))
        stars.append(Fixed(101 + i, ra, dec, float(mag), float(mag + colour)))
    return stars


def _galaxies(rng: Generator) -> list[Fixed]:
    """Galaxies: sizes shrink by 0.1 dex a magnitude, a fifth of the bright ones are early types."""
    galaxies = []
    for i, mag in enumerate(_magnitudes(rng, round(GALAXIES * SHARE), 0.38, 18.2, 25.5)):
        early = mag < 22.5 and rng.uniform() < 0.2
        size = float(np.clip(0.42 * 10 ** (-0.1 * (mag - 24) + rng.normal(0, 0.16)), 0.12, 2.5))
        colour = rng.normal(1.2, 0.2) if early else rng.normal(0.55, 0.25)
        length, angle = min(abs(rng.normal(0, 0.25)), 0.6), rng.uniform(0, 2 * np.pi)
        shear = (float(length * np.cos(angle)), float(length * np.sin(angle)))
        ra, dec = _sky(*_place(rng, -MARGIN))
        sersic = 3.0 if early else 1.0
        galaxies.append(Fixed(1001 + i, ra, dec, float(mag), float(mag + colour), size, sersic, shear))
    return galaxies


def _lenses(rng: Generator, scene: Scene, taken: list[tuple[float, float]]) -> None:
    """Five quads: four images of a quasar around a galaxy; delays and microlensing set them apart."""
    for system in range(5):
        place = _lonely(rng, taken, 70)
        taken.append(place)
        ra, dec = _sky(*place)
        lens = 901 + system
        mag = rng.uniform(19.2, 20.6)
        scene.fixed.append(Fixed(lens, ra, dec, mag, mag + 1.3, rng.uniform(0.5, 0.9), 3.0, (0.1, 0.05)))
        radius, turn, quasar = rng.uniform(0.8, 1.5), rng.uniform(0, 2 * np.pi), rng.uniform(20.0, 21.6)
        base = tuple((a, rng.uniform(*p), rng.uniform()) for a, p in ((0.35, (300, 700)), (0.12, (40, 120))))
        for image in range(4):
            angle = turn + image * np.pi / 2 + rng.normal(0, 0.12)
            distance = radius * (1 + 0.12 * (-1) ** image)
            x = place[0] + distance / SCALE * np.cos(angle)
            y = place[1] + distance / SCALE * np.sin(angle)
            micro = (rng.uniform(0.05, 0.25), rng.uniform(150, 900), rng.uniform())
            curve = Wave(quasar + rng.uniform(-0.5, 0.9), 0.15, (*base, micro), rng.uniform(0, 60))
            number = 5000 + 10 * system + image
            scene.injected.append(Injected(number, "quasar", *_sky(x, y), curve, lens))


def _supernovae(rng: Generator, scene: Scene, taken: list[tuple[float, float]]) -> None:
    """Seventy-two: half about the first night, half about the last two; every fourth without a host."""
    hosts = [g for g in scene.fixed if g.kind == "galaxy" and g.number > 1000 and g.r < 24.3]
    order = [hosts[k] for k in rng.permutation(len(hosts))]
    for i in range(72):
        host, place = (0, _lonely(rng, taken)) if i % 4 == 0 else _on_host(rng, order, taken)
        taken.append(place)
        explosion = LAST_NIGHT - rng.uniform(8, 75)
        if i % 2 == 0:
            # Half of the first night's are old and red, the others young and blue: g and r differ both ways.
            explosion = FIRST_NIGHT - (rng.uniform(52, 85) if i % 4 == 2 else rng.uniform(8, 50))
        peak = float(np.linspace(20.2, 24.1, 36)[i // 2] + rng.uniform(-0.1, 0.1))
        curve = Supernova(explosion, peak, rng.uniform(3.5, 5.5), rng.uniform(22, 40))
        scene.injected.append(Injected(6000 + i, "supernova", *_sky(*place), curve, host))


def _lonely(rng: Generator, taken: list[tuple[float, float]], reach: float = 40) -> tuple[float, float]:
    """A random place away from everything injected and from the brightest stars."""
    place = _place(rng, INNER)
    while not _free(place, taken, reach):
        place = _place(rng, INNER)
    return place


def _on_host(
    rng: Generator, hosts: list[Fixed], taken: list[tuple[float, float]]
) -> tuple[int, tuple[float, float]]:
    """The next host that lies well, and a place in its disc; hosts are used up."""
    while hosts:
        galaxy = hosts.pop()
        x, y = _pixel(galaxy.ra, galaxy.dec)
        offset, angle = galaxy.size / SCALE * np.sqrt(rng.uniform(0, 2.2)), rng.uniform(0, 2 * np.pi)
        place = (float(x + offset * np.cos(angle)), float(y + offset * np.sin(angle)))
        inside = all(INNER < c - o < SIZE - INNER for c, o in zip(place, XY0, strict=True))
        if inside and _free(place, taken, 40):
            return galaxy.number, place
    return 0, _lonely(rng, taken)


def _variables(rng: Generator, scene: Scene, taken: list[tuple[float, float]]) -> None:
    """Ten variable stars; the brighter, the smaller the amplitude, so that the changes are 5 to 150 sigma."""
    for i in range(10):
        place = _lonely(rng, taken, 45)
        taken.append(place)
        mag = 18.5 + 0.38 * i
        sigma = 1.09 / 5 * 10 ** (0.4 * (mag - 24.3)) + 0.0005  # of a single visit, magnitudes
        term = (min(rng.uniform(15, 150) * sigma, 0.8), float(10 ** rng.uniform(-0.3, 2.5)), rng.uniform())
        curve = Wave(mag, rng.uniform(0.1, 1.2), (term,))
        scene.injected.append(Injected(7000 + i, "variable", *_sky(*place), curve))


def _asteroids(rng: Generator, scene: Scene, taken: list[tuple[float, float]]) -> None:
    """Two on the first night, one on the last; 20 to 40 arcsec an hour, drawn as points."""
    for i, (night, mjd) in enumerate(
        ((FIRST_NIGHT, 59580.145), (FIRST_NIGHT, 59580.145), (LAST_NIGHT, 59842.252))
    ):
        place = _lonely(rng, taken, 60)
        taken.append(place)
        speed, angle = rng.uniform(20, 40) * 24 / 3600, rng.uniform(0, 2 * np.pi)
        motion = (float(speed * np.cos(angle)), float(speed * np.sin(angle)))
        curve = Steady(20.6 + 0.8 * i, 0.6, night)
        scene.injected.append(Injected(8000 + i, "asteroid", *_sky(*place), curve, motion=motion, epoch=mjd))
