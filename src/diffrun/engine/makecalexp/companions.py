# SPDX-License-Identifier: BSD-3-Clause
"""Masks and noise planes that come with an image, and what they turn out to mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from diffrun.engine.makecalexp import plain, sdssmask
from diffrun.errors import DataError
from diffrun.files import fitsread
from diffrun.files.afw import cards, lsstimages
from diffrun.files.afw.exposure import DEFAULT_PLANES
from diffrun.files.afw.reader import Part, read_exposure

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

#: Its bits, the bit of each plane, and where it is from.
Mask = tuple[NDArray[np.int32], dict[str, int], str]

#: How a noise plane may be meant, and the variance that it then stands for.
READINGS = ("variance", "sigma", "inverse variance")
#: A name is believed as long as its plane tells the noise within these factors (of sigma).
_BELIEVED = (0.6, 2.5)
_MATCH = 1.35
_MOSTLY = 0.5


@dataclass(frozen=True)
class Noise:
    """A plane that tells the noise, and how it is named: one of `READINGS`, or nothing."""

    pixels: Image
    named: str
    where: str


def find_noise(
    hdus: fits.HDUList, other: Path | None, shape: tuple[int, int], part: Part = None
) -> Noise | None:
    """The noise plane of a file of its own, else of an HDU beside the image; `None` if there is none.

    ``shape`` is that of the whole image, of which a ``part`` may be wanted.
    """
    if other is not None:
        with plain.open_file(other) as opened:
            number, _ = plain.choose(opened, None, other)
            return _noise(opened[number], shape, str(other), part)
    for hdu in hdus:
        if plain.is_image(hdu) and _named(hdu.name):
            return _noise(hdu, shape, f"the HDU {hdu.name}", part)
    return None


def _noise(hdu: Any, shape: tuple[int, int], where: str, part: Part) -> Noise:
    _refuse_other(hdu, shape, where)
    pixels, _ = plain.scaled(hdu, part)
    unit = str(hdu.header.get("BUNIT", "")).replace(" ", "").lower()
    squared = unit.endswith(("**2", "^2", "2")) and "-2" not in unit
    return Noise(pixels, _named(hdu.name) or ("variance" if squared else ""), where)


def _refuse_other(hdu: Any, shape: tuple[int, int], where: str) -> None:
    if hdu.shape[-2:] != shape:
        raise DataError(
            f"{where} has the shape {hdu.shape[-2:]}, the image {shape}", "give planes of one shape"
        )


def _named(name: str) -> str:
    """How an HDU of this name is meant."""
    for reading, names in zip(
        READINGS, (plain.VARIANCE_NAMES, plain.SIGMA_NAMES, plain.WEIGHT_NAMES), strict=True
    ):
        if name.upper() in names:
            return reading
    return ""


def of_lsst_images(path: Path, part: Part) -> tuple[Mask, Noise] | None:
    """Mask and noise of a file of lsst-images, whose mask may lie in several HDUs; `None` for any other."""
    with fitsread.opened(path, pixels=False) as hdus:
        if not lsstimages.is_one(hdus):
            return None
    found = read_exposure(path, lambda _: part)
    planes, where = dict(found.planes), "the HDU VARIANCE"
    said = f"the HDUs MASK, planes by name ({', '.join(sorted(planes))})"
    return (found.mask, planes, said), Noise(found.variance, "variance", where)


def as_variance(noise: Noise, sigma: Image, quiet: Bool) -> tuple[Image | None, str]:
    """The plane as a variance, after measuring it against the image's own noise.

    Parameters
    ----------
    noise : `Noise`
    sigma : `numpy.ndarray`, (ny, nx), float32
        Noise of the sky as measured on the image.
    quiet : `numpy.ndarray`, (ny, nx), bool
        Pixels of plain sky.

    Returns
    -------
    variance : `numpy.ndarray` or `None`
        NaN where the plane has no meaning; `None` if the plane tells another noise than the image shows.
    said : `str`
        What was found.
    """
    ratios = {}
    for reading in READINGS:
        with np.errstate(all="ignore"):
            ratio = np.sqrt(_read(noise.pixels[quiet], reading)) / sigma[quiet]
        usable = ratio[np.isfinite(ratio) & (ratio > 0)]
        ratios[reading] = float(np.median(usable)) if len(usable) > 0.1 * len(ratio) else float("nan")
    best = min(READINGS, key=lambda r: abs(np.log(ratios[r])) if ratios[r] > 0 else np.inf)
    named = noise.named
    if named and _BELIEVED[0] < ratios[named] < _BELIEVED[1]:
        return _read(noise.pixels, named), f"{noise.where}, {named}: {_told(ratios[named])}"
    if ratios[best] > 0 and abs(np.log(ratios[best])) < np.log(_MATCH):
        instead = f" (not {named}, {_told(ratios[named])})" if named else ""
        return _read(noise.pixels, best), f"{noise.where}, {best} by measure{instead}: {_told(ratios[best])}"
    if named == "inverse variance" and ratios[named] > 0:
        scaled = _read(noise.pixels, named) / np.float32(ratios[named] ** 2)
        return scaled, f"{noise.where}, relative weights, scaled to the image's own noise"
    factor = ratios[named or best]
    return None, f"{noise.where} is not used: {_told(factor)}"


def _told(ratio: float) -> str:
    return f"it tells {ratio:.3g} times the noise measured on the sky"


def _read(pixels: Image, reading: str) -> Image:
    """The plane as a variance; NaN where it cannot be one."""
    with np.errstate(all="ignore"):
        value = pixels if reading == "variance" else pixels**2 if reading == "sigma" else 1 / pixels
    return np.where(np.isfinite(value) & (value > 0), value, np.float32(np.nan)).astype(np.float32)


def find_mask(
    hdus: fits.HDUList, other: Path | None, shape: tuple[int, int], part: Part = None
) -> Mask | None:
    """The mask as bits of planes, from a file of its own or an HDU; `None` if there is none.

    ``shape`` is that of the whole image, of which a ``part`` may be wanted.

    Returns
    -------
    mask : `numpy.ndarray`, (ny, nx), int32
    planes : `dict`
        Bit of each plane by name; a mask without names is all BAD.
    said : `str`
    """
    if other is not None:
        with plain.open_file(other) as opened:
            if sdssmask.is_mask(opened):
                mask, planes, said = sdssmask.read(opened, shape, other)
                return mask[part or ...], planes, said
            named = [h for h in opened if plain.is_image(h) and h.name.upper() in plain.MASK_NAMES]
            hdu = named[0] if named else opened[plain.choose(opened, None, other)[0]]
            return _mask(hdu, shape, str(other), part)
    for hdu in hdus:
        if plain.is_image(hdu) and hdu.name.upper() in plain.MASK_NAMES:
            return _mask(hdu, shape, f"the HDU {hdu.name}", part)
    return None


def _mask(
    hdu: Any, shape: tuple[int, int], where: str, part: Part
) -> tuple[NDArray[np.int32], dict[str, int], str]:
    _refuse_other(hdu, shape, where)
    raw = plain.stored(hdu, part)
    bits = cards.plane_bits(hdu.header)
    if raw.dtype.kind in "iu" and bits:
        zero = round(float(hdu.header.get("BZERO", 0)))
        values = (raw.astype(np.int64) + zero).astype(np.uint32).view(np.int32)
        mask, planes = cards.renumber(np.ascontiguousarray(values), bits)
        return mask, planes, f"{where}, planes by name ({', '.join(sorted(bits))})"
    with np.errstate(invalid="ignore"):
        marked = np.asarray(raw * float(hdu.header.get("BSCALE", 1)) + float(hdu.header.get("BZERO", 0)) != 0)
    share, said = float(marked.mean()), f"{where}, every pixel that is not 0 is BAD"
    if share > _MOSTLY:
        if len(np.unique(raw[::5, ::5])) > 2:
            raise DataError(f"{where} marks {share:.0%} of the pixels", "give a mask with 0 for good pixels")
        marked, said = ~marked, f"{where}, taken as 1 for good pixels, since {share:.0%} of them have it"
    return marked.astype(np.int32) << DEFAULT_PLANES["BAD"], dict(DEFAULT_PLANES), said
