# SPDX-License-Identifier: BSD-3-Clause
"""The nouns that an exposure is made of; files are read into them and written from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: The mask planes of afw 12.1 and their bits (afw.md 1.3). Bits belong to names, never to numbers.
DEFAULT_PLANES: Mapping[str, int] = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
}


class Psf(Protocol):
    """A point spread function over the parent pixels of an exposure."""

    @property
    def average_position(self) -> tuple[float, float]:
        """Parent pixel (x, y) at which the PSF stands for the whole exposure."""

    def kernel_image(self, x: float, y: float) -> NDArray[np.float64]:
        """The PSF at parent pixel (x, y), centred on the middle pixel of an odd stamp, with sum 1."""


class Wcs(Protocol):
    """A map between parent pixels (0-based, centres at integers) and ICRS degrees."""

    def pixel_to_sky(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

    def sky_to_pixel(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...


class Frame(Protocol):
    """Where the pixels of an exposure are."""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""

    @property
    def xy0(self) -> tuple[int, int]:
        """Parent pixel (x, y) of the first pixel."""

    @property
    def wcs(self) -> Any:
        """A `Wcs`."""


@dataclass(frozen=True)
class Exposure:
    """An image with all that is needed to measure on it. Never changed in place.

    Attributes
    ----------
    image, variance : `numpy.ndarray`, (ny, nx), float32
        Counts (electrons or whatever the instrument's unit is) and their variance.
    mask : `numpy.ndarray`, (ny, nx), int32
        Bits as named by ``planes``.
    xy0 : `tuple` [`int`, `int`]
        Parent pixel (x, y) of ``image[0, 0]``.
    flux_mag0, flux_mag0_err : `float`
        Counts of an AB magnitude 0 source, NaN when not calibrated.
    mjd : `float`
        Middle of the exposure, TAI, NaN when unknown.
    exposure_time : `float`
        Seconds, NaN when unknown.
    metadata : `dict`
        Further header cards, kept and written back.
    calibration : `diffrun.files.afw.photocalib.ChebyshevField` or `None`
        nJy per count where that varies over the image, ``flux_mag0`` being its mean.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.int32]
    variance: NDArray[np.float32]
    wcs: Any
    psf: Any = None
    xy0: tuple[int, int] = (0, 0)
    planes: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_PLANES))
    filter: str = "_unknown_"
    flux_mag0: float = float("nan")
    flux_mag0_err: float = 0.0
    mjd: float = float("nan")
    exposure_time: float = float("nan")
    metadata: Mapping[str, Any] = field(default_factory=dict)
    calibration: Any = None

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        ny, nx = self.image.shape
        return ny, nx

    def bits(self, *names: str) -> int:
        """The bit mask of the named planes; a plane that this exposure does not have counts as 0."""
        return sum(1 << self.planes[name] for name in set(names) if name in self.planes)

    def has(self, *names: str) -> NDArray[np.bool_]:
        """Where any of the named planes is set, (ny, nx)."""
        bits, found = np.int32(self.bits(*names)), np.empty(self.shape, bool)
        for top in range(0, len(found), 256):  # by bands: no plane of integers in between
            np.not_equal(self.mask[top : top + 256] & bits, 0, out=found[top : top + 256])
        return found

    def replace(self, **changes: Any) -> Exposure:
        """A new exposure with some parts changed."""
        return dataclasses.replace(self, **changes)
