# SPDX-License-Identifier: BSD-3-Clause
"""Light curves of the injected objects: magnitudes as functions of time and band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Supernova:
    """Bazin's rise and decline (A&A 499, 653), with a colour that reddens after the peak."""

    explosion: float
    peak_mag: float
    rise: float
    decline: float

    def mag(self, mjd: float, band: str) -> float:
        """AB magnitude, infinite before the explosion."""
        phase = mjd - self.explosion
        if phase <= 0:
            return float("inf")
        shape = np.exp(-(phase - 20) / self.decline) / (1 + np.exp(-(phase - 20) / self.rise))
        at = self.rise * np.log(self.decline / self.rise - 1)
        top = np.exp(-at / self.decline) / (1 + np.exp(-at / self.rise))
        colour = -0.15 + 1.6 / (1 + np.exp(-(phase - 40) / 7)) if band == "g" else 0.0
        return float(self.peak_mag - 2.5 * np.log10(shape / top) + colour)


@dataclass(frozen=True)
class Wave:
    """A star or quasar whose magnitude is a mean plus sinusoids (amplitude, period in days, phase)."""

    mean_mag: float
    colour: float
    terms: tuple[tuple[float, float, float], ...]
    delay: float = 0.0

    def mag(self, mjd: float, band: str) -> float:
        """AB magnitude."""
        swing = sum(a * np.sin(2 * np.pi * ((mjd - self.delay) / p + f)) for a, p, f in self.terms)
        return float(self.mean_mag + swing + (self.colour if band == "g" else 0.0))


@dataclass(frozen=True)
class Steady:
    """A constant object that is in the field on one night only."""

    steady_mag: float
    colour: float
    night: int

    def mag(self, mjd: float, band: str) -> float:
        """AB magnitude, infinite on other nights."""
        if int(mjd) != self.night:
            return float("inf")
        return self.steady_mag + (self.colour if band == "g" else 0.0)
