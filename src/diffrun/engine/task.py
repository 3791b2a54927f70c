# SPDX-License-Identifier: BSD-3-Clause
"""The way from two exposures to a difference and its sources: read `run` first.

Each stage is a function of arrays in a module of its own; this one puts them in order, as
``lsst.pipe.tasks.imageDifference.ImageDifferenceTask`` does, and reads the configuration for them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffrun.engine import basis as al
from diffrun.engine import candidates as stars
from diffrun.engine import decorrelate, masks, smoothpsf, solve
from diffrun.engine.background import residual_background
from diffrun.engine.detect import detect, significance
from diffrun.engine.measure import measure
from diffrun.engine.smoothpsf import FWHM_PER_SIGMA
from diffrun.engine.subtract import Pair, Subtraction, subtract
from diffrun.engine.warp import warp
from diffrun.errors import DataError
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel

#: Half width of the PSF stamps of the difference: LSST's largest PSF model has a side of 45.
_PSF_HALF = 22
#: Half width of the stamps in which the kernel is fitted, in FWHM of the wider PSF, and its bounds in pixels.
#: Smaller stamps miss the wings, larger ones bring in more noise.
_FIT_REACH, _FIT_HALF = 4.5, (10, 26)
#: Part by which one PSF may be the wider and still be convolved as asked: no kernel sharpens by so little.
_SAME_SEEING = 0.005
#: Most cells along an axis in which candidates are chosen: on a whole sensor they are larger than configured.
_MOST_CELLS = 12
#: Side of the cells of the residual background of the difference.
_BACKGROUND_CELL = 128
#: Significance below which a pixel counts as blank sky there.
_BLANK = 4.0

Config = Any
Metadata = dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What one difference is made from; images with their sky as the configuration wants it."""

    science: Exposure
    template: Exposure
    science_sources: Catalog | None
    source_id_base: int


@dataclass(frozen=True)
class Result:
    """One difference: its exposure, the matched template, the sources and the matching kernel."""

    difference: Exposure
    matched: Exposure
    sources: Catalog
    kernel: LinearCombinationKernel
    metadata: Metadata


def run(inputs: Inputs, config: Config, log: logging.Logger) -> Result:
    """Subtract a template from a science exposure and measure what is left.

    Parameters
    ----------
    inputs : `Inputs`
        Exposures with their PSFs and sources.
    config : `ImageDifferenceConfig`
        The stack's configuration tree.
    log : `logging.Logger`
        Told of each stage in the stack's words.

    Raises
    ------
    NoOverlapError, NoStarsError, DataError
        When no difference can be made; the message says why.
    """
    science, science_sky = prepare(inputs.science, "science")
    template, template_sky = prepare(inputs.template, "template")
    pair, sigmas = align(science, template, config, log)
    chosen = choose(pair, sigmas, inputs.science_sources, config, log)
    solution, basis_facts = match(pair, sigmas, chosen, config, log)
    images = subtract(pair, solution.kernel, config.doDecorrelation)
    difference, sources, detection_facts = find(images, inputs, science_sky, config, log)
    scale = float(solution.kernel.at(*smoothpsf.centre(solution.kernel.box)).sum())
    template_sky *= scale if pair.convolve_template else 1 / scale
    matched = images.matched_template
    matched = matched.replace(image=matched.image + np.float32(template_sky), filter=template.filter)
    facts = {**basis_facts, **detection_facts}
    return Result(with_missing(difference), with_missing(matched), sources, solution.kernel, facts)


def prepare(exposure: Exposure, name: str) -> tuple[Exposure, float]:
    """An exposure without NaN and with the sky at 0, and the level that was taken off."""
    if exposure.psf is None:
        raise DataError(f"the {name} exposure has no psf", "process it with a task that fits one")
    filled = masks.fill(exposure, name)
    sky = float(np.median(filled.image[::3, ::3]))
    image = filled.image - np.float32(sky)
    image[filled.has("NO_DATA")] = 0
    return filled.replace(image=image), sky


def align(science: Exposure, template: Exposure, config: Config, log: logging.Logger) -> tuple[Pair, Any]:
    """Bring the template onto the science grid, and decide which of the two is convolved.

    Returns
    -------
    pair : `Pair`
    sigmas : `tuple` of `float`
        Sigma of the PSF of the science image and of the warped template, pixels, at the centre.
    """
    active = config.subtract.kernel.active
    order = int(active.warpingConfig.warpingKernelName.removeprefix("lanczos"))
    step = active.warpingConfig.interpLength
    box = field_box(science)

    def to_template(x: Any, y: Any) -> Any:
        return template.wcs.sky_to_pixel(*science.wcs.pixel_to_sky(x, y))

    science_psf = smoothpsf.smooth(science.psf, box, _PSF_HALF)
    template_psf = smoothpsf.warped(template.psf, to_template, box, _PSF_HALF)
    sigmas = tuple(
        smoothpsf.determinant_radius(p.kernel_image(*smoothpsf.centre(box)))
        for p in (science_psf, template_psf)
    )
    convolve_template = convolves_template(sigmas, config, log)
    border = active.kernelSizeMax // 2 if convolve_template else 0
    warped = warp(template, science, border, order, step)
    power = warped.resampling.power(decorrelate.power_grid())
    if convolve_template:
        return Pair(science, warped.exposure, science_psf, template_psf, None, power, True, border), sigmas
    return Pair(warped.exposure, science, template_psf, science_psf, power, None, False, border), sigmas


def convolves_template(sigmas: tuple[float, ...], config: Config, log: logging.Logger) -> bool:
    """Whether the template is convolved: when asked for, and possible without sharpening it."""
    science, template = (FWHM_PER_SIGMA * sigma for sigma in sigmas)
    wanted = bool(config.convolveTemplate)
    sharper = template <= science * (1 + _SAME_SEEING) if wanted else template * (1 + _SAME_SEEING) < science
    widths = f"the FWHM is {science:.2f} px in the science image and {template:.2f} px in the template"
    if sharper == wanted:
        return wanted
    if config.mode == "literal":
        log.warning("convolveTemplate=%s is obeyed although the kernel must sharpen: %s", wanted, widths)
        return wanted
    name = "template" if sharper else "science image"
    log.warning("Convolving the %s, which is the sharper: %s", name, widths)
    return bool(sharper)


def field_box(exposure: Exposure) -> tuple[float, float, float, float]:
    """The pixel edges of an exposure as a box in parent pixels."""
    (x0, y0), (ny, nx) = exposure.xy0, exposure.shape
    return x0 - 0.5, y0 - 0.5, x0 + nx - 0.5, y0 + ny - 0.5


def choose(
    pair: Pair, sigmas: tuple[float, ...], sources: Catalog | None, config: Config, log: logging.Logger
) -> stars.Candidates:
    """The stars of ``src``, else those detected, that both images show well and with a constant flux."""
    active = config.subtract.kernel.active
    threshold = active.detectionConfig.detThreshold
    science = pair.science
    if sources is None:
        log.info("Source selection via detection")
        found = stars.from_image(
            science, smoothpsf.smooth(science.psf, field_box(science), _PSF_HALF), threshold
        )
    else:
        log.info("Source selection via src product")
        found = stars.from_sources(sources, threshold)
    core, (ny, nx) = FWHM_PER_SIGMA * max(sigmas), pair.plain.shape
    found = stars.with_clean_cores(found, [science, pair.template], core, border=int(core) + 1)
    stars.require(found, 1, "seen well in both images")
    found = stars.constant(found, science, pair.template, core)
    cell_x, cell_y = (
        max(active.sizeCellX, -(-nx // _MOST_CELLS)),
        max(active.sizeCellY, -(-ny // _MOST_CELLS)),
    )
    chosen = stars.spread(found, pair.plain, cell_x, cell_y, active.nStarPerCell)
    stars.require(chosen, 1, "with a common flux ratio")
    total = len(chosen) + sum(chosen.rejected.values())
    log.info("Selected %d / %d sources for Psf matching", len(chosen), total)
    return chosen


def match(
    pair: Pair, sigmas: tuple[float, ...], chosen: stars.Candidates, config: Config, log: logging.Logger
) -> tuple[solve.Solution, Metadata]:
    """Fit the matching kernel to the candidates."""
    active = config.subtract.kernel.active
    narrow, wide = sorted(sigmas)
    plain, convolved = sigmas if pair.convolve_template else reversed(sigmas)
    sharpens = convolved > plain * (1 + _SAME_SEEING)
    smallest = active.alardMinSigDeconv if sharpens else active.alardMinSig
    widths = al.matching_sigmas(narrow, wide, smallest, active.alardNGauss, active.alardGaussBeta)
    size = al.kernel_size(
        widths,
        FWHM_PER_SIGMA * wide,
        active.kernelSizeFwhmScaling,
        active.kernelSizeMin,
        active.kernelSizeMax,
    )
    basis = al.gaussian_basis(size, widths, list(active.alardDegGauss))
    log.info("Subtracting images")
    hidden = 1.0 if pair.plain_power is None else float(pair.plain_power.mean())
    target = pair.plain.replace(variance=pair.plain.variance * np.float32(hidden))
    half = int(np.clip(_FIT_REACH * FWHM_PER_SIGMA * wide, *_FIT_HALF))
    stamps = solve.cut(pair.convolved, target, chosen, basis, half)
    solution = solve.solve(
        stamps,
        basis,
        field_box(pair.plain),
        active.spatialKernelOrder,
        active.maxSpatialIterations,
        active.fitForBackground,
    )
    used = int(solution.used.sum())
    if solution.order < active.spatialKernelOrder:
        log.warning(
            "Only %d kernel candidates: the kernel varies with order %d, not %d",
            used,
            solution.order,
            active.spatialKernelOrder,
        )
    task = "imageDifference:subtract"
    facts: Metadata = {
        f"{task}.ALBasisNGauss": len(widths),
        f"{task}.ALBasisDegGauss": list(active.alardDegGauss),
        f"{task}.ALBasisSigGauss": widths,
        f"{task}.ALKernelSize": size,
        f"{task}.spatialConditionNum": solution.condition,
        f"{task}.spatialKernelSum": float(solution.kernel.at(*smoothpsf.centre(solution.kernel.box)).sum()),
        f"{task}.spatialKernelOrder": solution.order,
        f"{task}.nCandidates": len(chosen),
        f"{task}.nCandidatesUsed": used,
        f"{task}.candidateChi2": float(np.median(solution.chi2[solution.used])),
        f"{task}.mismatch": solution.mismatch,
        f"{task}.convolved": "template" if pair.convolve_template else "science",
        f"{task}.scienceFwhm": float(FWHM_PER_SIGMA * sigmas[0]),
        f"{task}.templateFwhm": float(FWHM_PER_SIGMA * sigmas[1]),
    }
    return solution, facts


def find(
    images: Subtraction, inputs: Inputs, science_sky: float, config: Config, log: logging.Logger
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
    science = images.science.replace(image=images.science.image + np.float32(science_sky), mask=mask)
    matched = images.matched.replace(
        image=images.matched.image + background + np.float32(science_sky), mask=mask
    )
    sources = measure(footprints, difference, science, matched, config, inputs.source_id_base)
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


def with_missing(exposure: Exposure) -> Exposure:
    """An exposure for the file: NaN in image and variance where there is no data."""
    missing = exposure.has("NO_DATA")
    nan = np.float32("nan")
    return exposure.replace(
        image=np.where(missing, nan, exposure.image), variance=np.where(missing, nan, exposure.variance)
    )
