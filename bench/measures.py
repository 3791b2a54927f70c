# SPDX-License-Identifier: BSD-3-Clause
"""The measures of the bench: ``judge`` holds a difference against the truth of a simulated pair.

docs/bench.md defines each in words, in the order of the functions here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter
from subject import Sources, Subject, Truth

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]
Numbers = dict[str, float]

MATCH_RADIUS = 3.0  # pixels between a source and the change it is
BINS = {"5-7": (5.0, 7.0), "7-10": (7.0, 10.0), "10+": (10.0, np.inf)}
PLACES = 6000  # blank places at which the matched filter is evaluated
APERTURE = 9.0  # pixels
#: A saturated star's own reach is (20 + 30 (F / F_sat)^0.3) pixels: no true change lies in it.
SATURATES = 1.2e6
FAINTEST_LIGHT = 2.0  # counts a pixel of wings that end "blank"


@dataclass(frozen=True)
class Found:
    """Which unflagged source is which change: rows of the changes, -1 where none, and of the sources."""

    source: NDArray[np.int64]
    is_change: Bool


def judge(subject: Subject, truth: Truth) -> Numbers:
    """Every number of a difference."""
    blank = blank_sky(subject, truth)
    found = matches(subject.sources, truth)
    numbers = noise(subject, blank) | matched_filter(subject, blank)
    numbers |= completeness(truth, found) | false_positives(subject, truth, found)
    numbers |= fluxes(subject, truth, found) | positions(subject, truth, found)
    numbers |= psf_predicts_flux(subject, truth, found)
    numbers["star_chi2"] = star_chi2(subject, truth)
    numbers["flagged_area"] = float(overlap(subject, truth)[1])
    numbers["kernel_sum_error"] = kernel_sum_error(subject, truth)
    return numbers


def reach_of_light(flux: Array, fwhm: float) -> Array:
    """The radius at which a Kolmogorov star falls to `FAINTEST_LIGHT`: 3.55e-5 F / fwhm^2 at 6 FWHM."""
    at_six = 3.55e-5 * np.maximum(flux, 1.0) / fwhm**2
    return np.asarray(np.maximum(6 * (at_six / FAINTEST_LIGHT) ** (3 / 11), 1.0) * fwhm)


def blank_sky(subject: Subject, truth: Truth) -> Bool:
    """Unspoilt pixels without light of stars, galaxies or changes, by the truth."""
    blank = ~subject.spoilt
    fwhm = max(truth.fwhm)
    static, change = truth.static, truth.change
    light = np.concatenate([static["flux"], np.abs(change["flux_total"]) + change["base"]])
    size = np.concatenate([3 * np.asarray(static["size"]), np.zeros(len(change))])
    x, y = (np.concatenate([static[k], change[k]]) for k in "xy")
    for row in zip(x, y, reach_of_light(light, fwhm) + size, strict=True):
        _clear(blank, *row)
    return blank


def _clear(blank: Bool, x: float, y: float, radius: float) -> None:
    ny, nx = blank.shape
    low_x, high_x = max(0, int(x - radius)), min(nx, int(x + radius) + 2)
    low_y, high_y = max(0, int(y - radius)), min(ny, int(y + radius) + 2)
    if low_x < high_x and low_y < high_y:
        rows, columns = np.ogrid[low_y:high_y, low_x:high_x]
        blank[low_y:high_y, low_x:high_x] &= (columns - x) ** 2 + (rows - y) ** 2 > radius**2


def noise(subject: Subject, blank: Bool) -> Numbers:
    """Standard deviation of D / sqrt(V) on blank sky, plain and robust, and its neighbours correlation."""
    z = np.zeros(subject.image.shape, np.float32)
    np.divide(subject.image, np.sqrt(subject.variance, where=blank, out=np.ones_like(z)), out=z, where=blank)
    sample = z[blank][::3].astype(float)
    middle = np.median(sample)
    robust = 1.4826 * np.median(np.abs(sample - middle))
    plain = float(sample.std())
    good = blank & (np.abs(z) < 5)
    z[~good] = 0
    power = float((z[good].astype(float) ** 2).mean())
    across = float((z[:, 1:] * z[:, :-1]).sum(dtype=float) / (good[:, 1:] & good[:, :-1]).sum() / power)
    along = float((z[1:] * z[:-1]).sum(dtype=float) / (good[1:] & good[:-1]).sum() / power)
    return {"noise": float(robust), "noise_plain": plain, "lag1_x": across, "lag1_y": along}


def matched_filter(subject: Subject, blank: Bool) -> Numbers:
    """k: standard deviation of sum(P D) / sqrt(sum(P^2 V)) at random blank places, and its robust twin."""
    half = subject.psf(0.0, 0.0).shape[0] // 2
    free = minimum_filter(blank, 7)
    free[:half] = free[-half:] = False
    free[:, :half] = free[:, -half:] = False
    rows, columns = np.nonzero(free)
    chosen = np.random.default_rng(1).choice(len(rows), min(PLACES, len(rows)), replace=False)
    values = np.empty(len(chosen))
    for i, at in enumerate(chosen):
        row, column = rows[at], columns[at]
        psf = subject.psf(float(column), float(row))
        box = np.s_[row - half : row + half + 1, column - half : column + half + 1]
        with np.errstate(invalid="ignore"):
            data = np.where(np.isfinite(subject.image[box]), subject.image[box], 0.0)
            variance = np.where(subject.variance[box] > 0, subject.variance[box], 0.0)
        values[i] = (psf * data).sum() / np.sqrt((psf**2 * variance).sum())
    values = values[np.abs(values) < 6]
    robust = 1.4826 * np.median(np.abs(values - np.median(values)))
    return {"k": float(values.std()), "k_robust": float(robust), "k_mean": float(values.mean())}


def matches(sources: Sources, truth: Truth) -> Found:
    """The nearest unflagged source of the right sign within `MATCH_RADIUS` of each change."""
    change = truth.change
    found = np.full(len(change), -1)
    near = np.zeros(len(sources.x), bool)
    reach = 2.5 * max(truth.fwhm)
    for i, (x, y, flux) in enumerate(zip(change["x"], change["y"], change["flux"], strict=True)):
        distance = np.hypot(sources.x - x, sources.y - y)
        near |= distance < reach
        able = (distance < MATCH_RADIUS) & ~sources.flagged & (np.sign(sources.flux) == np.sign(flux))
        if able.any():
            found[i] = int(np.argmin(np.where(able, distance, np.inf)))
    return Found(found, near)


def completeness(truth: Truth, found: Found) -> Numbers:
    """The share of changes found as unflagged sources, by the S/N of the ideal subtraction."""
    snr = np.asarray(truth.change["snr"])
    numbers = {}
    for name, (low, high) in BINS.items():
        inside = (snr >= low) & (snr < high)
        numbers[f"found_{name}"] = float((found.source[inside] >= 0).sum())
        numbers[f"true_{name}"] = float(inside.sum())
    return numbers


def false_positives(subject: Subject, truth: Truth, found: Found) -> Numbers:
    """Unflagged sources that are no change: at saturated stars, on other objects, on blank sky."""
    sources, static = subject.sources, truth.static
    wrong = np.nonzero(~sources.flagged & ~found.is_change & np.isfinite(sources.x + sources.y))[0]
    saturated = np.asarray(static["kind"]) == "saturated"
    light = np.asarray(static["flux"])
    reach = np.minimum(reach_of_light(light, max(truth.fwhm)), 40) + 2 * np.asarray(static["size"])
    reach[saturated] = np.maximum(
        20 + 30 * np.maximum(light[saturated] / SATURATES, 1) ** 0.3,
        reach_of_light(light[saturated], max(truth.fwhm)),
    )
    count = {"saturated": 0, "source": 0, "blank": 0}
    for i in wrong:
        within = np.hypot(static["x"] - sources.x[i], static["y"] - sources.y[i]) < reach
        place = "saturated" if within[saturated].any() else "source" if within.any() else "blank"
        count[place] += 1
    flagged = sources.flagged & ~found.is_change
    return {f"false_{place}": float(n) for place, n in count.items()} | {
        "false_expected": expected_peaks(subject),
        "flagged_sources": float(flagged.sum()),
    }


def expected_peaks(subject: Subject) -> float:
    """Peaks beyond the threshold, of either sign, that white noise filtered with the PSF has.

    Bardeen et al. 1986: n = t exp(-t^2 / 2) sqrt(det L) / (2 pi)^(3/2) a pixel, with L the covariance of the
    gradient of the filtered noise, sum(P_i P_j) / sum(P^2) for the PSF's slopes P_i.
    """
    ny, nx = subject.image.shape
    psf = subject.psf(nx / 2, ny / 2)
    slopes = np.stack([g.ravel() for g in np.gradient(psf)])
    spread = slopes @ slopes.T / (psf**2).sum()
    t = subject.threshold
    density = t * np.exp(-(t**2) / 2) * np.sqrt(np.linalg.det(spread)) / (2 * np.pi) ** 1.5
    return float(2 * density * (~subject.spoilt).sum())


def _judged(subject: Subject, truth: Truth, found: Found, low: float) -> tuple[Bool, Array, Array, Array]:
    """Changes with S/N of at least ``low`` that were found: which, and flux, error and true flux."""
    snr = np.asarray(truth.change["snr"])
    use = (found.source >= 0) & (snr >= low) & (snr < 100)
    row = found.source[use]
    expected = np.asarray(truth.change["flux_wide" if subject.wide else "flux"])[use]
    return use, subject.sources.flux[row], subject.sources.error[row], expected


def fluxes(subject: Subject, truth: Truth, found: Found) -> Numbers:
    """Bias of PSF fluxes (weighted slope on the truth, less 1), its error, and pulls, by surroundings."""
    use, flux, error, expected = _judged(subject, truth, found, 8.0)
    kind = np.asarray(truth.change["kind"])[use]
    numbers = {}
    for name in ("all", "blank", "galaxy", "bright", "variable"):
        rows = (kind == name) | (name == "all")
        rows &= np.isfinite(flux) & (error > 0)
        if rows.sum() < 3:
            numbers |= {f"bias_{name}": np.nan, f"bias_error_{name}": np.nan, f"pull_{name}": np.nan}
            continue
        f, e, t = flux[rows], error[rows], expected[rows]
        total = (t**2 / e**2).sum()
        numbers[f"bias_{name}"] = float((f * t / e**2).sum() / total - 1)
        numbers[f"bias_error_{name}"] = float(total**-0.5)
        numbers[f"pull_{name}"] = float(np.std((f - t) / e))
    return numbers


def positions(subject: Subject, truth: Truth, found: Found) -> Numbers:
    """Mean offset of changes over S/N 10, weighted by (S/N)^2, and scatter over sqrt(2) sigma / (S/N)."""
    snr = np.asarray(truth.change["snr"])
    use = (found.source >= 0) & (snr >= 10)
    row = found.source[use]
    if not use.any():
        return dict.fromkeys(("offset_x", "offset_y", "offset_scatter"), float("nan"))
    dx = subject.sources.x[row] - np.asarray(truth.change["x"])[use]
    dy = subject.sources.y[row] - np.asarray(truth.change["y"])[use]
    weight = np.minimum(snr[use], 60) ** 2
    ideal = np.sqrt(2) * max(truth.fwhm) / 2.3548 / snr[use]
    return {
        "offset_x": float(np.average(dx, weights=weight)),
        "offset_y": float(np.average(dy, weights=weight)),
        "offset_scatter": float(np.std(np.concatenate([dx, dy]) / np.tile(ideal, 2))),
    }


def psf_predicts_flux(subject: Subject, truth: Truth, found: Found) -> Numbers:
    """Aperture flux over what the PSF says is in the aperture, for changes of S/N over 15, less 1."""
    use, flux, error, _ = _judged(subject, truth, found, 15.0)
    kind = np.asarray(truth.change["kind"])[use]
    rows = found.source[use]
    clean = (kind == "blank") & np.isfinite(flux + subject.sources.aperture[rows])
    if clean.sum() < 3:
        return {"psf_flux": float("nan"), "psf_flux_error": float("nan")}
    flux, error, rows = flux[clean], error[clean], rows[clean]
    inside = np.array([
        _in_aperture(subject, x, y)
        for x, y in zip(subject.sources.x[rows], subject.sources.y[rows], strict=True)
    ])  # fmt: skip
    model, seen = flux * inside, subject.sources.aperture[rows]
    sky = np.sqrt(np.pi) * APERTURE * np.sqrt(float(np.nanmedian(subject.variance[::7, ::7])))
    return {
        "psf_flux": float((model * seen).sum() / (model**2).sum() - 1),
        "psf_flux_error": float(sky / np.sqrt((model**2).sum())),
    }


def _in_aperture(subject: Subject, x: float, y: float) -> float:
    """The share of the PSF within `APERTURE`, pixels on the rim by a fine grid."""
    psf = subject.psf(x, y)
    half, fine = psf.shape[0] // 2, 5
    steps = (np.arange(psf.shape[0] * fine) + 0.5) / fine - 0.5 - half
    disc = np.hypot(steps[:, None], steps[None, :]) <= APERTURE
    weight = disc.reshape(len(psf), fine, len(psf), fine).mean(axis=(1, 3))
    return float((psf * weight).sum() / psf.sum())


def star_chi2(subject: Subject, truth: Truth) -> float:
    """Median over unsaturated stars of over 30,000 counts of the mean of D^2 / V within a FWHM."""
    static = truth.static
    bright = (np.asarray(static["kind"]) == "star") & (np.asarray(static["flux"]) > 3e4)
    half = round(max(truth.fwhm))
    ny, nx = subject.image.shape
    values = []
    for x, y in zip(static["x"][bright], static["y"][bright], strict=True):
        row, column = round(y), round(x)
        if half <= row < ny - half and half <= column < nx - half:
            box = np.s_[row - half : row + half + 1, column - half : column + half + 1]
            if not subject.spoilt[box].any():
                values.append(float((subject.image[box] ** 2 / subject.variance[box]).mean()))
    return float(np.median(values)) if values else float("nan")


def overlap(subject: Subject, truth: Truth) -> tuple[int, float]:
    """Pixels further than 60 from the edge, which both visits cover, and the share of them that is spoilt."""
    inner = subject.spoilt[60:-60, 60:-60]
    return inner.size, float(inner.mean())


def kernel_sum_error(subject: Subject, truth: Truth) -> float:
    """The kernel's sum over the true ratio of the visits' counts, either way round, less 1."""
    ratio = subject.kernel_sum / truth.kernel_sum
    inverse = subject.kernel_sum * truth.kernel_sum
    return float(ratio - 1 if abs(ratio - 1) < abs(inverse - 1) else inverse - 1)
