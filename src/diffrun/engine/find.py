# SPDX-License-Identifier: BSD-3-Clause
"""The sources of a difference: background, detection and measurement in their order."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from diffrun.engine import smoothpsf
from diffrun.engine.background import residual_background
from diffrun.engine.detect import detect, significance
from diffrun.engine.lobes import Beneath
from diffrun.engine.measure import measure
from diffrun.engine.subtract import Subtraction
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure

#: Side of the cells of the residual background of the difference.
_BACKGROUND_CELL = 128
#: Significance below which a pixel counts as blank sky there.
_BLANK = 4.0

Config = Any
Metadata = dict[str, Any]


def find(
    images: Subtraction, source_id_base: int, config: Config, log: logging.Logger
) -> tuple[Exposure, Catalog, Metadata]:
    """Take off the residual background, detect sources of both signs, measure them."""
    raw = images.difference
    log.info("Running diaSource detection")
    background = remaining_background(raw)
    difference = raw.replace(image=raw.image - background)
    sigma = smoothpsf.determinant_radius(difference.psf.kernel_image(*difference.psf.average_position))
    grow = int(config.detection.nSigmaToGrow * sigma + 0.5)
    merge = config.growFootprint if config.doMerge else None
    snr = significance(difference, difference.psf)
    footprints, positive, negative = detect(
        snr, difference.xy0, config.detection.thresholdValue, grow, merge, config.detection.thresholdPolarity
    )
    planes = difference.planes
    mask = difference.mask.copy()
    mask[positive] |= np.int32(1 << planes["DETECTED"])
    mask[negative] |= np.int32(1 << planes["DETECTED_NEGATIVE"])
    difference = difference.replace(mask=mask)
    log.info("Merging detections into %d sources", len(footprints))
    log.info("Running diaSource measurement")
    beneath = Beneath(images.science, images.science_share)
    sources = measure(footprints, difference, beneath, config, source_id_base)
    facts: Metadata = {
        "imageDifference:detection.sigma": float(sigma),
        "imageDifference:detection.nGrow": grow,
        "imageDifference:detection.doSmooth": True,
    }
    return difference, sources, facts


def remaining_background(difference: Exposure) -> Any:
    """The smooth background of a difference in two passes, the second without what is a source."""
    clean = difference.mask == 0
    coarse = residual_background(difference.image, clean, 2 * _BACKGROUND_CELL, stride=2)
    flat = difference.replace(image=difference.image - coarse)
    blank = clean & (np.abs(significance(flat, flat.psf)) < _BLANK)
    return coarse + residual_background(flat.image, blank, _BACKGROUND_CELL)
