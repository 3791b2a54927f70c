# SPDX-License-Identifier: BSD-3-Clause
"""The way from two exposures to a difference and its sources: read `run` first.

Each stage is a function of arrays in a module of its own; this one puts them in order, as
``lsst.pipe.tasks.imageDifference.ImageDifferenceTask`` does, and reads the configuration for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffrun.engine import masks, register, smoothpsf, spikes
from diffrun.engine.candidates import Candidates
from diffrun.engine.find import find, measured
from diffrun.engine.match import choose, match, seen
from diffrun.engine.overlap import lacks_wcs
from diffrun.engine.smoothpsf import FWHM_PER_SIGMA, SAME_SEEING, field_box
from diffrun.engine.subtract import Pair, subtract
from diffrun.engine.warp import warp
from diffrun.errors import DataError
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure, Psf
from diffrun.files.afw.reader import ExposureSummary

#: Half width of the PSF stamps of the difference: LSST's largest PSF model has a side of 45.
_PSF_HALF = 22
#: For what is done a second time, and was told the first.
_MUTE = logging.Logger("mute")
_MUTE.disabled = True

Config = Any
#: Takes a product as soon as it is ready, with its name in the stack: kernel, matchedExp, diaSrc,
#: differenceExp, metadata.
Hand = Callable[[str, Any], None]


@dataclass(frozen=True)
class Inputs:
    """What one difference is made from; images with their sky as the configuration wants it.

    An exposure is asked for when it is needed, and again if the template is moved; who asks has the only
    reference to it, and may write into its planes. What the science exposure is beside its pixels is known
    before.
    """

    science_summary: ExposureSummary
    science: Callable[[], Exposure]
    template: Callable[[], Exposure]
    science_sources: Catalog | None
    source_id_base: int


def run(inputs: Inputs, config: Config, log: logging.Logger, hand: Hand) -> None:
    """Subtract a template from a science exposure and measure what is left.

    Parameters
    ----------
    inputs : `Inputs`
        Exposures with their PSFs and sources.
    config : `ImageDifferenceConfig`
        The stack's configuration tree.
    log : `logging.Logger`
        Told of each stage in the stack's words.
    hand : callable
        Given each product with its name. What it is given is not changed afterwards.

    Raises
    ------
    NoOverlapError, NoStarsError, DataError
        When no difference can be made; the message says why.
    """
    pair, sigmas, found, register_facts = registered(inputs, config, log)
    chosen = choose(pair, sigmas, found, config, log)
    solution, basis_facts = match(pair, sigmas, chosen, config, log)
    hand("kernel", solution.kernel)
    images = subtract(
        pair, solution.kernel, config.doDecorrelation, lambda matched: hand("matchedExp", matched)
    )
    difference, footprints, detection_facts = find(images, config, log)
    hand("differenceExp", difference)
    hand("diaSrc", measured(footprints, difference, images, inputs.source_id_base, config, log))
    hand("metadata", {**register_facts, **basis_facts, **detection_facts})


def prepare(exposure: Exposure, name: str, log: logging.Logger) -> tuple[Exposure, float]:
    """An exposure without NaN or hot pixels, its sky at 0, and that level, taken off the image itself."""
    required(exposure.psf, name)
    filled = masks.fill(exposure, name)
    sky = float(np.median(filled.image[::3, ::3]))
    np.subtract(filled.image, np.float32(sky), out=filled.image)
    np.copyto(filled.image, 0, where=filled.has("NO_DATA"))
    return spikes.repaired(filled, f"{name} image", log), sky


def required(psf: Psf | None, name: str) -> Psf:
    """The PSF of an exposure, which is refused if it has none."""
    if psf is None:
        raise DataError(f"the {name} exposure has no psf", "process it with a task that fits one")
    return psf


def registered(
    inputs: Inputs, config: Config, log: logging.Logger
) -> tuple[Pair, tuple[float, float], Candidates, dict[str, Any]]:
    """Both images on the science grid, the widths of their PSFs, the stars seen, and how well they meet.

    By their WCS at first; the stars tell whether that is right, and the template is warped anew if not.
    """
    pair, sigmas, sky = align(inputs, None, config, log)
    found = seen(pair.science, sigmas[0], inputs.science_sources, config, log)
    if sky is not inputs.science_summary.wcs:
        return pair, sigmas, found, {}
    better, facts = register.moved(pair, found, sigmas, sky, lambda: _again(inputs), log)
    if better is not sky:
        del pair
        pair, sigmas, _ = align(inputs, better, config, _MUTE)
    return pair, sigmas, found, facts


def _again(inputs: Inputs) -> Exposure:
    """The template as it is before it is warped."""
    return prepare(inputs.template(), "template", _MUTE)[0]


def align(
    inputs: Inputs, sky: Any, config: Config, log: logging.Logger
) -> tuple[Pair, tuple[float, float], Any]:
    """Bring the template onto the science grid, and decide which of the two is convolved.

    The pixels of the template are dropped before those of the science image are read.

    Parameters
    ----------
    inputs : `Inputs`
    sky : `Wcs` or `None`
        Where the pixels of the science image are on the template's sky; without it, as the WCS have it, or
        the stars where there is none.
    config : `ImageDifferenceConfig`
    log : `logging.Logger`

    Returns
    -------
    pair : `Pair`
    sigmas : `tuple` of `float`
        Sigma of the PSF of the science image and of the warped template, pixels, at the centre.
    sky : `Wcs`
        What was used.
    """
    active = config.subtract.kernel.active
    template, template_sky = prepare(inputs.template(), "template", log)
    _require_wcs(inputs.science_summary.wcs, "science")
    _require_wcs(template.wcs, "template")
    if sky is None:
        sky = register.claimed(inputs.science_summary, template, inputs.science_sources, log)
    science = replace(inputs.science_summary, wcs=sky)
    box, template_wcs = field_box(science), template.wcs

    def to_template(x: Any, y: Any) -> Any:
        return template_wcs.sky_to_pixel(*sky.pixel_to_sky(x, y))

    psfs = (
        smoothpsf.smooth(required(science.psf, "science"), box, _PSF_HALF),
        smoothpsf.warped(template.psf, to_template, box, _PSF_HALF),
    )
    middle = smoothpsf.centre(box)
    of_science, of_template = (smoothpsf.determinant_radius(psf.kernel_image(*middle)) for psf in psfs)
    convolve_template = convolves_template((of_science, of_template), config, log)
    border = active.kernelSizeMax // 2 if convolve_template else 0
    order = int(active.warpingConfig.warpingKernelName.removeprefix("lanczos"))
    warped = warp(template, science, border, order, active.warpingConfig.interpLength)
    known = not lacks_wcs(template)
    del template
    exposure = register.with_wcs(prepare(inputs.science(), "science", log)[0], sky, known)
    exposures = (exposure, warped.exposure)
    del exposure
    plain, convolved = (0, 1) if convolve_template else (1, 0)
    pair = Pair(
        exposures[plain],
        exposures[convolved],
        psfs[plain],
        psfs[convolved],
        warped.resampling,
        convolve_template,
        border,
        template_sky,
    )
    return pair, (of_science, of_template), sky


def _require_wcs(wcs: Any, name: str) -> None:
    if wcs is None:
        raise DataError(
            f"the {name} exposure has no WCS", "give both images as files: their stars align them then"
        )


def convolves_template(sigmas: tuple[float, ...], config: Config, log: logging.Logger) -> bool:
    """Whether the template is convolved: when asked for, and possible without sharpening it."""
    science, template = (FWHM_PER_SIGMA * sigma for sigma in sigmas)
    wanted = bool(config.convolveTemplate)
    sharper = template <= science * (1 + SAME_SEEING) if wanted else template * (1 + SAME_SEEING) < science
    widths = f"the FWHM is {science:.2f} px in the science image and {template:.2f} px in the template"
    if sharper == wanted:
        return wanted
    if config.mode == "literal":
        log.warning("convolveTemplate=%s is obeyed although the kernel must sharpen: %s", wanted, widths)
        return wanted
    name = "template" if sharper else "science image"
    log.warning("Convolving the %s, which is the sharper: %s", name, widths)
    return bool(sharper)
