# SPDX-License-Identifier: BSD-3-Clause
"""What a careful observer would say of two visits before the work: ok, note or stop, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from diffrun.engine.comparison import Comparison, difference_depth
from diffrun.engine.glance import Look
from diffrun.engine.overlap import LARGEST_OFFSET, footprint
from diffrun.engine.smoothpsf import SAME_SEEING
from diffrun.verdict import NOTE, OK, STOP, Line

#: Below this FWHM in pixels a matching kernel has too few samples (the Twinkles team kept to 2.6 and more).
_UNDERSAMPLED = 2.5
#: What is worth a word: coverage, a PSF model that its stars belie, a shallower template (mag), zero points
#: that the stars belie, a variance plane that the sky belies, pixels of other sizes, a shift (px), few stars.
_COVERAGE, _PSF_ERROR, _SHALLOWER, _SCALE_ERROR = 0.5, 0.2, 0.3, 0.1
_NOISE, _PIXELS, _SHIFT, _FEW = (0.8, 1.25), 1.5, 0.5, 12
#: Part of the pixels that hold something.
_USABLE = 0.5


@dataclass(frozen=True)
class Limits:
    """What is still accepted; beyond it a line says stop.

    Attributes
    ----------
    min_coverage : `float`
        Part of the science image that the template covers.
    min_stars : `int`
        Stars that both visits have, or, where that cannot be told, those of the science visit in the overlap.
    max_offset : `float`
        Between the stars of both by their WCS, science pixels.
    max_noise : `float`
        Factor between the noise of the sky and that of the variance plane, either way.
    """

    min_coverage: float = 0.1
    min_stars: int = 3
    max_offset: float = LARGEST_OFFSET
    max_noise: float = 10.0


def judge(pair: Comparison, limits: Limits) -> list[Line]:
    """All lines on a pair, in the order in which they are read."""
    rules = (
        _bands,
        _seeing,
        _sampling,
        _overlap,
        _depth,
        _scale,
        _pixels,
        _noise,
        _stars,
        _positions,
        _convolution,
    )
    return [line for rule in rules for line in rule(pair, limits)]


def _bands(pair: Comparison, _: Limits) -> Iterator[Line]:
    ours, theirs = (side.look.data_id.filter for side in pair.sides)
    if ours == theirs:
        yield Line("bands", OK, f"both in {ours}")
    else:
        yield Line(
            "bands",
            NOTE,
            f"the bands differ: science {ours}, template {theirs}",
            "constant stars of any colour will not cancel",
        )


def _seeing(pair: Comparison, _: Limits) -> Iterator[Line]:
    science, template = (side.look for side in pair.sides)
    if pair.overlap is None:
        seen = f"science {science.fwhm_pixels:.2f} px, template {template.fwhm_pixels:.2f} px of its own"
        yield Line("seeing", OK, f"{seen}, by the PSF models")
        return
    seen = (
        f"science {_width(science.fwhm_arcsec)} arcsec ({science.fwhm_pixels:.2f} px), "
        f"template {_width(template.fwhm_arcsec)} arcsec ({template.fwhm_pixels:.2f} px)"
    )
    widths = [side.pixels.stars.fwhm if side.pixels else np.nan for side in pair.sides]
    if np.isfinite(widths).all():
        arcsec = [width * side.look.pixel_scale for width, side in zip(widths, pair.sides, strict=True)]
        seen += f" by the PSF models; their stars {arcsec[0]:.2f} and {arcsec[1]:.2f} arcsec"
    if template.fwhm_arcsec > science.fwhm_arcsec * (1 + SAME_SEEING):
        yield Line(
            "seeing",
            NOTE,
            f"the template has the larger PSF: {seen}",
            "a sharper template shows fainter sources",
        )
    else:
        yield Line("seeing", OK, seen)
    for width, side in zip(widths, pair.sides, strict=True):
        model = side.look.fwhm_pixels
        if abs(width / model - 1) > _PSF_ERROR:
            yield Line(
                "psf",
                NOTE,
                f"{side.name}: the PSF model is {model:.2f} px wide, the stars of its src {width:.2f} px",
                "look at how its PSF was made; what was measured with it is biased",
            )


def _sampling(pair: Comparison, _: Limits) -> Iterator[Line]:
    for side in pair.sides:
        if side.look.fwhm_pixels < _UNDERSAMPLED:
            yield Line(
                "sampling",
                NOTE,
                f"{side.name}: undersampled, FWHM {side.look.fwhm_pixels:.2f} px",
                f"expect residuals in the cores of stars below {_UNDERSAMPLED} px",
            )


def _overlap(pair: Comparison, limits: Limits) -> Iterator[Line]:
    if pair.overlap is None:
        seen = "not known: an image has no WCS"
        yield Line("overlap", NOTE, seen, "both will be aligned by the asterisms of their stars")
        return
    places = [_place(side.look) for side in pair.sides]
    seen = f"the template ({places[1]}) covers {100 * pair.overlap:.0f} % of the science image ({places[0]})"
    if pair.overlap < limits.min_coverage:
        remedy = "choose a template that covers more"
        if pair.overlap > 0:
            remedy += f", or accept it with --min-coverage {_below(pair.overlap)}"
        yield Line("overlap", STOP, seen, remedy)
    elif pair.overlap < _COVERAGE:
        yield Line("overlap", NOTE, seen, "the rest will be flagged NO_DATA")
    else:
        yield Line("overlap", OK, seen)


def _width(value: float) -> str:
    return f"{round(value, 4):.2f}"  # as the launcher prints what it is told to four digits


def _place(look: Look) -> str:
    """``3.4' x 3.4' at 53.0100 -27.4400``."""
    (ny, nx), scale = look.summary.shape, look.pixel_scale / 60
    ra, dec = footprint(look.summary)["centre"]
    return f"{nx * scale:.1f}' x {ny * scale:.1f}' at {ra:.4f} {dec:+.4f}"


def _below(value: float) -> str:
    """The value, rounded down to two figures so that it passes as a limit."""
    digits = max(1 - int(np.floor(np.log10(value))), 0)
    return f"{np.floor(value * 10**digits) / 10**digits:.{digits}f}"


def _depth(pair: Comparison, _: Limits) -> Iterator[Line]:
    if any(side.pixels is None for side in pair.sides):
        return
    ours, theirs = (
        side.pixels.depth_magnitude(side.look.summary.flux_mag0) for side in pair.sides if side.pixels
    )
    if not np.isfinite([ours, theirs]).all():
        missing = " and ".join(
            side.name for side, mag in zip(pair.sides, (ours, theirs), strict=True) if not np.isfinite(mag)
        )
        yield Line("depth", NOTE, f"no zero point or blank sky: {missing}", "magnitudes cannot be told")
        return
    together = difference_depth(pair)
    seen = f"5 sigma at {ours:.2f} mag in the science image, {theirs:.2f} in the template"
    seen += f", about {together:.2f} in the difference" if np.isfinite(together) else ""
    if theirs < ours - _SHALLOWER:
        yield Line(
            "depth", NOTE, f"{seen}: the template is the shallower", "choose a deeper one for fainter sources"
        )
    else:
        yield Line("depth", OK, seen)


def _scale(pair: Comparison, _: Limits) -> Iterator[Line]:
    if pair.overlap is None:
        return
    science, template = (side.look for side in pair.sides)
    parts = []
    if np.isfinite(pair.scale):
        parts.append(f"{pair.scale:.4g} by the zero points")
    by_stars = pair.common.ratio if pair.common else np.nan
    if np.isfinite(by_stars) and pair.common:
        parts.append(f"{by_stars:.4g} by {pair.common.number} stars")
    seen = f"science over template {', '.join(parts)}; " if parts else "no zero points; "
    seen += f"{science.pixel_scale:.3f} and {template.pixel_scale:.3f} arcsec per pixel"
    same_band = science.data_id.filter == template.data_id.filter
    sizes = template.pixel_scale / science.pixel_scale
    if same_band and abs(by_stars / pair.scale - 1) > _SCALE_ERROR:
        remedy = "the stars decide; magnitudes follow the science image's zero point: check that one"
        yield Line("scale", NOTE, seen, remedy)
    elif not 1 / _PIXELS < sizes < _PIXELS:
        yield Line("scale", NOTE, seen, "the template is resampled to the pixels of the science image")
    else:
        yield Line("scale", OK, seen)


def _pixels(pair: Comparison, _: Limits) -> Iterator[Line]:
    for side in pair.sides:
        if side.pixels is None:
            yield Line("pixels", NOTE, f"{side.name}: cannot be looked at: {side.trouble}")
        elif side.trouble:
            verdict = STOP if side is pair.science else NOTE  # the engine reads no other
            yield Line("src", verdict, f"{side.name}: its src is no use: {side.trouble}", "measure it again")
        if side.pixels is not None and side.pixels.usable == 0:
            seen = f"{side.name}: none of the pixels looked at holds a value with a variance"
            yield Line("pixels", STOP, seen, "get a whole copy, or process it again")
        elif side.pixels is not None and side.pixels.usable < _USABLE:
            seen = f"{side.name}: {100 * side.pixels.usable:.0f} % of the pixels hold a value with a variance"
            yield Line("pixels", NOTE, seen, "the rest will be flagged NO_DATA")


def _noise(pair: Comparison, limits: Limits) -> Iterator[Line]:
    known = [(side, side.pixels.noise_factor) for side in pair.sides if side.pixels]
    factors = [(side, factor) for side, factor in known if 0 < factor < np.inf]
    for side, factor in known:
        if not 0 < factor < np.inf:
            seen = (
                "its blank sky has no noise at all"
                if factor == 0
                else "too little blank sky to tell its noise"
            )
            yield Line("noise", NOTE, f"{side.name}: {seen}")
    if not factors:
        return
    seen = ", ".join(f"{side.name} {factor:.3g}" for side, factor in factors)
    seen = f"measured over that of the variance plane: {seen}"
    worst = max((factor for _, factor in factors), key=lambda factor: max(factor, 1 / factor))
    off = max(worst, 1 / worst)
    remedy = f"S/N and thresholds are wrong by it: multiply that variance plane by {worst**2:.3g}"
    if off > limits.max_noise:
        yield Line("noise", STOP, seen, f"{remedy}, or accept it with --max-noise {np.ceil(off):.0f}")
    elif not _NOISE[0] < worst < _NOISE[1]:
        yield Line("noise", NOTE, seen, remedy)
    else:
        yield Line("noise", OK, seen)


def _stars(pair: Comparison, limits: Limits) -> Iterator[Line]:
    known = [(side, side.pixels.stars) for side in pair.sides if side.pixels]
    if not known:
        return
    parts = []
    for side, stars in known:
        about = (
            "" if stars.seen >= 1 else f" in the {100 * stars.seen:.0f} % of its pixels that were looked at"
        )
        parts.append(f"{len(stars)} in the {side.name}{about}{'' if stars.of_src else ' (no src)'}")
    seen = ", ".join(parts)
    fewest = min(len(stars) / stars.seen for _, stars in known)
    least = len(known[0][1]) / known[0][1].seen if pair.science.pixels else fewest
    if pair.common:
        fewest, least = pair.common.number or pair.common.of, pair.common.number or pair.common.science
        seen += f", {pair.common.number or 'none'} of the {pair.common.of} brightest of the overlap in both"
    remedy = "lower subtract.kernel['AL'].detectionConfig.detThreshold, or choose a pair with more in common"
    if pair.common and pair.common.told and not pair.common.number:
        yield Line("stars", NOTE, seen, "see positions")
    elif least < limits.min_stars:
        accept = f"--min-stars {int(least)}"
        yield Line("stars", STOP, seen, f"{remedy}, or accept it with {accept}")
    elif fewest < _FEW:
        yield Line("stars", NOTE, seen, f"the kernel will be uncertain: {remedy}")
    else:
        yield Line("stars", OK, seen)


def _positions(pair: Comparison, limits: Limits) -> Iterator[Line]:
    if pair.overlap is None:
        return
    if pair.common is None or not pair.common.told:
        why = "too few stars in common" if pair.common else "both visits need a src"
        yield Line("positions", NOTE, f"not compared: {why}")
        return
    if not pair.common.number:
        seen = f"the stars of both do not lie on each other, shifted by up to {pair.reach:.0f} px either"
        yield Line("positions", STOP, seen, "the WCS of one is wrong: fit it again, or choose another visit")
        return
    distance = pair.common.distance
    arcsec = distance * pair.science.look.pixel_scale
    seen = f"by the WCS of both their stars lie {distance:.2f} px ({arcsec:.3f} arcsec) apart"
    remedy = "the WCS of one is wrong: fit it again"
    if distance > limits.max_offset:
        accept = f", or accept it with --max-offset {np.ceil(distance):.0f}"
        yield Line("positions", STOP, seen, remedy + accept * (distance < LARGEST_OFFSET))
    elif distance > _SHIFT:
        yield Line("positions", NOTE, seen, f"the template will be moved by its stars; {remedy}")
    else:
        yield Line("positions", OK, seen)


def _convolution(pair: Comparison, _: Limits) -> Iterator[Line]:
    if pair.overlap is None:
        yield Line("convolved", OK, "the sharper will be convolved, which the aligned images will tell")
        return
    science, template = pair.seeing
    name = "template" if pair.convolves_template else "science image"
    other = "science image" if pair.convolves_template else "template"
    seen = f"the {name} will be convolved to the PSF of the {other}"
    sharpens = template > science if pair.convolves_template else science > template
    if pair.convolves_template != pair.wanted:
        remedy = "convolveTemplate is set otherwise; mode='literal' obeys it"
        yield Line("convolved", NOTE, f"{seen}, since it is the sharper", remedy)
    elif sharpens and pair.literal:
        yield Line("convolved", NOTE, f"{seen} and must be sharpened", "set convolveTemplate otherwise")
    else:
        yield Line("convolved", OK, seen)
