# SPDX-License-Identifier: BSD-3-Clause
"""Measurement of the sources of a difference: from footprints to a ``diaSrc`` catalogue.

One row for every footprint, none left out: what cannot be measured is NaN and flagged, and the position is
then the peak. Fluxes keep their sign; centroids and shapes of negative sources are measured on the image
turned over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine import apertures, centroid, diasrc, dipole, fluxes
from diffrun.engine.flags import pixel_flags
from diffrun.engine.footprint import Footprint, all_pixels
from diffrun.engine.lobes import Beneath
from diffrun.engine.shape import Shapes, adaptive_moments
from diffrun.engine.stamps import UNUSABLE, Floats, Ints, Stamps, cut, kernel_images, usable
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.threads import bands, each

Columns = dict[str, NDArray[Any]]

#: Half width of the stamps for centroids and shapes, in widths of the PSF: the fainter wings add only noise.
CORE_SIGMAS = 4.0
#: A centroid may move this many widths of the PSF (but at least 2 pixels) from its peak.
MAX_SHIFT_SIGMAS = 2.0
FALLBACK_SIGMA = 1.5
#: Sources that one thread measures at a time.
_AT_ONCE = 64


@dataclass(frozen=True)
class Sources:
    """What all measurements start from, (N,) each.

    Attributes
    ----------
    footprints : `tuple` [`Footprint`]
    peak_x, peak_y : `numpy.ndarray`, int
        Main peak, parent pixels.
    snr : `numpy.ndarray`
        Of the main peak, signed.
    sign : `numpy.ndarray`
        +1 or −1.
    kernels : `numpy.ndarray`, (N, s, s)
        PSF of the difference at the main peak.
    psf_shapes : `Shapes`
        Of those PSFs.
    sigma : `float`
        Width of the PSF at its average position, pixels: (I_xx I_yy − I_xy²)^¼.
    """

    footprints: tuple[Footprint, ...]
    peak_x: Ints
    peak_y: Ints
    snr: Floats
    sign: Floats
    kernels: Floats
    psf_shapes: Shapes
    sigma: float


def measure(
    footprints: Sequence[Footprint],
    difference: Exposure,
    beneath: Beneath,
    config: Any,
    source_id_base: int,
) -> Catalog:
    """Measure every footprint of a difference.

    Parameters
    ----------
    footprints : `Sequence` [`Footprint`]
        From the detection; each becomes one row, in this order.
    difference : `Exposure`
        With a PSF and a WCS.
    beneath : `Beneath`
        The science image of the difference; that and the difference tell the matched template.
    config : `ImageDifferenceConfig`
        The stack's configuration tree; the dipole settings below ``measurement`` are read.
    source_id_base : `int`
        The rows' ids are this, or-ed with 1, 2, 3...

    Returns
    -------
    catalogue : `Catalog`
        With the columns of `diffrun.engine.diasrc`.
    """
    columns = diasrc.empty(len(footprints))
    columns["id"][:] = source_id_base | np.arange(1, len(footprints) + 1)
    settings = dipole.Settings.of(config)

    def do(some: tuple[int, int]) -> None:
        part = {name: column[slice(*some)] for name, column in columns.items()}
        _measure(part, footprints[slice(*some)], difference, beneath, settings)

    each(do, bands(len(footprints), _AT_ONCE))
    return diasrc.catalogue(columns)


# An error or χ² too large for its 32 bits becomes infinite: it is one, and no reason to warn.
@np.errstate(over="ignore")
def _measure(
    columns: Columns,
    footprints: Sequence[Footprint],
    difference: Exposure,
    beneath: Beneath,
    settings: dipole.Settings,
) -> None:
    """Fill the rows of some footprints."""
    sources = _sources(footprints, difference)
    columns["flags_negative"][:] = sources.sign < 0
    columns["diffrun_snr"][:] = sources.snr
    stamps = _core_stamps(sources, difference)
    fitted = _centroids(columns, sources, stamps)
    x, y = columns["base_SdssCentroid_x"], columns["base_SdssCentroid_y"]
    _sky(columns, difference, x, y)
    shapes = _shapes(columns, sources, stamps)
    _fluxes(columns, sources, difference, stamps, shapes, fitted)
    _forced(columns, sources, difference, beneath)
    _apertures(columns, difference, x, y)
    for name, flag in pixel_flags(footprints, difference, x, y).items():
        columns[f"base_PixelFlags_flag_{name}"][:] = flag
    _naive_dipoles(columns, sources, difference)
    _dipoles(columns, sources, difference, beneath, settings)


def _sources(footprints: Sequence[Footprint], difference: Exposure) -> Sources:
    """Main peaks, signs and PSFs."""
    main = [f.main_peak for f in footprints]
    pairs = list(zip(footprints, main, strict=True))
    x = np.array([f.peaks_x[k] for f, k in pairs], np.intp)
    y = np.array([f.peaks_y[k] for f, k in pairs], np.intp)
    snr = np.array([f.peaks_snr[k] for f, k in pairs], float)
    kernels = kernel_images(difference.psf, x.astype(float), y.astype(float))
    typical = _psf_shapes(kernel_images(difference.psf, *np.array([difference.psf.average_position]).T))
    det = float((typical.xx * typical.yy - typical.xy**2)[0])
    sigma = FALLBACK_SIGMA if typical.failed[0] else det**0.25
    sign = np.where(snr < 0, -1.0, 1.0)
    return Sources(tuple(footprints), x, y, snr, sign, kernels, _psf_shapes(kernels), sigma)


def _psf_shapes(kernels: Floats) -> Shapes:
    """Adaptive moments of centred PSF images."""
    everywhere, zero = np.ones(kernels.shape, bool), np.zeros(len(kernels))
    stamps = Stamps(kernels, np.ones_like(kernels), everywhere, everywhere)
    return adaptive_moments(stamps, (zero, zero), FALLBACK_SIGMA, max_shift=2.0)


def _core_stamps(sources: Sources, difference: Exposure) -> Stamps:
    """Stamps about the main peaks, negative sources turned over."""
    half = int(np.ceil(CORE_SIGMAS * sources.sigma)) + 2
    return cut(difference, sources.peak_x, sources.peak_y, half).signed(sources.sign)


def _centroids(columns: Columns, sources: Sources, stamps: Stamps) -> NDArray[np.bool_]:
    """Fill all centroids of the main peak; return where the PSF fit is the one that stands."""
    max_shift = max(2.0, MAX_SHIFT_SIGMAS * sources.sigma)
    x, y = sources.peak_x, sources.peak_y
    name = "base_SdssCentroid"
    fit = centroid.fit_psf(stamps, sources.kernels, max_shift)
    columns[f"{name}_x"][:], columns[f"{name}_y"][:] = x + fit.dx, y + fit.dy
    columns[f"{name}_xSigma"][:], columns[f"{name}_ySigma"][:] = fit.dx_sigma, fit.dy_sigma
    columns[f"{name}_flag"][:] = fit.reset
    columns[f"{name}_flag_edge"][:] = ~stamps.inside.all(axis=(1, 2))
    columns[f"{name}_flag_noSecondDerivative"][:] = fit.singular
    columns[f"{name}_flag_almostNoSecondDerivative"][:] = fit.ridge
    columns[f"{name}_flag_notAtMaximum"][:] = fit.not_maximum
    columns[f"{name}_flag_resetToPeak"][:] = fit.reset
    name = "base_GaussianCentroid"
    dx, dy, lost = centroid.gaussian(stamps, sources.sigma, max_shift)
    columns[f"{name}_x"][:], columns[f"{name}_y"][:] = x + dx, y + dy
    for flag in ("flag", "flag_noPeak", "flag_resetToPeak"):
        columns[f"{name}_{flag}"][:] = lost
    name = "base_NaiveCentroid"
    naive = centroid.first_moment(stamps)
    columns[f"{name}_x"][:] = x + np.where(naive.no_counts, 0.0, naive.dx)
    columns[f"{name}_y"][:] = y + np.where(naive.no_counts, 0.0, naive.dy)
    for flag in ("flag", "flag_noCounts", "flag_resetToPeak"):
        columns[f"{name}_{flag}"][:] = naive.no_counts
    columns[f"{name}_flag_edge"][:] = ~stamps.trimmed(1).inside.all(axis=(1, 2))
    columns["base_PeakCentroid_x"][:], columns["base_PeakCentroid_y"][:] = x, y
    return fit.fitted


def _offsets(columns: Columns, sources: Sources) -> tuple[Floats, Floats]:
    """The centroid slot relative to the main peak."""
    x = np.asarray(columns["base_SdssCentroid_x"] - sources.peak_x, float)
    y = np.asarray(columns["base_SdssCentroid_y"] - sources.peak_y, float)
    return x, y


def _sky(columns: Columns, difference: Exposure, x: Floats, y: Floats) -> None:
    """Sky positions in radians."""
    ra, dec = difference.wcs.pixel_to_sky(x, y)
    columns["coord_ra"][:], columns["coord_dec"][:] = np.radians(ra), np.radians(dec)


def _shapes(columns: Columns, sources: Sources, stamps: Stamps) -> Shapes:
    """Fill the adaptive moments of sources and PSFs; return those of the sources."""
    name, psf = "base_SdssShape", sources.psf_shapes
    max_shift = max(2.0, MAX_SHIFT_SIGMAS * sources.sigma)
    shapes = adaptive_moments(stamps, _offsets(columns, sources), sources.sigma, max_shift)
    columns[f"{name}_x"][:], columns[f"{name}_y"][:] = sources.peak_x + shapes.dx, sources.peak_y + shapes.dy
    columns[f"{name}_flux"][:] = sources.sign * shapes.flux
    columns[f"{name}_fluxSigma"][:] = np.sqrt(shapes.covariance[:, 0, 0])
    for k, axis in enumerate(("xx", "yy", "xy"), start=1):
        columns[f"{name}_{axis}"][:] = getattr(shapes, axis)
        columns[f"{name}_{axis}Sigma"][:] = np.sqrt(shapes.covariance[:, k, k])
        columns[f"{name}_psf_{axis}"][:] = getattr(psf, axis)
        columns[f"{name}_flux_{axis}_Cov"][:] = sources.sign * shapes.covariance[:, 0, k]
    columns[f"{name}_flag"][:] = shapes.failed
    columns[f"{name}_flag_unweightedBad"][:] = shapes.unweighted_bad
    columns[f"{name}_flag_unweighted"][:] = shapes.unweighted
    columns[f"{name}_flag_shift"][:] = shapes.shift
    columns[f"{name}_flag_maxIter"][:] = shapes.too_long
    columns[f"{name}_flag_psf"][:] = psf.failed
    return shapes


def _put(columns: Columns, name: str, measured: fluxes.Fluxes) -> None:
    """Fill flux, error and general flag."""
    columns[f"{name}_flux"][:], columns[f"{name}_fluxSigma"][:] = measured.flux, measured.sigma
    columns[f"{name}_flag"][:] = measured.empty


def _fluxes(
    columns: Columns,
    sources: Sources,
    difference: Exposure,
    stamps: Stamps,
    shapes: Shapes,
    fitted: NDArray[np.bool_],
) -> None:
    """Fill the weighted fluxes at the centroid slot."""
    x, y = columns["base_SdssCentroid_x"], columns["base_SdssCentroid_y"]
    psf = fluxes.psf_flux(difference, sources.kernels, x, y)
    _put(columns, "base_PsfFlux", psf.without_centroid_bias(fitted))
    columns["base_PsfFlux_flag_noGoodPixels"][:] = psf.empty
    columns["base_PsfFlux_flag_edge"][:] = psf.edge
    _put(columns, "base_PeakLikelihoodFlux", fluxes.peak_likelihood_flux(difference, sources.kernels, x, y))
    psf_shapes, bad = sources.psf_shapes, shapes.failed
    moments = (
        np.where(bad, psf_shapes.xx, shapes.xx),
        np.where(bad, psf_shapes.yy, shapes.yy),
        np.where(bad, psf_shapes.xy, shapes.xy),
    )
    profile = fluxes.gaussian_flux(stamps, _offsets(columns, sources), moments)
    _put(columns, "base_GaussianFlux", profile)
    columns["base_GaussianFlux_flux"] *= sources.sign
    columns["base_GaussianFlux_flag"] |= shapes.failed


def _forced(columns: Columns, sources: Sources, difference: Exposure, beneath: Beneath) -> None:
    """PSF fluxes on both images at the centroid slot; their difference is that on the difference."""
    x, y = columns["base_SdssCentroid_x"], columns["base_SdssCentroid_y"]
    change, science = fluxes.forced_fluxes(difference, beneath.science, sources.kernels, x, y)
    shares = {"Science": beneath.share, "Template": 1.0 - beneath.share}
    for which, flux in (("Science", science), ("Template", science - change.flux)):
        name = f"diffrun_{which}Forced"
        columns[f"{name}_flux"][:] = flux
        columns[f"{name}_fluxSigma"][:] = change.sigma * np.sqrt(shares[which])
        columns[f"{name}_flag"][:] = change.empty


def _apertures(columns: Columns, difference: Exposure, x: Floats, y: Floats) -> None:
    """Fill the aperture fluxes."""
    every = apertures.measure(difference, x, y, apertures.RADII)
    for radius, measured in zip(apertures.RADII, every, strict=True):
        name = diasrc.aperture_name(radius)
        columns[f"{name}_flux"][:], columns[f"{name}_fluxSigma"][:] = measured.flux, measured.sigma
        columns[f"{name}_flag"][:] = measured.incomplete
        columns[f"{name}_flag_apertureTruncated"][:] = measured.truncated
        if f"{name}_flag_sincCoeffsTruncated" in columns:
            columns[f"{name}_flag_sincCoeffsTruncated"][:] = measured.truncated


def _naive_dipoles(columns: Columns, sources: Sources, difference: Exposure) -> None:
    """Fill first moments of the lobes, and sums of positive and negative pixels."""
    name, weights, lobes = "ip_diffim_NaiveDipoleCentroid", [], []
    for lobe, peak, sign in (("pos", 0, 1.0), ("neg", -1, -1.0)):
        x = np.array([f.peaks_x[peak] for f in sources.footprints], np.intp)
        y = np.array([f.peaks_y[peak] for f in sources.footprints], np.intp)
        snr = sign * np.array([f.peaks_snr[peak] for f in sources.footprints])
        moment = centroid.first_moment(cut(difference, x, y, 1).signed(np.full(len(x), sign)))
        bad = ~(snr > 0) | moment.no_counts
        place = np.stack([x + moment.dx, y + moment.dy, moment.dx_sigma, moment.dy_sigma])
        place[:, bad] = np.nan
        for column, values in zip(("x", "y", "xSigma", "ySigma"), place, strict=True):
            columns[f"{name}_{lobe}_{column}"][:] = values
        columns[f"{name}_{lobe}_flag"][:] = bad
        weights.append(np.where(bad, 0.0, snr))
        lobes.append(np.nan_to_num(place))
    total = weights[0] + weights[1]
    none = total == 0
    shares = [w / np.where(none, 1.0, total) for w in weights]
    mean = shares[0] * lobes[0][:2] + shares[1] * lobes[1][:2]
    sigma = np.hypot(shares[0] * lobes[0][2:], shares[1] * lobes[1][2:])
    columns[f"{name}_x"][:] = np.where(none, sources.peak_x, mean[0])
    columns[f"{name}_y"][:] = np.where(none, sources.peak_y, mean[1])
    columns[f"{name}_xSigma"][:] = np.where(none, np.nan, sigma[0])
    columns[f"{name}_ySigma"][:] = np.where(none, np.nan, sigma[1])
    columns[f"{name}_flag"][:] = none
    _lobe_sums(columns, sources, difference)


def _lobe_sums(columns: Columns, sources: Sources, difference: Exposure) -> None:
    """Sums of the positive and of the negative usable pixels of the footprints."""
    name, n = "ip_diffim_NaiveDipoleFlux", len(sources.footprints)
    rows, cols, owner = all_pixels(sources.footprints, difference.xy0, difference.shape)
    image = difference.image[rows, cols].astype(float)
    variance = difference.variance[rows, cols].astype(float)
    good = usable(image, variance, difference.mask[rows, cols], difference.bits(*UNUSABLE))
    for lobe, of_sign in (("pos", image > 0), ("neg", image < 0)):
        chosen = good & of_sign
        count = np.bincount(owner[chosen], minlength=n)
        columns[f"{name}_{lobe}_flux"][:] = np.bincount(owner[chosen], image[chosen], n)
        columns[f"{name}_{lobe}_fluxSigma"][:] = np.sqrt(np.bincount(owner[chosen], variance[chosen], n))
        columns[f"{name}_n{lobe}"][:] = count
        columns[f"{name}_{lobe}_flag"][:] = count == 0
    columns[f"{name}_flag"][:] = columns[f"{name}_pos_flag"] & columns[f"{name}_neg_flag"]


def _dipoles(
    columns: Columns,
    sources: Sources,
    difference: Exposure,
    beneath: Beneath,
    settings: dipole.Settings,
) -> None:
    """Fit the sources with lobes of both signs; all others are flagged as not fitted."""
    for name in ("ip_diffim_PsfDipoleFlux", "ip_diffim_DipoleFit"):
        columns[f"{name}_flag"][:] = True
    for lobe in ("pos", "neg"):
        columns[f"ip_diffim_PsfDipoleFlux_{lobe}_flag"][:] = True
    columns["ip_diffim_ClassificationDipole_value"][:] = 0.0
    for n, footprint in enumerate(sources.footprints):
        both, kernel = dipole.has_both_signs(footprint), sources.kernels[n]
        if both:
            alone = dipole.on_difference(footprint, difference, kernel, sources.sigma, settings)
            _put_psf_dipole(columns, n, alone, settings)
        if both or settings.fit_all:
            fit = dipole.joint(footprint, difference, beneath, kernel, sources.sigma, settings)
            _put_dipole_fit(columns, n, fit, settings)


def _put_psf_dipole(columns: Columns, n: int, fit: dipole.Dipole, settings: dipole.Settings) -> None:
    name = "ip_diffim_PsfDipoleFlux"
    places, sigmas = fit.positions.reshape(2, 2), fit.position_sigmas.reshape(2, 2)
    for k, (lobe, sign) in enumerate((("pos", 1.0), ("neg", -1.0))):
        columns[f"{name}_{lobe}_flux"][n] = sign * fit.fluxes[k]
        columns[f"{name}_{lobe}_fluxSigma"][n] = fit.sigmas[k]
        columns[f"{name}_{lobe}_flag"][n] = fit.failed
        for axis, place, sigma in zip("xy", places[k], sigmas[k], strict=True):
            columns[f"{name}_{lobe}_centroid_{axis}"][n] = place
            columns[f"{name}_{lobe}_centroid_{axis}Sigma"][n] = sigma
    for axis, place, sigma in zip("xy", fit.centroid, np.hypot(*sigmas) / 2, strict=True):
        columns[f"{name}_centroid_{axis}"][n] = place
        columns[f"{name}_centroid_{axis}Sigma"][n] = sigma
    columns[f"{name}_chi2dof"][n] = fit.chi2dof
    columns[f"{name}_flag"][n] = fit.failed
    value = fit.is_dipole(settings.psf_min_sn, settings.psf_max_flux_ratio)
    columns["ip_diffim_ClassificationDipole_value"][n] = float(value)


def _put_dipole_fit(columns: Columns, n: int, fit: dipole.Dipole, settings: dipole.Settings) -> None:
    name = "ip_diffim_DipoleFit"
    pos, neg = fit.fluxes
    x_pos, y_pos, x_neg, y_neg = fit.positions
    values = {
        "pos_flux": pos, "neg_flux": -neg, "pos_fluxSigma": fit.sigmas[0], "neg_fluxSigma": fit.sigmas[1],
        "pos_centroid_x": x_pos, "pos_centroid_y": y_pos, "neg_centroid_x": x_neg, "neg_centroid_y": y_neg,
        "centroid_x": fit.centroid[0], "centroid_y": fit.centroid[1], "flux": (pos + neg) / 2,
        "chi2dof": fit.chi2dof, "signalToNoise": fit.snr, "flag": fit.failed, "flag_edge": fit.edge,
        "flag_classificationAttempted": True,
        "flag_classification": fit.is_dipole(settings.min_sn, settings.max_flux_ratio),
    }  # fmt: skip
    if not fit.failed:
        values.update(orientation=fit.orientation, separation=fit.separation)
    for column, value in values.items():
        columns[f"{name}_{column}"][n] = value
