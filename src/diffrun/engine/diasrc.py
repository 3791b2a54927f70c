# SPDX-License-Identifier: BSD-3-Clause
"""The columns of ``diaSrc``: those of the stack's release 12.1 in its order, then the engine's own.

Types: D double, F float, I and L integers of 32 and 64 bits, Flag, Angle in radians. The unit ``count`` of
every flux and its error lets old and new readers of afw recognise them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.apertures import RADII
from diffrun.engine.flags import ANYWHERE, CENTER
from diffrun.files.afw.catalog import Catalog, Field

_DTYPES: Mapping[str, Any] = {
    "D": np.float64,
    "F": np.float32,
    "I": np.int32,
    "L": np.int64,
    "Angle": np.float64,
    "Flag": np.bool_,
}
#: Largest radius for which the stack computes its weights by a sinc.
_MAX_SINC_RADIUS = 10.0
_PIXEL2 = "pixel^2"


def aperture_name(radius: float) -> str:
    """Column prefix of an aperture: 4.5 gives base_CircularApertureFlux_4_5."""
    return f"base_CircularApertureFlux_{radius:.1f}".replace(".", "_")


def _flag(name: str, doc: str = "general failure flag") -> Field:
    return Field(name, "Flag", "", doc)


def _flux(name: str, doc: str) -> list[Field]:
    return [
        Field(f"{name}_flux", "D", "count", doc),
        Field(f"{name}_fluxSigma", "D", "count", f"1-sigma error of: {doc}"),
    ]


def _position(name: str, doc: str, sigma: bool = True) -> list[Field]:
    fields = [Field(f"{name}_{axis}", "D", "pixel", f"{axis}, {doc}") for axis in "xy"]
    if sigma:
        fields += [Field(f"{name}_{a}Sigma", "F", "pixel", f"1-sigma error of {a}, {doc}") for a in "xy"]
    return fields


def _identity() -> Iterator[Field]:
    yield Field("id", "L", "", "unique id: the exposure's id and a number from 1")
    yield Field("coord_ra", "Angle", "rad", "position in ra, ICRS, of the centroid slot")
    yield Field("coord_dec", "Angle", "rad", "position in dec, ICRS, of the centroid slot")
    yield Field("parent", "L", "", "unique id of the parent source, 0 for none")
    yield _flag(
        "flags_negative", "main peak negative; centroids and shapes are those of the image turned over"
    )


def _sdss_centroid() -> Iterator[Field]:
    name = "base_SdssCentroid"
    yield from _position(name, "where the PSF of the difference fits the main peak best")
    yield _flag(f"{name}_flag")
    yield _flag(f"{name}_flag_edge", "the stamp reaches beyond the image")
    yield _flag(f"{name}_flag_noSecondDerivative", "no maximum: the fit is singular")
    yield _flag(f"{name}_flag_almostNoSecondDerivative", "the maximum is a ridge")
    yield _flag(f"{name}_flag_notAtMaximum", "the fit found no source of the peak's sign")
    yield _flag(f"{name}_flag_resetToPeak", "the fit was given up and the peak is given")


def _simple_centroids() -> Iterator[Field]:
    name = "base_GaussianCentroid"
    yield from _position(name, "centre of the round Gaussian of the PSF's width that fits best", sigma=False)
    yield _flag(f"{name}_flag")
    yield _flag(f"{name}_flag_noPeak", "the fit found no maximum")
    yield _flag(f"{name}_flag_resetToPeak", "the fit was given up and the peak is given")
    name = "base_NaiveCentroid"
    yield from _position(name, "first moment of the 3x3 pixels about the main peak", sigma=False)
    yield _flag(f"{name}_flag")
    yield _flag(f"{name}_flag_noCounts", "the 3x3 pixels have no counts of the peak's sign")
    yield _flag(f"{name}_flag_edge", "the 3x3 pixels reach beyond the image")
    yield _flag(f"{name}_flag_resetToPeak", "the peak is given")
    name = "base_PeakCentroid"
    yield from _position(name, "the main peak's pixel", sigma=False)
    yield _flag(f"{name}_flag")


def _naive_dipole_centroid() -> Iterator[Field]:
    name = "ip_diffim_NaiveDipoleCentroid"
    yield from _position(name, "mean of the lobes' first moments, weighted by their peaks")
    for lobe, which in (("pos", "first peak, if positive"), ("neg", "last peak, if negative")):
        yield from _position(f"{name}_{lobe}", f"first moment of 3x3 pixels, {which}")
    yield _flag(f"{name}_flag", "neither lobe has a centroid; the main peak is given")
    yield _flag(f"{name}_pos_flag", "no positive lobe")
    yield _flag(f"{name}_neg_flag", "no negative lobe")


def _sdss_shape() -> Iterator[Field]:
    name = "base_SdssShape"
    axes = ("xx", "yy", "xy")
    yield from (Field(f"{name}_{a}", "D", _PIXEL2, f"adaptive moment {a}") for a in axes)
    yield from (Field(f"{name}_{a}Sigma", "F", _PIXEL2, f"1-sigma error of {a}") for a in axes)
    yield from _position(name, "centre of the Gaussian that fits best", sigma=False)
    yield from _flux(name, "flux of the Gaussian that fits best")
    yield from (Field(f"{name}_psf_{a}", "D", _PIXEL2, f"adaptive moment {a} of the PSF") for a in axes)
    for a in axes:
        yield Field(f"{name}_flux_{a}_Cov", "F", f"count*{_PIXEL2}", f"covariance of flux and {a}")
    yield _flag(f"{name}_flag")
    yield _flag(f"{name}_flag_unweightedBad", "even unweighted moments failed")
    yield _flag(f"{name}_flag_unweighted", "weighted moments failed; unweighted ones are given")
    yield _flag(f"{name}_flag_shift", "the centre wandered off; unweighted moments are given")
    yield _flag(f"{name}_flag_maxIter", "no end within 100 iterations")
    yield _flag(f"{name}_flag_psf", "the PSF has no adaptive moments")


def _apertures() -> Iterator[Field]:
    for radius in RADII:
        name = aperture_name(radius)
        yield from _flux(name, f"flux within {radius} pixels of slot_Centroid, usable pixels only")
        yield _flag(f"{name}_flag", "some pixels of the aperture are unusable or beyond the image")
        yield _flag(f"{name}_flag_apertureTruncated", "the aperture reaches beyond the image")
        if radius <= _MAX_SINC_RADIUS:
            yield _flag(f"{name}_flag_sincCoeffsTruncated", "the weights reach beyond the image")


def _weighted_fluxes() -> Iterator[Field]:
    yield from _flux("base_GaussianFlux", "flux of the Gaussian of slot_Shape at slot_Centroid")
    yield _flag("base_GaussianFlux_flag", "no flux, or slot_Shape failed and the PSF's moments were used")
    yield from _flux(
        "base_PeakLikelihoodFlux", "value times effective area; for images convolved with their PSF"
    )
    yield _flag("base_PeakLikelihoodFlux_flag")
    yield from _flux(
        "base_PsfFlux", "sum(m d)/sum(m^2), usable pixels only, less the bias of a fitted position"
    )
    yield _flag("base_PsfFlux_flag")
    yield _flag("base_PsfFlux_flag_noGoodPixels", "no usable pixel under the PSF")
    yield _flag("base_PsfFlux_flag_edge", "the PSF reaches beyond the image")


def _pixel_flags() -> Iterator[Field]:
    name = "base_PixelFlags_flag"
    yield _flag(name)
    yield _flag(f"{name}_offimage", "the centre is off the image")
    for flag, planes in ANYWHERE.items():
        yield _flag(f"{name}_{flag}", f"{' or '.join(planes)} in the footprint")
    for flag, planes in CENTER.items():
        yield _flag(f"{name}_{flag}", f"{' or '.join(planes)} in the 3x3 pixels about the centre")


def _old_dipoles() -> Iterator[Field]:
    name = "ip_diffim_NaiveDipoleFlux"
    for lobe, sign in (("pos", "positive"), ("neg", "negative")):
        yield from _flux(f"{name}_{lobe}", f"sum of the {sign} usable pixels of the footprint")
    for lobe, sign in (("pos", "positive"), ("neg", "negative")):
        yield Field(f"{name}_n{lobe}", "I", "count", f"number of {sign} usable pixels of the footprint")
    yield _flag(f"{name}_flag")
    yield _flag(f"{name}_pos_flag", "no positive pixels")
    yield _flag(f"{name}_neg_flag", "no negative pixels")
    name = "ip_diffim_PsfDipoleFlux"
    for lobe in ("pos", "neg"):
        yield from _flux(f"{name}_{lobe}", f"flux of the {lobe} lobe, two PSFs fitted to the difference")
    yield Field(f"{name}_chi2dof", "F", "", "reduced chi squared with the variance plane")
    yield from _position(f"{name}_pos_centroid", "positive lobe")
    yield from _position(f"{name}_neg_centroid", "negative lobe")
    yield from _position(f"{name}_centroid", "middle of the lobes")
    yield _flag(f"{name}_flag", "not fitted (one sign only) or failed")
    yield _flag(f"{name}_pos_flag", "no flux of the positive lobe")
    yield _flag(f"{name}_neg_flag", "no flux of the negative lobe")
    name = "ip_diffim_ClassificationDipole"
    yield Field(f"{name}_value", "D", "", "1 if PsfDipoleFlux looks like a dipole, else 0")
    yield _flag(f"{name}_flag")


def _dipole_fit() -> Iterator[Field]:
    name = "ip_diffim_DipoleFit"
    yield Field(f"{name}_pos_flux", "D", "count", "flux of the positive lobe")
    yield Field(f"{name}_neg_flux", "D", "count", "flux of the negative lobe, with its sign")
    for lobe in ("pos", "neg"):
        yield Field(
            f"{name}_{lobe}_fluxSigma", "D", "count", f"1-sigma error of {lobe}_flux, variance planes"
        )
    yield from _position(f"{name}_pos_centroid", "positive lobe", sigma=False)
    yield from _position(f"{name}_neg_centroid", "negative lobe", sigma=False)
    yield from _position(f"{name}_centroid", "middle of the lobes", sigma=False)
    yield Field(f"{name}_flux", "D", "count", "mean of the lobes' absolute fluxes")
    yield Field(f"{name}_orientation", "D", "deg", "from the negative to the positive lobe, from the x axis")
    yield Field(f"{name}_separation", "D", "pixel", "distance of the lobes")
    yield Field(f"{name}_chi2dof", "D", "", "reduced chi squared with the variance planes")
    yield Field(f"{name}_signalToNoise", "D", "", "flux over error of both lobes, in quadrature")
    yield _flag(f"{name}_flag", "not attempted or failed; after a failure the positions are the peaks")
    yield _flag(f"{name}_flag_classification", "the source is a dipole")
    yield _flag(f"{name}_flag_classificationAttempted", "peaks of both signs: a dipole was tried")
    yield _flag(f"{name}_flag_edge", "the footprint and its margin reach beyond the image")


def _own() -> Iterator[Field]:
    yield Field("diffrun_snr", "D", "", "detection S/N of the main peak, signed; no column of the stack")
    for which, label in (("Science", "science image"), ("Template", "matched template")):
        name = f"diffrun_{which}Forced"
        yield from _flux(name, f"PSF flux on the {label} at slot_Centroid; no column of the stack")
        yield _flag(f"{name}_flag", "no usable pixel under the PSF")


def fields() -> tuple[Field, ...]:
    """All columns, in order."""
    groups: Iterable[Iterator[Field]] = (
        _identity(), _sdss_centroid(), _simple_centroids(), _naive_dipole_centroid(), _sdss_shape(),
        _apertures(), _weighted_fluxes(), _pixel_flags(), _old_dipoles(), _dipole_fit(), _own(),
    )  # fmt: skip
    return tuple(field for group in groups for field in group)


def aliases() -> dict[str, str]:
    """Slots, and the flags by which a measurement tells that its centroid or shape was bad."""
    slots = {
        "slot_Centroid": "base_SdssCentroid",
        "slot_Shape": "base_SdssShape",
        "slot_PsfFlux": "base_PsfFlux",
        "slot_ApFlux": aperture_name(12.0),
    }
    users = ("SdssShape", "GaussianFlux", "PeakLikelihoodFlux", "PsfFlux", "CircularApertureFlux")
    centroids = {f"base_{user}_flag_badCentroid": "base_SdssCentroid_flag" for user in users}
    return {**slots, **centroids, "base_GaussianFlux_flag_badShape": "base_SdssShape_flag"}


def empty(rows: int) -> dict[str, NDArray[Any]]:
    """Every column with ``rows`` rows, filled with NaN, 0 or False."""
    columns = {}
    for field in fields():
        dtype = _DTYPES[field.type]
        fill = np.nan if np.issubdtype(dtype, np.floating) else 0
        columns[field.name] = np.full(rows, fill, dtype=dtype)
    return columns


def catalogue(columns: Mapping[str, NDArray[Any]]) -> Catalog:
    """The catalogue of these columns, which must be those of `empty`."""
    return Catalog(fields(), dict(columns), aliases(), {})
