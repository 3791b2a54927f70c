# SPDX-License-Identifier: BSD-3-Clause
"""What stands in the sky: stars, galaxies of many knots, and what changes between the two visits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from conditions import Configuration
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]

MARGIN = 150  # pixels around the sensor in which there is sky too
BORDER = 70  # pixels kept from the edge by everything that changes
FAINTEST_STAR, BRIGHTEST_STAR, STAR_SLOPE = 700.0, 3e7, 0.69  # counts; N(>F) ~ F^-slope
FAINTEST_GALAXY, BRIGHTEST_GALAXY, GALAXY_SLOPE = 500.0, 3e5, 1.0
SATURATES = 1.2e6  # counts, with room to spare
KINDS = ("blank", "galaxy", "bright", "variable")
APART = 30.0  # pixels between things that change
TRIES = 2000  # places tried for one of them
#: An exponential disc holds half its light within 1.678 scale lengths.
HALF_LIGHT = 1.6783


@dataclass(frozen=True)
class Sky:
    """Objects at science pixels; fluxes are counts of a visit with transparency 1.

    Attributes
    ----------
    star, galaxy : `numpy.ndarray`
        Structured: x, y, flux and (galaxies) size: half-light radius in pixels, q, angle.
    change : `numpy.ndarray`
        Structured: x, y, flux (science minus template), base (flux in both), kind (index of `KINDS`).
        A variable star's base is taken from ``star``, whose own flux there is 0.
    """

    star: NDArray[np.void]
    galaxy: NDArray[np.void]
    change: NDArray[np.void]


def build(configuration: Configuration, noise: float, rng: Generator) -> Sky:
    """The sky of a seed; ``noise`` is the error of an ideal flux on blank sky, counts."""
    shape = configuration.shape
    star = _stars(rng, configuration, shape)
    galaxy = _galaxies(rng, configuration, shape)
    change = _changes(rng, configuration, star, galaxy, noise)
    return Sky(star, galaxy, change)


def _power_law(rng: Generator, number: int, low: float, high: float, slope: float) -> Array:
    """Fluxes with N(>F) ~ F^-slope."""
    a, b = low**-slope, high**-slope
    return np.asarray((a + (b - a) * rng.uniform(size=number)) ** (-1 / slope))


def _with_margin(number: int, shape: tuple[int, int]) -> int:
    return round(number * (shape[0] + 2 * MARGIN) * (shape[1] + 2 * MARGIN) / (shape[0] * shape[1]))


def _places(rng: Generator, number: int, shape: tuple[int, int], margin: float) -> tuple[Array, Array]:
    return (
        rng.uniform(-margin, shape[1] - 1 + margin, number),
        rng.uniform(-margin, shape[0] - 1 + margin, number),
    )


def _stars(rng: Generator, configuration: Configuration, shape: tuple[int, int]) -> NDArray[np.void]:
    number = _with_margin(configuration.stars, shape)
    star = np.zeros(number, [("x", "f8"), ("y", "f8"), ("flux", "f8")])
    star["x"], star["y"] = _places(rng, number, shape, MARGIN)
    star["flux"] = _power_law(rng, number, FAINTEST_STAR, BRIGHTEST_STAR, STAR_SLOPE)
    return star


def _galaxies(rng: Generator, configuration: Configuration, shape: tuple[int, int]) -> NDArray[np.void]:
    number = _with_margin(configuration.galaxies, shape)
    names = ("x", "y", "flux", "size", "q", "angle")
    galaxy = np.zeros(number, [(name, "f8") for name in names])
    galaxy["x"], galaxy["y"] = _places(rng, number, shape, MARGIN)
    galaxy["flux"] = _power_law(rng, number, FAINTEST_GALAXY, BRIGHTEST_GALAXY, GALAXY_SLOPE)
    size = 1.2 * (galaxy["flux"] / 1000) ** 0.3 * 10 ** rng.normal(0, 0.13, number)
    galaxy["size"] = np.clip(size, 0.6, 12.0)
    galaxy["q"] = rng.uniform(0.3, 1.0, number)
    galaxy["angle"] = rng.uniform(0, np.pi, number)
    return galaxy


def knots(galaxy: NDArray[np.void]) -> tuple[Array, Array, Array, Array]:
    """Every galaxy as points of equal flux on Vogel's spiral: x, y, flux, and the points it has.

    So the PSF of a galaxy is that of its points, exactly, wherever it falls.
    """
    number = np.clip(np.rint(10 * np.sqrt(galaxy["flux"] / 1000) * galaxy["size"]), 16, 300).astype(int)
    owner = np.repeat(np.arange(len(galaxy)), number)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(number) - number, number)
    share = (rank + 0.5) / number[owner]
    g = galaxy[owner]
    radius = _disc_radius(share) / HALF_LIGHT * g["size"] / np.sqrt(g["q"])
    turn = rank * np.pi * (3 - np.sqrt(5))
    along, across = radius * np.cos(turn), radius * np.sin(turn) * g["q"]
    cos, sin = np.cos(g["angle"]), np.sin(g["angle"])
    x, y = g["x"] + along * cos - across * sin, g["y"] + along * sin + across * cos
    return x, y, g["flux"] / number[owner], number[owner].astype(float)


def _disc_radius(share: Array) -> Array:
    """The radius, in scale lengths, that holds a share of an exponential disc's light."""
    r = np.linspace(0, 12, 4001)
    return np.interp(share, 1 - (1 + r) * np.exp(-r), r)


_CHANGE = [("x", "f8"), ("y", "f8"), ("flux", "f8"), ("base", "f8"), ("kind", "i4")]


def _changes(
    rng: Generator,
    configuration: Configuration,
    star: NDArray[np.void],
    galaxy: NDArray[np.void],
    noise: float,
) -> NDArray[np.void]:
    """Transients on blank sky, on galaxies and near bright stars, and stars that vary."""
    total = configuration.transients
    variable = round(total * configuration.variable_share)
    count = {"variable": variable, "galaxy": round(0.3 * (total - variable))}
    count["bright"] = round(0.15 * (total - variable))
    count["blank"] = total - sum(count.values())
    taken = _Taken(configuration.shape, star, galaxy)
    change = np.zeros(total, _CHANGE)
    change["kind"] = np.repeat(np.arange(4), [count[kind] for kind in KINDS])
    snr = np.exp(rng.uniform(np.log(4.0), np.log(60.0), total))
    change["flux"] = snr * noise * np.where(rng.uniform(size=total) < 0.3, -1, 1)
    _vary(rng, configuration, star, change, taken)
    for i in np.nonzero(change["kind"] != KINDS.index("variable"))[0]:
        place = taken.find(rng, KINDS[change["kind"][i]])
        if place is None:  # too few hosts for so many
            change["kind"][i] = KINDS.index("blank")
            place = taken.find(rng, "blank")
        if place is None:
            raise SystemExit("the sensor has no room for so many transients; ask for a larger --size")
        change["x"][i], change["y"][i] = place
    return change


def _vary(
    rng: Generator,
    configuration: Configuration,
    star: NDArray[np.void],
    change: NDArray[np.void],
    taken: _Taken,
) -> None:
    """Give the variable rows a star each; its light moves from ``star`` into ``base``."""
    rows = np.nonzero(change["kind"] == KINDS.index("variable"))[0]
    swing = configuration.variable_swing
    low = 1e4 if swing else 3e3
    able = (star["flux"] > low) & (star["flux"] < SATURATES / 2) & taken.inside(star["x"], star["y"])
    chosen = [i for i in rng.permutation(np.nonzero(able)[0]) if taken.free(star["x"][i], star["y"][i])]
    for row, i in zip(rows, chosen, strict=False):
        x, y, flux = star["x"][i], star["y"][i], star["flux"][i]
        if not taken.free(x, y):
            continue
        change["x"][row], change["y"][row], change["base"][row] = x, y, flux
        if swing:
            change["flux"][row] = flux * rng.uniform(0.1, swing) * (1 if rng.uniform() < 0.75 else -1)
        change["flux"][row] = max(change["flux"][row], -0.9 * flux)
        star["flux"][i] = 0.0
        taken.add(x, y)
    left = rows[change["base"][rows] == 0]
    change["kind"][left] = KINDS.index("blank")


class _Taken:
    """Where nothing more may be put."""

    def __init__(self, shape: tuple[int, int], star: NDArray[np.void], galaxy: NDArray[np.void]) -> None:
        self.shape = shape
        self.places: list[tuple[float, float]] = []
        self.star, self.galaxy = star.copy(), galaxy
        bright = star["flux"] > SATURATES
        self.saturated = cKDTree(np.stack([star["x"], star["y"]], axis=1)[bright].reshape(-1, 2))
        self.reach = 20 + 30 * np.sqrt(np.maximum(star["flux"][bright] / SATURATES, 1)) ** 0.6
        self.stars = np.stack([star["x"], star["y"]], axis=1)
        self.galaxies = np.stack([galaxy["x"], galaxy["y"]], axis=1)

    def inside(self, x: Array, y: Array) -> NDArray[np.bool_]:
        """Away from the edge."""
        ny, nx = self.shape
        return (x > BORDER) & (y > BORDER) & (x < nx - 1 - BORDER) & (y < ny - 1 - BORDER)

    def free(self, x: float, y: float) -> bool:
        """Away from what changes and from stars that saturate."""
        if any(abs(x - a) < APART and abs(y - b) < APART for a, b in self.places):
            return False
        if not self.saturated.n:
            return True
        distance = np.hypot(*(self.saturated.data - (x, y)).T)
        return bool((distance > self.reach).all())

    def add(self, x: float, y: float) -> None:
        """Take a place."""
        self.places.append((float(x), float(y)))

    def find(self, rng: Generator, kind: str) -> tuple[float, float] | None:
        """A free place of the kind, which is then taken; none after many tries."""
        for _ in range(TRIES):
            x, y = self._propose(rng, kind)
            if self.inside(np.array(x), np.array(y)) and self.free(x, y) and self._suits(x, y, kind):
                self.add(x, y)
                return x, y
        return None

    def _propose(self, rng: Generator, kind: str) -> tuple[float, float]:
        if kind == "galaxy":
            able = np.nonzero(self.galaxy["flux"] > 1500)[0]
            host = self.galaxy[rng.choice(able)]
            radius, turn = host["size"] * np.sqrt(rng.uniform(0, 2)), rng.uniform(0, 2 * np.pi)
            return float(host["x"] + radius * np.cos(turn)), float(host["y"] + radius * np.sin(turn))
        if kind == "bright":
            able = np.nonzero((self.star["flux"] > 4e4) & (self.star["flux"] < SATURATES))[0]
            if len(able):
                near = self.star[rng.choice(able)]
                radius, turn = rng.uniform(9, 25), rng.uniform(0, 2 * np.pi)
                return float(near["x"] + radius * np.cos(turn)), float(near["y"] + radius * np.sin(turn))
        x, y = _places(rng, 1, self.shape, -BORDER)
        return float(x[0]), float(y[0])

    def _suits(self, x: float, y: float, kind: str) -> bool:
        """Blank places are far from all objects, the others from bright stars' cores."""
        star = np.hypot(self.stars[:, 0] - x, self.stars[:, 1] - y)
        if kind != "blank":
            return bool((star[self.star["flux"] > 4e4] > 8).all())
        galaxy = np.hypot(self.galaxies[:, 0] - x, self.galaxies[:, 1] - y)
        reach = 10 + 6 * np.log10(np.maximum(self.star["flux"] / 1000, 1))
        return bool((star > reach).all() and (galaxy > 12).all())
