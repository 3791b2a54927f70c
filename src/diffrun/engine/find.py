# SPDX-License-Identifier: BSD-3-Clause
"""The sources of a difference: background, detection and measurement in their order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine import brightstars, masks, regions, smoothpsf
from diffrun.engine.background import residual_background
from diffrun.engine.detect import Pixels, detect
from diffrun.engine.footprint import Footprint, for_file
from diffrun.engine.lobes import Beneath
from diffrun.engine.measure import measure
from diffrun.engine.significance import Filter, Preview, preview
from diffrun.engine.subtract import Subtraction
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure

#: Side of the cells of the residual background: its noise adds to the flux of every source.
_BACKGROUND_CELL = 256
#: Significance below which a pixel counts as blank sky.
_BLANK = 4.0
#: Places at which the filter is tried for its scatter, and their least distance, pixels.
_PLACES, _APART = 28_000, 8

Config = Any
Metadata = dict[str, Any]
Bool = NDArray[np.bool_]


def find(
    images: Subtraction, config: Config, log: logging.Logger
) -> tuple[Exposure, Sequence[Footprint], Metadata]:
    """Take off the residual background and detect sources of both signs: the final difference, and where."""
    log.info("Running diaSource detection")
    difference, rough, blank = without_background(images.difference)
    difference = with_halos(difference, images.science, rough.noise)
    judged = Filter(difference, images.science)
    error = brightstars.model_error(judged, rough.noise)
    sigma = smoothpsf.determinant_radius(difference.psf.kernel_image(*difference.psf.average_position))
    grow = int(config.detection.nSigmaToGrow * sigma + 0.5)
    threshold = config.detection.thresholdValue
    rows, columns = rough.over(threshold)
    found = Pixels(rows, columns, judged.at(rows, columns).snr(error))
    footprints, *signs = detect(
        found,
        difference.shape,
        difference.xy0,
        threshold,
        grow,
        config.growFootprint if config.doMerge else None,
        config.detection.thresholdPolarity,
    )
    for runs, plane in zip(signs, ("DETECTED", "DETECTED_NEGATIVE"), strict=True):
        difference.mask.ravel()[regions.pixels(runs, difference.shape[1])] |= difference.bits(plane)
    log.info("Merging detections into %d sources", len(footprints))
    facts: Metadata = {
        "imageDifference:detection.sigma": float(sigma),
        "imageDifference:detection.nGrow": grow,
        "imageDifference:detection.doSmooth": True,
        "imageDifference:quality.modelError": error,
        **quality(judged, blank),
    }
    return difference, footprints, facts


def measured(
    footprints: Sequence[Footprint],
    difference: Exposure,
    images: Subtraction,
    source_id_base: int,
    config: Config,
    log: logging.Logger,
) -> Catalog:
    """The sources of a difference, measured, with their footprints as they go into a file."""
    log.info("Running diaSource measurement")
    beneath = Beneath(images.science, images.science_share)
    sources = measure(footprints, difference, beneath, config, source_id_base)
    return replace(sources, footprints=for_file(footprints, difference))


def without_background(raw: Exposure) -> tuple[Exposure, Preview, Bool]:
    """The difference without its smooth background, its significance, and where it is blank sky.

    The background is taken in two passes, the second without what is a source; off the image itself, which
    nobody else has.
    """
    clean, image = raw.mask == 0, raw.image
    residual_background(image, clean, _BACKGROUND_CELL).take_off(image)
    rough = preview(raw, raw.psf)
    blank = rough.below(_BLANK)
    blank &= clean
    rest = residual_background(image, blank, _BACKGROUND_CELL)
    rest.take_off(image)
    return raw, rough.moved(rest.largest), blank


def with_halos(difference: Exposure, science: Any, noise: float) -> Exposure:
    """The difference with a mask of its own, SUSPECT where a saturated star lets nothing be judged."""
    planes = masks.with_planes(difference.planes, "SUSPECT")
    mask = difference.mask.copy()
    mask.ravel()[brightstars.halos(difference, science, noise)] |= np.int32(1 << planes["SUSPECT"])
    return difference.replace(mask=mask, planes=planes)


def quality(judged: Filter, blank: Bool) -> Metadata:
    """What the noise of blank sky is like, in units of what the variance plane says.

    ``noise`` is the scatter of pixels, ``lag1`` the correlation of neighbours, ``k`` the scatter of the
    matched filter: 1, 0 and 1 if all is well. ``flaggedFraction`` is the part of the pixels with data that
    saturated stars spoil.
    """
    e = judged.exposure
    some = slice(None, None, 16)
    clear = blank[some]
    z = np.where(clear, e.image[some], 0) / np.sqrt(np.where(clear, e.variance[some], 1))
    pairs = int(np.count_nonzero(clear[:, 1:] & clear[:, :-1]))
    power = max(float((z * z).sum()), 1e-30) / max(int(np.count_nonzero(clear)), 1)
    every = max(_APART, int(np.sqrt(blank.size / _PLACES)))
    rows, columns = (
        (axis * every + every // 2).astype(np.int32)
        for axis in np.nonzero(blank[every // 2 :: every, every // 2 :: every])
    )
    no_data, saturated = np.int32(e.bits("NO_DATA")), np.int32(e.bits("SAT", "SAT_TEMPLATE", "SUSPECT"))
    sample = e.mask[::4, ::4]
    data = (sample & no_data) == 0
    task = "imageDifference:quality"
    return {
        f"{task}.noise": _scatter(z[clear]),
        f"{task}.lag1": float((z[:, 1:] * z[:, :-1]).sum()) / max(pairs, 1) / power,
        f"{task}.k": _scatter(judged.at(rows, columns).snr()),
        f"{task}.flaggedFraction": float(((sample & saturated) != 0)[data].mean()) if data.any() else 1.0,
    }


def _scatter(values: Any) -> float:
    """Standard deviation of a Gaussian with the quartiles of the values; NaN where there are none."""
    if len(values) < 2:
        return float("nan")
    low, high = np.quantile(values, [0.25, 0.75])
    return float((high - low) / 1.34898)
