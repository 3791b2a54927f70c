# SPDX-License-Identifier: BSD-3-Clause
"""Whether both images show their stars at the same places, and what is done where they do not.

The WCS of an image is a claim; its stars are the witness. Where the warped template shows them beside the
places that they have in the science image, it is moved there by a polynomial of the place, up to
`LARGEST_OFFSET` pixels; what is farther off is refused. Images without a WCS are aligned by their stars.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine import candidates as stars
from diffrun.engine.candidates import Candidates
from diffrun.engine.overlap import LARGEST_OFFSET, lacks_wcs
from diffrun.engine.robust import PolynomialFit
from diffrun.engine.smoothpsf import FWHM_PER_SIGMA, field_box, fwhm
from diffrun.engine.subtract import Pair
from diffrun.errors import DataError, NoStarsError
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure, Wcs
from diffrun.files.afw.kernel import chebyshev_terms
from diffrun.files.afw.wcs import MADE_UP

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]
Bool = NDArray[np.bool_]
Metadata = dict[str, Any]

#: Root mean square of the offsets from which on they are corrected, pixels: the matching kernel itself
#: follows smaller ones.
_WORTH = 0.3
#: S/N of the stars looked at in either image, and how many of them.
_SNR, _SNR_TEMPLATE, _MOST = 20.0, 10.0, 400
#: Fewer stars than this say nothing; as many that find no others make a pair one of different skies.
_FEWEST, _MANY = 3, 12
#: Part of the common stars that must follow one smooth field of offsets, for that to be believed.
_FOLLOWED, _OF_SEEN = 0.3, 0.5
#: Scatter of a star's offset beyond its noise, pixels, and how the field is fitted to the offsets.
_SCATTER, _FIT = 0.05, PolynomialFit(3, 2, (4.0, 2.0, 1.0, 0.6, 0.4), 25.0)


@dataclass(frozen=True)
class Offsets:
    """By how much the template shows n stars beside their places in the science image.

    Attributes
    ----------
    x, y : `numpy.ndarray`, (n,)
        Parent pixels of the science image.
    d : `numpy.ndarray`, (n, 2)
        Offset in x and y, pixels of the science image.
    error : `numpy.ndarray`, (n,)
        Standard error in either direction.
    """

    x: Array
    y: Array
    d: Array
    error: Array

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Field:
    """A smooth field of offsets: Chebyshev coefficients (terms, 2) over a box."""

    coefficients: Array
    order: int
    box: Box

    def at(self, x: Array, y: Array) -> Array:
        """Offsets at parent pixels, (..., 2)."""
        return np.asarray(chebyshev_terms(x, y, self.order, self.box) @ self.coefficients)

    def on_grid(self) -> Array:
        """Sizes of the offsets at places all over the box."""
        x, y = np.meshgrid(*(np.linspace(self.box[i], self.box[i + 2], 9) for i in (0, 1)))
        return np.asarray(np.hypot(*np.moveaxis(self.at(x, y), -1, 0)))


@dataclass(frozen=True)
class MovedWcs:
    """The sky where another WCS has it, with each pixel moved by a field of offsets first."""

    wcs: Wcs
    field: Field

    def pixel_to_sky(self, x: Array, y: Array) -> tuple[Array, Array]:
        """ICRS degrees of parent pixels."""
        d = self.field.at(x, y)
        return self.wcs.pixel_to_sky(x + d[..., 0], y + d[..., 1])


def moved(
    pair: Pair,
    found: Candidates,
    sigmas: tuple[float, ...],
    sky: Wcs,
    template: Callable[[], Exposure],
    log: logging.Logger,
) -> tuple[Any, Metadata]:
    """Compare the places of the stars in both images.

    Parameters
    ----------
    pair : `Pair`
        Both images on one grid, by their WCS.
    found : `Candidates`
        Stars of the science image.
    sigmas : `tuple` of `float`
        Sigma of the PSF of the science image and of the warped template, pixels.
    sky : `Wcs`
        Of the science image, by which the template was warped.
    template : callable
        Gives the template as it was before, where its stars must be looked for elsewhere.
    log : `logging.Logger`

    Returns
    -------
    sky : `Wcs`
        What the template is to be warped with: another one if that is worth it.
    facts : `dict`
        For the metadata.

    Raises
    ------
    DataError
        If the offset is too large, or the images show different stars.
    """
    box = field_box(pair.plain)
    bright = _brightest(found.keep(found.snr >= _SNR, "faint"))
    core = FWHM_PER_SIGMA * max(sigmas)
    common = stars.with_clean_cores(bright, [pair.science, pair.template], core, int(core) + 1)
    seen = _beneath(pair, common, sigmas)
    if len(seen) >= max(_FEWEST, _FOLLOWED * len(common)):
        field, good = fitted(seen, box, clean=False)
        if good.sum() >= max(_FEWEST, _OF_SEEN * len(seen)):
            return _judged(field, seen, good, sky, log)
    elsewhere = _elsewhere(bright, sky, template(), box) if len(bright) > _FEWEST else None
    if elsewhere is not None:
        field, good = fitted(elsewhere, box, clean=True)
        if good.sum() >= _OF_SEEN * len(elsewhere):
            return _judged(field, elsewhere, good, sky, log)
    if len(common) >= _MANY:
        raise DataError(
            f"the two images show different stars: of {len(common)} bright ones in the science image "
            f"{len(seen)} are in the template, and those not at one offset",
            "look at the WCS of both images",
        )
    if len(common):
        log.warning(
            "The WCS are not checked by stars: of %d bright ones in the science image %d are in the template "
            "at their places, %d are needed", len(common), len(seen), _FEWEST,
        )  # fmt: skip
    return sky, {}


def claimed(science: Any, template: Exposure, sources: Catalog | None, log: logging.Logger) -> Any:
    """Where the science image is on the template's sky by the WCS of both, by their stars if one has none.

    Parameters
    ----------
    science : `ExposureSummary`
    template : `Exposure`
        Finite everywhere, sky at 0.
    sources : `Catalog` or `None`
        ``src`` of the science image.

    Raises
    ------
    NoStarsError
        If there is no WCS, and the stars do not tell either.
    """
    without = [name for name, one in (("science image", science), ("template", template)) if lacks_wcs(one)]
    if not without:
        return science.wcs
    names, box = " and the ".join(without), field_box(science)
    names += " has no WCS" if len(without) == 1 else " have no WCS"
    if sources is None:
        raise NoStarsError(f"the {names}, and the science image no src", "make its calexp anew")
    bright, own = _brightest(stars.from_sources(sources, _SNR_TEMPLATE)), _own_stars(template)
    offsets = _identified(bright, np.stack([own.x, own.y], axis=1), box)
    if offsets is None:
        raise NoStarsError(
            f"the {names}, and no asterism of the {len(bright)} stars of the science image is "
            f"among the {len(own)} of the template",
            "give images with a WCS",
        )
    field, good = fitted(offsets, box, clean=True)
    left = offsets.d[good] - field.at(offsets.x[good], offsets.y[good])
    log.warning(
        "The %s: both are aligned by %d stars, to %.2f pixels%s", names, good.sum(),
        np.sqrt((left**2).sum(axis=1).mean()), "; places on the sky are made up" if len(without) > 1 else "",
    )  # fmt: skip
    return MovedWcs(template.wcs, field)


def with_wcs(science: Exposure, sky: Any, known: bool) -> Exposure:
    """The science image, with the template's WCS, where that is ``known``, if it has none of its own."""
    if not (known and lacks_wcs(science)):
        return science
    from diffrun.engine.makecalexp import projection  # only where needed

    wcs, _ = projection.followed(sky.pixel_to_sky, science.shape)
    metadata = {name: value for name, value in science.metadata.items() if name != MADE_UP}
    return science.replace(wcs=wcs, metadata=metadata)


def _brightest(found: Candidates) -> Candidates:
    order = np.argsort(-found.snr, kind="stable")[:_MOST]
    return Candidates(found.x[order], found.y[order], found.snr[order], found.rejected)


def _beneath(pair: Pair, common: Candidates, sigmas: tuple[float, ...]) -> Offsets:
    """The stars that the template shows near the places that they have in the science image."""
    places, snr, reach = [], [], 1.5 * FWHM_PER_SIGMA * max(sigmas)
    for exposure, sigma in zip((pair.science, pair.template), sigmas, strict=True):
        at = common.x - exposure.xy0[0], common.y - exposure.xy0[1]
        column, row, one = stars.centred(exposure, *at, np.zeros(len(common)), FWHM_PER_SIGMA * sigma)
        places.append(np.stack([column + exposure.xy0[0], row + exposure.xy0[1]], axis=1))
        snr.append(one)
    d = places[1] - places[0]
    seen = (snr[1] >= _SNR_TEMPLATE) & (np.hypot(*d.T) < reach)
    error = np.sqrt(sum((sigma / np.maximum(one, 1)) ** 2 for sigma, one in zip(sigmas, snr, strict=True)))
    return Offsets(common.x[seen], common.y[seen], d[seen], error[seen])


def _elsewhere(bright: Candidates, sky: Wcs, template: Exposure, box: Box) -> Offsets | None:
    """The stars as asterisms that both images show, wherever the WCS has them."""
    found = _own_stars(template)
    x, y = sky.sky_to_pixel(*template.wcs.pixel_to_sky(found.x, found.y))
    known = np.isfinite(x) & np.isfinite(y)
    return _identified(bright, np.stack([x, y], axis=1)[known], box)


def _own_stars(template: Exposure) -> Candidates:
    width = fwhm(template.psf, *template.psf.average_position)
    return _brightest(stars.from_image(template, width, _SNR_TEMPLATE))


def _identified(bright: Candidates, places: Array, box: Box) -> Offsets | None:
    from diffrun.engine.asterisms import identified  # only where needed: SciPy's trees take time to load

    own = np.stack([bright.x, bright.y], axis=1)
    pairs = identified(own, places, box)
    if pairs is None:
        return None
    x, y = bright.x[pairs.first], bright.y[pairs.first]
    return Offsets(x, y, places[pairs.second] - own[pairs.first], np.full(len(x), _SCATTER))


def fitted(offsets: Offsets, box: Box, clean: bool) -> tuple[Field, Bool]:
    """The smooth field that most offsets follow, and which do.

    It is looked for about the median first, unless the offsets are ``clean``.
    """
    sigma = np.hypot(offsets.error, _SCATTER)
    start = None if clean else np.median(offsets.d, axis=0)
    field = Field(*_FIT.through(offsets.x, offsets.y, offsets.d, sigma, box, start), box)
    left = np.hypot(*(offsets.d - field.at(offsets.x, offsets.y)).T) / sigma
    return field, left < max(5.0, _FIT.reaches[-1] / _SCATTER)


def _judged(
    field: Field, offsets: Offsets, good: Bool, sky: Wcs, log: logging.Logger
) -> tuple[Any, Metadata]:
    """What is done about a field of offsets, in a line of the log and in numbers."""
    sizes, left = field.on_grid(), offsets.d[good] - field.at(offsets.x[good], offsets.y[good])
    rms, largest = float(np.sqrt((sizes**2).mean())), float(sizes.max())
    residual = float(np.sqrt((left**2).sum(axis=1).mean()))
    number, (dx, dy) = int(good.sum()), np.median(offsets.d[good], axis=0)
    task = "imageDifference:register"
    facts = {f"{task}.stars": number, f"{task}.offset": rms, f"{task}.residual": residual}
    if largest > LARGEST_OFFSET:
        raise DataError(
            f"by their WCS the template shows the stars up to {largest:.1f} pixels beside those of the "
            f"science image ({dx:+.1f} in x, {dy:+.1f} in y, from {number} stars); at most "
            f"{LARGEST_OFFSET:g} are corrected",
            "correct the WCS of one of the two",
        )
    if rms < _WORTH:
        return sky, facts
    log.warning(
        "By their WCS the template shows the stars %.2f pixels beside those of the science image (root mean "
        "square over the field, at most %.1f): it is moved by %d stars, which leaves %.2f",
        rms, largest, number, residual,
    )  # fmt: skip
    return MovedWcs(sky, field), facts
