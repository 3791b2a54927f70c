# SPDX-License-Identifier: BSD-3-Clause
"""The pair of small images that the cases alter, and the way from two images to a difference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from diffrun.engine import masks
from diffrun.engine.config import ImageDifferenceConfig
from diffrun.engine.makecalexp import projection
from diffrun.engine.makecalexp.make import Ask, Calexp, make
from diffrun.engine.task import Inputs, run
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import GaussianPsf
from diffrun.repository.dataid import DataId

Image = NDArray[np.float32]
FWHM_PER_SIGMA = 2.3548
SKY = 800.0
#: Transients of the science image: x, y, electrons; S/N about 12 and 27.
TRANSIENTS = ((100, 400, 3000), (300.3, 250.6, 8000))
STARS = 120


def header(n: int = 512, ra: float = 53.009, dec: float = -27.4389, scale: float = 0.2) -> fits.Header:
    """A plain TAN WCS about the middle of an image."""
    w = WCS(naxis=2)
    w.wcs.crpix, w.wcs.crval = [n / 2 + 0.5] * 2, [ra, dec]
    w.wcs.cdelt, w.wcs.ctype = [-scale / 3600, scale / 3600], ["RA---TAN", "DEC--TAN"]
    return w.to_header()


def stars(n: int = 512, count: int = STARS, seed: int = 1) -> NDArray[np.float64]:
    """Positions and fluxes of the stars, (count, 3): the same for a seed."""
    r = np.random.default_rng(seed)
    xs, ys = r.uniform(20, n - 20, (2, count))
    return np.stack([xs, ys, 10 ** r.uniform(3.3, 5.2, count)], axis=1)


def light(shape: tuple[int, int], fwhm: float, sources: Any, sky: float = SKY) -> NDArray[np.float64]:
    """The sky and Gaussian sources (x, y, electrons), without noise."""
    image, s2 = np.full(shape, float(sky)), (fwhm / FWHM_PER_SIGMA) ** 2
    reach = max(25, round(4 * fwhm))
    for x0, y0, flux in sources:
        rows = slice(max(round(y0) - reach, 0), max(round(y0) + reach + 1, 0))
        columns = slice(max(round(x0) - reach, 0), max(round(x0) + reach + 1, 0))
        y, x = (g[rows, columns] for g in np.mgrid[: shape[0], : shape[1]])
        distance = (x - x0) ** 2 + (y - y0) ** 2
        image[rows, columns] += flux / (2 * np.pi * s2) * np.exp(-distance / (2 * s2))
    return image


def noisy(image: NDArray[np.float64], noise: int) -> Image:
    """With the noise of photons."""
    return np.random.default_rng(noise).poisson(image).astype(np.float32)


def frame(fwhm: float, noise: int = 2, extra: Sequence[Any] = (), n: int = 512, count: int = STARS) -> Image:
    """One image of the pair, electrons; its variance is itself."""
    return noisy(light((n, n), fwhm, [*stars(n, count), *extra]), noise)


def gaussian(fwhm: float, side: int = 31) -> GaussianPsf:
    """The PSF of an image."""
    return GaussianPsf((side, side), fwhm / FWHM_PER_SIGMA)


def exposure(
    image: Image,
    fwhm: float,
    *,
    variance: Image | None = None,
    mask: NDArray[np.int32] | None = None,
    planes: dict[str, int] | None = None,
    cards: fits.Header | None = None,
    **known: Any,
) -> Exposure:
    """An exposure with a known PSF, as processCcd would have left it; ``cards`` are those of its WCS."""
    wcs, _ = projection.read(header(image.shape[1]) if cards is None else cards, image.shape)
    return Exposure(
        image.astype(np.float32),
        np.zeros(image.shape, np.int32) if mask is None else mask,
        (image if variance is None else variance).astype(np.float32),
        wcs,
        gaussian(fwhm),
        planes=dict(DEFAULT_PLANES) if planes is None else planes,
        **known,
    )


@dataclass
class Difference:
    """All that one run of the engine gives, and the warnings that it says."""

    products: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def image(self) -> Exposure:
        return self.products["differenceExp"]

    @property
    def sources(self) -> Catalog:
        return self.products["diaSrc"]

    @property
    def kernel(self) -> LinearCombinationKernel:
        return self.products["kernel"]

    @property
    def facts(self) -> dict[str, Any]:
        return self.products["metadata"]

    @property
    def places(self) -> NDArray[np.float64]:
        """Centroids, (n, 2)."""
        return np.stack([self.sources[f"slot_Centroid_{axis}"] for axis in "xy"], axis=1)

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Sources of which a plane says that they may be none."""
        names = ("edge", "saturated", "bad", "suspect", "crCenter", "interpolatedCenter", "offimage")
        return np.logical_or.reduce([self.sources[f"base_PixelFlags_flag_{name}"] for name in names])

    def nearest(self, x: float, y: float) -> tuple[int, float]:
        """The row of the source nearest to a place, and its distance."""
        distance = np.hypot(*(self.places - (x, y)).T) if len(self.sources) else np.array([np.inf])
        return int(distance.argmin()), float(distance.min())

    def others(self, *places: Sequence[float], flagged: bool = False) -> NDArray[np.float64]:
        """Places of the sources that are none of these; the unflagged ones unless asked."""
        rows = np.ones(len(self.sources), bool) if flagged else ~self.flagged
        for place in places:
            rows &= np.hypot(*(self.places - place[:2]).T) > 3
        return self.places[rows]


class _Ear(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def difference(
    science: Exposure, template: Exposure, sources: Catalog | None = None, **settings: Any
) -> Difference:
    """The difference by the recipe's configuration; ``settings`` are fields of its top level."""
    config = ImageDifferenceConfig()
    config.doDecorrelation = config.doWriteMatchedExp = True
    for name, value in settings.items():
        setattr(config, name, value)
    found = Difference()
    log = logging.Logger("imageDifference")
    log.addHandler(_Ear(found.said))
    run(
        Inputs(science, lambda: fresh(science), lambda: fresh(template), sources, 1 << 23),
        config,
        log,
        found.products.__setitem__,
    )
    return found


def fresh(one: Exposure) -> Exposure:
    """A copy, as read anew from a file."""
    return one.replace(image=one.image.copy(), mask=one.mask.copy(), variance=one.variance.copy())


def clean_pair() -> tuple[Exposure, Exposure]:
    """Science image and template, both transients in the first."""
    return exposure(frame(4.2, extra=TRANSIENTS), 4.2), exposure(frame(3.4, noise=3), 3.4)


def finds_the_transients(found: Difference) -> bool:
    """Both transients, and no other unflagged source."""
    return all(found.nearest(x, y)[1] < 1 for x, y, _ in TRANSIENTS) and not len(found.others(*TRANSIENTS))


def plain(folder: Path, image: Any, name: str = "plain.fits", cards: Any = None, **ask: Any) -> Calexp:
    """A plain image with its WCS, written and made a calexp."""
    path = folder / name
    cards = header(image.shape[1]) if cards is None else cards
    fits.writeto(path, image, cards, overwrite=True)
    return from_file(path, **ask)


def from_file(path: Path, visit: int = 1, **ask: Any) -> Calexp:
    """A plain file made a calexp."""
    return make(Ask(path, **ask), DataId(visit, "r", "2,2", "1,1"))


def with_sky(made: Calexp) -> Exposure:
    """The exposure with its background added back, as the program hands it to the engine."""
    return made.exposure.replace(image=made.exposure.image + made.background.image(made.exposure.shape))


def turned(degrees: float, shift: tuple[float, float], sources: NDArray[np.float64]) -> Any:
    """Sources of a frame that is turned about the middle and shifted, and the cards of its true WCS."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved, cards = sources.copy(), header()
    moved[:, :2] = (sources[:, :2] - 255.5) @ turn.T + 255.5 + shift
    matrix = np.diag([cards.pop("CDELT1"), cards.pop("CDELT2")]) @ turn.T
    for (i, j), value in np.ndenumerate(matrix):
        cards[f"CD{i + 1}_{j + 1}"] = value
    cards["CRPIX1"], cards["CRPIX2"] = 256.5 + shift[0], 256.5 + shift[1]
    return moved, cards


def noise(found: Difference) -> tuple[float, float]:
    """Scatter and middle of the difference's pixels without a mark, in sigma of the variance plane."""
    exposure = found.image
    pull = (exposure.image / np.sqrt(exposure.variance))[exposure.mask == 0]
    low, middle, high = np.percentile(pull, [25, 50, 75])
    return float(high - low) / 1.349, float(middle)


def kernel_half(found: Difference) -> int:
    """Half the width of the matching kernel, pixels."""
    return int(found.kernel.components.shape[-1]) // 2


def far_from(places: NDArray[np.bool_], found: Difference) -> NDArray[np.bool_]:
    """Pixels with data that the kernel does not bring together with these places."""
    return ~masks.grown(places, kernel_half(found)) & ~found.image.has("NO_DATA")
