# SPDX-License-Identifier: BSD-3-Clause
"""Which stars tell the matching kernel, and the kernel that they tell."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from diffrun.engine import basis as al
from diffrun.engine import candidates as stars
from diffrun.engine import quality, smoothpsf, solve
from diffrun.engine.claims import claims
from diffrun.engine.kernelstamps import cut
from diffrun.engine.smoothpsf import FWHM_PER_SIGMA, SAME_SEEING, field_box
from diffrun.engine.subtract import Pair
from diffrun.errors import NoStarsError
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure

#: Radius of the stamps in which the kernel is fitted, in FWHM of the wider PSF, and its bounds in pixels.
#: Smaller stamps miss the wings, larger ones bring in more noise.
_FIT_REACH, _FIT_HALF = 5.1, (11, 29)
#: Most cells along an axis in which candidates are chosen: on a whole sensor they are larger than configured.
_MOST_CELLS = 8
#: How many times as many candidates as wanted are looked at for their flux, and that again for their mask.
_SHORTLIST = 4

#: Fewer stars than this are worth a warning.
_FEW = 12
#: Part of the stars that may be variable between two images of one band, and S/N of all together needed.
_MOST_VARIABLE, _LEAST_SNR = 0.65, 30.0

#: A warning of empty parts: the part of the image's length that the stars span, and how many show that.
_SPREAD, _FEWEST_SPREAD = 0.5, 5

Config = Any
Metadata = dict[str, Any]


def seen(
    science: Exposure, sigma: float, sources: Catalog | None, config: Config, log: logging.Logger
) -> stars.Candidates:
    """The stars of ``src``, else those detected in the science image."""
    threshold = config.subtract.kernel.active.detectionConfig.detThreshold
    if sources is None:
        log.info("Source selection via detection")
        return stars.from_image(science, FWHM_PER_SIGMA * sigma, threshold)
    log.info("Source selection via src product")
    return stars.from_sources(sources, threshold)


def choose(
    pair: Pair, sigmas: tuple[float, ...], found: stars.Candidates, config: Config, log: logging.Logger
) -> stars.Candidates:
    """Those of the stars that both images show well and with a constant flux."""
    active, science = config.subtract.kernel.active, pair.science
    core, (ny, nx) = FWHM_PER_SIGMA * max(sigmas), pair.plain.shape
    cell_x, cell_y = max(active.sizeCellX, nx / _MOST_CELLS), max(active.sizeCellY, ny / _MOST_CELLS)

    def brightest(of: stars.Candidates, times: int) -> stars.Candidates:
        return stars.spread(of, pair.plain, cell_x, cell_y, times * active.nStarPerCell)

    found = stars.with_clean_cores(
        brightest(found, _SHORTLIST**2), [science, pair.template], core, border=int(core) + 1
    )
    stars.require(found, 1, "seen well in both images")
    chosen = stars.constant(brightest(found, _SHORTLIST), science, pair.template, core)
    _refuse_variables(chosen, pair)
    chosen = brightest(chosen, 1)
    stars.require(chosen, 1, "with a common flux ratio")
    _refuse_faint(chosen)
    total = len(chosen) + sum(chosen.rejected.values())
    log.info("Selected %d / %d sources for Psf matching", len(chosen), total)
    return chosen


def _refuse_variables(chosen: stars.Candidates, pair: Pair) -> None:
    """`NoStarsError` if few of the stars have a common flux ratio, though the band is one."""
    total = chosen.rejected.get("variable", 0) + len(chosen)
    if pair.plain.filter == pair.convolved.filter and len(chosen) < (1 - _MOST_VARIABLE) * total:
        raise NoStarsError(
            f"only {len(chosen)} of {total} stars have a common flux ratio ({stars.causes(chosen)})",
            "look at the alignment, the PSF and the band of both images: so many stars are not variable",
        )


def _refuse_faint(chosen: stars.Candidates) -> None:
    """`NoStarsError` if all the stars together are too faint to tell a kernel."""
    snr = float(np.sqrt((chosen.snr**2).sum()))
    if snr < _LEAST_SNR:
        raise NoStarsError(
            f"the stars that tell the kernel are too faint: {len(chosen)} with a S/N of {snr:.0f} together, "
            f"{_LEAST_SNR:g} needed ({stars.causes(chosen)})",
            "choose a deeper pair",
        )


def match(
    pair: Pair, sigmas: tuple[float, ...], chosen: stars.Candidates, config: Config, log: logging.Logger
) -> tuple[solve.Solution, Metadata]:
    """Fit the matching kernel to the candidates."""
    active, literal = config.subtract.kernel.active, config.mode == "literal"
    basis, basis_facts = kernel_basis(sigmas, pair.convolve_template, active, literal)
    log.info("Subtracting images")
    half = int(np.clip(_FIT_REACH * FWHM_PER_SIGMA * max(sigmas), *_FIT_HALF))
    stamps = cut(pair.convolved, pair.plain, chosen, basis, half)
    stamps.target_variance[:] *= np.float32(pair.noises[0].power.mean())
    solution = solve.solve(
        stamps,
        basis,
        field_box(pair.plain),
        active.spatialKernelOrder,
        active.maxSpatialIterations,
        active.fitForBackground,
        literal,
    )
    kernel_sum = float(solution.kernel.at(*smoothpsf.centre(solution.kernel.box)).sum())
    plain_sigma = sigmas[0] if pair.convolve_template else sigmas[1]
    told = claims(pair.plain, pair.plain_psf, plain_sigma, chosen, kernel_sum * zero_point_ratio(pair))
    warn(solution, told, log)
    _warn_of_empty_parts(solution, chosen, pair.plain, log)
    task = "imageDifference:subtract"
    facts: Metadata = {
        **{f"{task}.{name}": value for name, value in basis_facts.items()},
        f"{task}.wing": bool(basis.has_wing and solution.kernel.coefficients[-1, 0]),
        f"{task}.spatialConditionNum": solution.condition,
        f"{task}.spatialKernelSum": kernel_sum,
        f"{task}.spatialKernelOrder": solution.order,
        f"{task}.spatialKernelSumOrder": solution.sum_order,
        f"{task}.nCandidates": len(chosen),
        f"{task}.nCandidatesUsed": int(solution.used.sum()),
        f"{task}.candidateChi2": float(np.median(solution.chi2[solution.used])),
        f"{task}.mismatch": solution.mismatch,
        f"{task}.convolved": "template" if pair.convolve_template else "science",
        f"{task}.scienceFwhm": float(FWHM_PER_SIGMA * sigmas[0]),
        f"{task}.templateFwhm": float(FWHM_PER_SIGMA * sigmas[1]),
        **told,
    }
    return solution, facts


def _warn_of_empty_parts(
    solution: solve.Solution, chosen: stars.Candidates, image: Exposure, log: logging.Logger
) -> None:
    """Say so when the stars leave a large part of the image without any."""
    used = solution.used
    if int(used.sum()) < _FEWEST_SPREAD:
        return
    parts = []
    for name, places, first, length in zip(
        "xy", (chosen.x[used], chosen.y[used]), image.xy0, image.shape[::-1], strict=True
    ):
        if np.ptp(places) < _SPREAD * length:
            parts.append(
                f"{places.min():.0f} to {places.max():.0f} in {name} (of {first} to {first + length - 1})"
            )
    if parts:
        log.warning(
            "The stars that tell the kernel lie from %s: elsewhere it is extrapolated", " and ".join(parts)
        )


def kernel_basis(
    sigmas: tuple[float, ...], convolve_template: bool, active: Any, literal: bool = False
) -> tuple[al.GaussianBasis, Metadata]:
    """The basis of the kernel, by the rule or as the configuration lists it, and what to tell of it.

    ``literal`` takes the stack's rule for the kernel's size, and no wing, which the stack does not know.
    """
    if active.scaleByFwhm:
        narrow, wide = sorted(sigmas)
        plain, convolved = sigmas if convolve_template else reversed(sigmas)
        sharpens = convolved > plain * (1 + SAME_SEEING)
        smallest = active.alardMinSigDeconv if sharpens else active.alardMinSig
        widths = al.matching_sigmas(narrow, wide, smallest, active.alardNGauss, active.alardGaussBeta)
        bounds = active.kernelSizeMin, active.kernelSizeMax
        fwhm = 0.0 if literal else FWHM_PER_SIGMA * wide
        size = al.kernel_size(widths, fwhm, active.kernelSizeFwhmScaling, *bounds)
        wing = 0.0 if literal else float(active.wingSigma)
    else:
        widths, size, wing = list(active.alardSigGauss), active.kernelSize, 0.0
    facts: Metadata = {
        "ALBasisNGauss": len(widths),
        "ALBasisDegGauss": list(active.alardDegGauss),
        "ALBasisSigGauss": widths,
        "ALKernelSize": size,
    }
    return al.gaussian_basis(size, widths, list(active.alardDegGauss), wing), facts


def zero_point_ratio(pair: Pair) -> float:
    """Counts of the convolved image for one of the plain one, by their zero points; NaN if one is unknown."""
    convolved, plain = pair.convolved.flux_mag0, pair.plain.flux_mag0
    return convolved / plain if convolved > 0 and plain > 0 else float("nan")


def warn(solution: solve.Solution, told: Metadata, log: logging.Logger) -> None:
    """Say so when the stars were few, do not match, or contradict the files."""
    used = int(solution.used.sum())
    if used < _FEW:
        log.warning(
            "Only %d kernel candidates: the kernel and the flux scale are uncertain; choose a template with "
            "more stars in common, or lower subtract.kernel['AL'].detectionConfig.detThreshold",
            used,
        )
    if solution.mismatch > quality.BAD_MATCH:
        log.warning(
            "Bright stars leave %.1f %% of their light in the difference: expect false sources at stars; "
            "look at the WCS and the PSF of both images, or choose another template",
            100 * solution.mismatch,
        )
    for line in quality.warnings(told):
        log.warning("%s", line)
