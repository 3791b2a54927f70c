# SPDX-License-Identifier: BSD-3-Clause
"""From a plain image to a calexp, its background and its ``src``: read `make` first.

Each stage is a function of arrays in a module of its own; this one puts them in order and keeps account of
what was assumed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffrun.engine.makecalexp import (
    companions,
    defects,
    facts,
    noise,
    plain,
    projection,
    psffit,
    sky,
    sources,
    stars,
)  # fmt: skip
from diffrun.engine.masks import grown
from diffrun.engine.smoothpsf import FWHM_PER_SIGMA
from diffrun.engine.smoothpsf import fwhm as width_of
from diffrun.engine.spikes import neighbours, spikes
from diffrun.errors import DataError, NoStarsError
from diffrun.files.afw.background import Background
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf
from diffrun.files.afw.reader import Part
from diffrun.files.afw.wcs import MADE_UP
from diffrun.repository.dataid import SOURCE_BITS, DataId

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

_FIRST_FWHM = 3.0
#: How near a guess of it must have been; pixels of the middle in which it is looked for.
_SAME_SEEING, _MIDDLE = 0.25, 2048
#: Every so many rows and columns tell the noise well enough to find sources.
_COARSE = 3
_SMALLEST_SIDE = 32
_MOST_MISSING = 0.99
_HALF, _HALF_FWHM = (8, 22), 4.5
_REPAIR = 3
_GROW_SATURATED = 2
#: Stars below which the PSF is the same everywhere.
_FEW = 8


@dataclass(frozen=True)
class Ask:
    """What is to be made, as the user says it.

    Attributes
    ----------
    path : `pathlib.Path`
    hdu : `str`, optional
        Number or name of the image's HDU.
    mask, variance : `pathlib.Path`, optional
        Files of their own; the second may hold a variance, a sigma or an inverse variance.
    gain, saturation, psf_fwhm : `float`
        NaN where the user says nothing.
    part : `Part`, optional
        Rows and columns that are wanted of the image.
    """

    path: Path
    hdu: str | None = None
    mask: Path | None = None
    variance: Path | None = None
    gain: float = float("nan")
    saturation: float = float("nan")
    psf_fwhm: float = float("nan")
    part: Part = None


@dataclass(frozen=True)
class Calexp:
    """What was made, and what is known and was assumed of it; the file that is the calexp, if one is."""

    exposure: Exposure
    background: Background
    sources: Catalog
    facts: dict[str, Any]
    original: Path | None = None


@dataclass
class _Account:
    """What was measured (by name) and assumed (in words), as it comes up."""

    known: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(ask: Ask) -> tuple[plain.Plain, Any, companions.Noise | None, facts.Facts, tuple[Any, list[str]]]:
    """Image, mask, noise, what the cards say, WCS and its notes; `DataError` that names the file."""
    own = None if ask.hdu or ask.mask or ask.variance else companions.of_lsst_images(ask.path, ask.part)
    with plain.open_file(ask.path) as hdus:
        image = plain.read(hdus, ask.hdu, ask.path, ask.part)
        shape = (image.pixels.shape[0], image.pixels.shape[1])
        refuse_small(ask, shape)
        planes = own or (
            companions.find_mask(hdus, ask.mask, image.whole, ask.part),
            companions.find_noise(hdus, ask.variance, image.whole, ask.part),
        )
        return image, *planes, facts.read(image.header), projection.read(image.wcs_header, shape)


def make(ask: Ask, data_id: DataId) -> Calexp:
    """Make a calexp.

    Parameters
    ----------
    ask : `Ask`
    data_id : `diffrun.repository.dataid.DataId`
        Its ids and its filter.

    Raises
    ------
    diffrun.errors.DataError
        If the file is damaged, or holds no image that can be used.
    diffrun.errors.NoStarsError
        If no star tells the PSF, and the user does not either.
    """
    account = _Account()
    image, given_mask, given_noise, said, (wcs, wcs_notes) = read(ask)
    account.notes += [*image.notes, *said.notes, *wcs_notes]
    account.known |= {"hdu": image.hdu, "shape": list(image.pixels.shape)}

    pixels, mask, planes = _masked(image, ask, said, given_mask, account)
    plane = _Planes(mask, planes)
    ground = level_sky(pixels, plane, image.step, _FIRST_FWHM, (5.0, 3.0))
    fwhm = _seeing(pixels - ground.level, ground.sigma, plane, ask)
    ground = level_sky(pixels, plane, image.step, fwhm, (5.0, 3.0, 2.5), 1)
    flat, plane = _repaired(pixels - ground.level, ground.sigma, plane, fwhm, account)
    objects = stars.find(flat, ground.sigma, plane.has("NO_DATA"), fwhm)
    plane = plane.with_plane("DETECTED", _grown(objects.segments > 0, fwhm))
    detected, missing = plane.has("DETECTED"), plane.has("NO_DATA")
    variance, choice = noise.variance(given_noise, flat, ground, detected, missing, said, ask.gain)
    star = _psf(flat, variance, plane, objects, fwhm, ask, account)
    if choice.lacks_gain:
        variance, choice = noise.with_gain_of_stars(choice, flat, variance, detected, star.fit)
        if star.fit is not None:
            star = _psf(flat, variance, plane, objects, fwhm, ask, account)
    account.notes += [*choice.notes, *_last_notes(account.known)]
    account.known |= choice.known
    exposure = _exposure(flat, variance, plane, wcs, star.psf, said, data_id)
    if wcs is None:
        account.notes.append("the image has no WCS: its coordinates are made up")
    width = account.known["psf"]["fwhm_pixels"]
    table = sources.build(
        exposure, objects, width, star.rows, star.used, data_id.ccd_exposure_id << SOURCE_BITS
    )
    account.known["sources"] = len(table)
    return Calexp(exposure, ground.background, table, {**account.known, "notes": account.notes})


def _exposure(flat: Image, variance: Image, plane: _Planes, wcs: Any, psf: KernelPsf, said: facts.Facts,
              data_id: DataId) -> Exposure:  # fmt: skip
    """All that was found, as one exposure; pixels without a variance are missing as well."""
    unknown = ~np.isfinite(variance)
    plane = plane.with_plane("NO_DATA", unknown)
    typical = np.float32(np.nanmedian(variance))
    return Exposure(
        np.where(plane.has("NO_DATA"), np.float32(0), flat), plane.mask,
        np.where(unknown, typical, variance).astype(np.float32),
        wcs or projection.made_up(), psf, planes=plane.planes, filter=data_id.filter,
        flux_mag0=said.flux_mag0, mjd=said.mjd, exposure_time=said.exposure_time,
        metadata={**said.kept, **({} if wcs else {MADE_UP: True})},
    )  # fmt: skip


@dataclass(frozen=True)
class _Measured:
    """The PSF, the objects tried for it and those used, and the fit if there was one."""

    psf: KernelPsf
    rows: NDArray[np.int64]
    used: NDArray[np.int64]
    fit: psffit.Fit | None


@dataclass(frozen=True)
class _Planes:
    """A mask and the bits of its planes."""

    mask: NDArray[np.int32]
    planes: dict[str, int]

    def has(self, *names: str) -> Bool:
        """Where any of the named planes is set, (ny, nx); a plane that is not there is nowhere set."""
        bits = sum(1 << self.planes[name] for name in names if name in self.planes)
        return np.asarray((self.mask & np.int32(bits)) != 0)

    def with_plane(self, name: str, where: Bool) -> _Planes:
        """The same with a plane set in some pixels as well."""
        bit = np.int32(1 << self.planes[name])
        return replace(self, mask=np.where(where, self.mask | bit, self.mask))


def refuse_small(ask: Ask, shape: tuple[int, int]) -> None:
    """`DataError` for an image in which nothing can be measured."""
    if min(shape) < _SMALLEST_SIDE:
        raise DataError(
            f"{ask.path} has an image of {shape[1]} x {shape[0]} pixels",
            f"give one with at least {_SMALLEST_SIDE} on each side",
        )


def _masked(image: plain.Plain, ask: Ask, said: facts.Facts, given: Any, account: _Account
            ) -> tuple[Image, NDArray[np.int32], dict[str, int]]:  # fmt: skip
    """The pixels, finite everywhere, and the mask: as given, missing, filled, saturated."""
    pixels = image.pixels
    mask, planes, where = given or (np.zeros(pixels.shape, np.int32), dict(DEFAULT_PLANES), "")
    plane = _Planes(mask, planes)
    missing = ~np.isfinite(pixels) | plane.has("NO_DATA")
    if missing.mean() > _MOST_MISSING:
        raise DataError(
            f"{ask.path} has no usable pixels ({missing.mean():.1%} are missing)", "give another image"
        )
    ordinary = pixels[~missing]
    level, sigma = float(np.median(ordinary[::5])), sky.robust_sigma(ordinary[::5])
    if not sigma > 0:
        raise DataError(f"{ask.path} has no noise: most pixels are {level:g}", "give an image of the sky")
    blocks = defects.filled(np.where(missing, np.float32(np.nan), pixels), image.step, sigma)
    wanted = ask.saturation if np.isfinite(ask.saturation) else said.saturation
    limit, told = defects.saturation_level(np.where(missing, np.nan, pixels), wanted, level, sigma)
    saturated = (pixels >= limit) & ~missing
    blocks &= ~(pixels > level + 50 * sigma)
    saturated = (
        ndimage.binary_dilation(saturated, iterations=_GROW_SATURATED) if saturated.any() else saturated
    )
    plane = plane.with_plane("NO_DATA", missing | blocks).with_plane("SAT", saturated)
    account.known |= {
        "missing_pixels": int(missing.sum()), "filled_pixels": int((blocks & ~missing).sum()),
        "saturation": told, "mask": where or "none given",
    }  # fmt: skip
    if where:
        account.notes.append(f"mask: {where}")
    if missing.any():
        account.notes.append(f"{int(missing.sum())} pixels without a number are NO_DATA")
    if (blocks & ~missing).any():
        account.notes.append(f"{int((blocks & ~missing).sum())} pixels in blocks of one value are NO_DATA")
    if "believed" in told:
        account.notes.append(told)
    return np.where(plane.has("NO_DATA"), np.float32(level), pixels), plane.mask, plane.planes


def level_sky(pixels: Image, plane: _Planes | Exposure, step: float, fwhm: float,
              thresholds: tuple[float, ...], stride: int = _COARSE) -> sky.Sky:  # fmt: skip
    """The sky, measured again and again, each time without the sources above the last one."""
    ignored = plane.has("NO_DATA", "BAD", "SAT")
    found = sky.measure(pixels, ignored, step, _COARSE)
    for threshold in thresholds:
        smooth = ndimage.gaussian_filter(pixels - found.level, fwhm / FWHM_PER_SIGMA, truncate=3)
        noise_left = 1 / (2 * np.sqrt(np.pi) * fwhm / FWHM_PER_SIGMA)
        bright = smooth > threshold * noise_left * found.sigma
        hidden = ignored | _grown(bright, 2 * fwhm)
        if hidden.mean() > 0.9:
            break
        found = sky.measure(pixels, hidden, step, stride if threshold == thresholds[-1] else _COARSE)
    return found


def _grown(where: Bool, reach: float) -> Bool:
    return grown(where, int(np.ceil(reach)))


def _seeing(flat: Image, sigma: Image, plane: _Planes, ask: Ask) -> float:
    """The FWHM of the stars in pixels, of the middle of the image if it has any; else as the user says."""
    guess = ask.psf_fwhm if np.isfinite(ask.psf_fwhm) else _FIRST_FWHM
    hidden, saturated = plane.has("NO_DATA", "BAD"), plane.has("SAT")
    for most in (_MIDDLE, max(flat.shape)):
        edges = [(max(0, (n - most) // 2), min(n, (n + most) // 2)) for n in flat.shape]
        middle = tuple(slice(*edge) for edge in edges)
        found = _width_of_stars(flat[middle], sigma[middle], hidden[middle], saturated[middle], guess)
        if np.isfinite(found):
            return found
        if max(flat.shape) <= _MIDDLE:
            break
    return guess


def _width_of_stars(flat: Image, sigma: Image, hidden: Bool, saturated: Bool, guess: float) -> float:
    """The FWHM from the stars' half-light radius; NaN without a star. It is looked for twice if need be."""
    found = float("nan")
    for _ in range(2):
        sharp = _spikes(flat, sigma, hidden, min(guess, _FIRST_FWHM))
        objects = stars.find(np.where(sharp, np.float32(0), flat), sigma, hidden | sharp, guess, 8.0)
        rows = np.clip(np.rint(objects.y).astype(int), 0, flat.shape[0] - 1)
        columns = np.clip(np.rint(objects.x).astype(int), 0, flat.shape[1] - 1)
        radius = stars.half_light(objects, ~objects.astray & ~saturated[rows, columns])
        if not np.isfinite(radius):
            break
        found = float(np.clip(2 * radius, 1.0, 20.0))
        if abs(found / guess - 1) < _SAME_SEEING:
            break
        guess = found
    return found


def _spikes(flat: Image, sigma: Image, hidden: Bool, fwhm: float) -> Bool:
    """Pixels too sharp for stars of a FWHM."""
    star = psffit.moffat(9, fwhm, 4.0)
    found = np.zeros(flat.shape, bool)
    found[spikes(flat, sigma**2, hidden, np.True_, neighbours(star))] = True
    return found


def _repaired(flat: Image, sigma: Image, plane: _Planes, fwhm: float, account: _Account
              ) -> tuple[Image, _Planes]:  # fmt: skip
    """The image with defects closed from around them; what is too wide for that is missing.

    What was interpolated before, as the mask says, is left as it is.
    """
    missing = plane.has("NO_DATA")
    hot = _spikes(flat, sigma, missing | plane.has("SAT", "BAD"), fwhm)
    dead = defects.far_below(flat, sigma) & ~missing
    plane = plane.with_plane("CR", hot).with_plane("BAD", dead)
    account.known |= {"hot_pixels": int(hot.sum()), "dead_pixels": int(dead.sum())}
    if hot.any():
        number = int(hot.sum())
        account.notes.append(f"{number} pixels too sharp for the seeing (hot, cosmic rays) are interpolated")
    if dead.any():
        account.notes.append(f"{int(dead.sum())} pixels far below the sky are BAD")
    hole = (plane.has("CR", "BAD") | missing) & ~plane.has("SAT", "INTRP")
    closed, left = defects.interpolated(flat, hole, _REPAIR)
    plane = plane.with_plane("INTRP", hole & ~left & ~missing).with_plane("NO_DATA", left)
    return np.where(plane.has("NO_DATA"), np.float32(0), closed), plane


def half_width(fwhm: float) -> int:
    """Half width of a stamp of the PSF, pixels."""
    return int(np.clip(np.ceil(_HALF_FWHM * fwhm), *_HALF))


def _psf(flat: Image, variance: Image, plane: _Planes, objects: stars.Objects, fwhm: float, ask: Ask,
         account: _Account) -> _Measured:  # fmt: skip
    """The PSF from the stars, else of the width that the user gives."""
    half = half_width(fwhm)
    spoilt = plane.has("NO_DATA", "SAT", "BAD", "CR")
    rows, rejected = stars.select(objects, spoilt, half, fwhm)
    if np.isfinite(ask.psf_fwhm) or not len(rows):
        return _given_psf(flat.shape, half, ask, len(objects), rejected, account)
    noise_plane = np.where(np.isfinite(variance), variance, np.float32(np.nanmedian(variance)))
    alone = ~spoilt & np.isfinite(variance)
    x, y = objects.x[rows], objects.y[rows]
    stamps = psffit.cut(flat, noise_plane, alone, x, y, objects.segments, rows, half)
    fit = psffit.fit(stamps, (flat.shape[0], flat.shape[1]), fwhm)
    used = rows[fit.used]
    account.known["psf"] = {
        "stars": len(used), "candidates": len(rows), "rejected": rejected, "order": fit.order,
        "fwhm_pixels": round(_width(fit.psf), 4), "chi2": round(float(np.median(fit.chi2[fit.used])), 3),
    }  # fmt: skip
    return _Measured(fit.psf, rows, used, fit)


def _given_psf(shape: tuple[int, ...], half: int, ask: Ask, found: int, rejected: dict[str, int],
               account: _Account) -> _Measured:  # fmt: skip
    if not np.isfinite(ask.psf_fwhm):
        causes = ", ".join(f"{count} {cause}" for cause, count in rejected.items()) or "nothing is detected"
        raise NoStarsError(
            f"{ask.path}: no star for the PSF among {found} objects, 1 needed ({causes})",
            "give its FWHM in pixels",
        )
    image = psffit.moffat(2 * half + 1, ask.psf_fwhm, 4.0)
    box = (-0.5, -0.5, shape[1] - 0.5, shape[0] - 0.5)
    kernel = LinearCombinationKernel(image[np.newaxis], np.ones((1, 1)), box)
    psf = KernelPsf(kernel, (shape[1] / 2, shape[0] / 2))
    account.known["psf"] = {"stars": 0, "order": 0, "fwhm_pixels": round(_width(psf), 4)}
    none = np.zeros(0, np.int64)
    return _Measured(psf, none, none, None)


def _width(psf: KernelPsf) -> float:
    return width_of(psf, *psf.average_position)


def _last_notes(known: dict[str, Any]) -> list[str]:
    """What the PSF makes one careful about."""
    psf, notes = known["psf"], []
    width = psf["fwhm_pixels"]
    if psf["stars"] == 0:
        notes.append(f"the PSF is not measured: a Moffat profile of {width:.2f} pixels is taken")
    elif psf["stars"] < _FEW:
        number = f"{psf['stars']} star{'s' if psf['stars'] > 1 else ''}"
        notes.append(f"the PSF is measured from {number} only, the same all over the image")
    return notes
