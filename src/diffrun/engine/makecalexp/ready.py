# SPDX-License-Identifier: BSD-3-Clause
"""Exposures of the stack, of any of its years: kept as they are, and given the ``src`` that they lack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.blocks import marked
from diffrun.engine.makecalexp import plain, sources, stars
from diffrun.engine.makecalexp.make import Ask, Calexp, half_width, level_sky, refuse_small
from diffrun.engine.masks import fill
from diffrun.engine.smoothpsf import centre, field_box, fwhm, smooth
from diffrun.errors import DataError
from diffrun.files import fitsread
from diffrun.files.afw.background import Background, Layer
from diffrun.files.afw.exposure import Exposure, Wcs
from diffrun.files.afw.photocalib import flattened
from diffrun.files.afw.psf import KernelPsf
from diffrun.files.afw.reader import read_exposure, read_summary
from diffrun.repository.dataid import SOURCE_BITS, DataId

Array = NDArray[np.float64]
_CENTROID = ("base_SdssCentroid_x", "base_SdssCentroid_y")


def of_stack(ask: Ask) -> tuple[Exposure | None, list[str]]:
    """The exposure of a file that brings PSF and WCS, if it is one; and why it is a plain image all the same.

    Raises
    ------
    diffrun.errors.DataError
        If the file is damaged.
    """
    with fitsread.opened(ask.path, pixels=False) as hdus:
        if not any("AR_HDU" in hdu.header for hdu in hdus[:2]):
            return None, []
    told = _told(ask)
    if told:
        return None, [f"an exposure of the stack, taken as a plain image because of {', '.join(told)}"]
    try:
        summary = read_summary(ask.path)
    except DataError as error:
        return None, [f"an exposure of the stack, taken as a plain image: {error.message}"]
    lacking = [name for name in ("psf", "wcs") if getattr(summary, name) is None]
    if lacking:
        return None, [
            f"an exposure of the stack without {' and '.join(lacking).upper()}, taken as a plain image"
        ]
    return read_exposure(ask.path, lambda _: ask.part), []


def _told(ask: Ask) -> list[str]:
    """The options by which the user says what the file says otherwise."""
    given = {"--hdu": ask.hdu, "--mask": ask.mask, "--variance": ask.variance}
    numbers = {"--gain": ask.gain, "--saturation": ask.saturation, "--psf-fwhm": ask.psf_fwhm}
    return [name for name, item in given.items() if item is not None] + [
        name for name, value in numbers.items() if np.isfinite(value)
    ]


def make(exposure: Exposure, ask: Ask, data_id: DataId) -> Calexp:
    """The exposure with its ``src``; the file itself becomes the calexp.

    Parameters
    ----------
    exposure : `diffrun.files.afw.exposure.Exposure`
        As `of_stack` gives it.
    ask : `Ask`
    data_id : `diffrun.repository.dataid.DataId`

    Raises
    ------
    diffrun.errors.DataError
        If it has no pixel that can be used.
    """
    refuse_small(ask, exposure.shape)
    box = field_box(exposure)
    width = fwhm(exposure.psf, *centre(box))
    half = half_width(width)
    filled = fill(flattened(marked(exposure)[0]), ask.path.name)
    local = _local(filled, smooth(exposure.psf, box, half))
    ground = level_sky(local.image, local, 0.0, width, (5.0, 3.0))
    local = local.replace(image=local.image - ground.level)
    missing = local.has("NO_DATA")
    objects = stars.find(local.image, np.sqrt(local.variance), missing, width)
    rows, rejected = stars.select(objects, local.has("NO_DATA", "SAT", "BAD", "CR"), half, width)
    table = sources.build(local, objects, width, rows, rows, data_id.ccd_exposure_id << SOURCE_BITS)
    moved = {name: table[name] + first for name, first in zip(_CENTROID, exposure.xy0, strict=True)}
    whole, none = read_summary(ask.path), np.zeros((1, 1), np.float32)
    layer = Layer(none, np.ones_like(none), (*whole.xy0, *whole.shape[::-1]), "CONSTANT")
    known: dict[str, Any] = {
        "shape": list(whole.shape),
        "missing_pixels": int(missing.sum()),
        "sources": len(table),
        "psf": {"given": True, "stars": len(rows), "rejected": rejected, "fwhm_pixels": round(width, 4)},
        "notes": ["an exposure of the stack: its PSF, WCS, mask, variance and zero point are kept"]
        + [f"for the src, {note}" for note in plain.part_note(ask.part)],
    }
    table = replace(table, columns={**table.columns, **moved})
    return Calexp(exposure, Background((layer,)), table, known, original=ask.path)


@dataclass(frozen=True)
class _Moved:
    """A WCS whose pixels begin at 0."""

    wcs: Wcs
    x0: int
    y0: int

    def pixel_to_sky(self, x: Array, y: Array) -> tuple[Array, Array]:
        return self.wcs.pixel_to_sky(np.asarray(x) + self.x0, np.asarray(y) + self.y0)


def _local(exposure: Exposure, psf: KernelPsf) -> Exposure:
    """The exposure with its first pixel at 0."""
    x0, y0 = exposure.xy0
    left, bottom, right, top = psf.kernel.box
    kernel = replace(psf.kernel, box=(left - x0, bottom - y0, right - x0, top - y0))
    x, y = psf.average_position
    moved = KernelPsf(kernel, (x - x0, y - y0))
    return exposure.replace(xy0=(0, 0), psf=moved, wcs=_Moved(exposure.wcs, x0, y0))
