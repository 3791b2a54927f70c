# SPDX-License-Identifier: BSD-3-Clause
"""World coordinates of FITS headers: TAN and TAN-SIP by our own arithmetic, every other kind by wcslib."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw import nearest
from diffrun.files.afw import wcs as worlds
from diffrun.files.afw.exposure import Wcs
from diffrun.files.afw.wcs import TanSipWcs

Array = NDArray[np.float64]
_CARDS = re.compile(
    r"NAXIS[12]?|WCSAXES|C(TYPE|RPIX|RVAL|UNIT|DELT)[12]|CROTA[12]|(CD|PC)[12]_[12]|P[VS][12]_\d+"
    r"|LONPOLE|LATPOLE|RADE(CSYS|SYS)|EQUINOX|EPOCH|(DATE|MJD)-(OBS|AVG)|TIMESYS"
    r"|(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)"
)
_TAN = {("RA---TAN", "DEC--TAN"), ("RA---TAN-SIP", "DEC--TAN-SIP")}
_STEPS = 100
_SAME = 0.01  # pixels


@dataclass(frozen=True)
class FitsWcs:
    """World coordinates of any kind that wcslib knows.

    Attributes
    ----------
    inner : `astropy.wcs.WCS`
    xy0 : `tuple` [`int`, `int`]
        Parent pixel of the image's first pixel.
    frame : `astropy.coordinates.BaseCoordinateFrame`
        Of the header.
    """

    inner: Any
    xy0: tuple[int, int]
    frame: Any

    def pixel_to_sky(self, x: Array, y: Array) -> tuple[Array, Array]:
        """ICRS right ascension (0 to 360) and declination, degrees, of parent pixels."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        pixels = np.stack([x.ravel() - self.xy0[0], y.ravel() - self.xy0[1]], axis=1)
        world = self.inner.all_pix2world(pixels, 0)
        native = world[:, self.inner.wcs.lng], world[:, self.inner.wcs.lat]
        ra, dec = _turned(*native, self.frame, None)
        return ra.reshape(x.shape), dec.reshape(x.shape)

    def sky_to_pixel(self, ra: Array, dec: Array) -> tuple[Array, Array]:
        """Parent pixels of ICRS degrees; NaN for what the projection does not reach."""
        ra, dec = np.broadcast_arrays(np.asarray(ra, float), np.asarray(dec, float))
        longitude, latitude = _turned(ra.ravel(), dec.ravel(), None, self.frame)
        world = np.empty((ra.size, 2))
        world[:, self.inner.wcs.lng], world[:, self.inner.wcs.lat] = longitude, latitude
        pixels = self.inner.all_world2pix(world, 0, tolerance=1e-8, maxiter=_STEPS, quiet=True)
        return (
            pixels[:, 0].reshape(ra.shape) + self.xy0[0],
            pixels[:, 1].reshape(ra.shape) + self.xy0[1],
        )

    def with_reverse(self, box: tuple[float, float, float, float]) -> TanSipWcs:
        """The TAN-SIP nearest to it over a box of parent pixels, which is what files hold."""
        return nearest.tan_sip(self, box)


def read(header: Mapping[str, Any], xy0: tuple[int, int]) -> Wcs:
    """The WCS of a FITS header (FITS standard 4.0, section 8), in ICRS and parent pixels.

    Parameters
    ----------
    header : mapping
        Cards of an image HDU.
    xy0 : `tuple` [`int`, `int`]
        Parent pixel of the image's first pixel.

    Raises
    ------
    diffrun.errors.DataError
        If there is none, the cards of its reference pixel are missing, or it is of no known kind.
    """
    if _plain(header):
        return worlds.from_header(header, xy0)
    worlds.refuse_missing(header)
    # Loaded here, as it takes longer than reading an image, and few files need it.
    from astropy.io import fits
    from astropy.wcs import WCS
    from astropy.wcs.utils import wcs_to_celestial_frame

    cards = _tpv({name: value for name, value in header.items() if _CARDS.fullmatch(name)})
    try:
        inner = WCS(fits.Header(cards), naxis=2, relax=True)
        sky = bool(inner.has_celestial)
        frame = _dated(wcs_to_celestial_frame(inner), inner.wcs.mjdobs) if sky else None
        made = FitsWcs(inner, xy0, frame)
        there = sky and _goes_both_ways(made)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"the image's WCS is not understood: {reason}", worlds.NO_WCS) from error
    if not there:
        kinds = ", ".join(str(header.get(name, "nothing")).strip() for name in ("CTYPE1", "CTYPE2"))
        raise DataError(f"the image's WCS has CTYPE {kinds}, and gives no sky", worlds.NO_WCS)
    return made


def _plain(header: Mapping[str, Any]) -> bool:
    """Whether it is TAN or TAN-SIP without anything that our own arithmetic leaves out."""
    kinds = tuple(str(header.get(name, "")).strip() for name in ("CTYPE1", "CTYPE2"))
    units = {str(header.get(name, "deg")).strip() or "deg" for name in ("CUNIT1", "CUNIT2")}
    matrix = any(re.fullmatch(r"(CD|PC)[12]_[12]", name) for name in header)
    turned = not matrix and any(float(header.get(name, 0)) != 0 for name in ("CROTA1", "CROTA2"))
    return (
        kinds in _TAN
        and units <= {"deg", "degree", "degrees"}
        and float(header.get("LONPOLE", 180.0)) == 180.0
        and not turned
        and not any(re.fullmatch(r"PV[12]_\d+", name) for name in header)
        and worlds.frame(header)[0] in ("ICRS", "FK5")
    )


def _tpv(cards: dict[str, Any]) -> dict[str, Any]:
    """TPV with the factors of 1 that may be left out, and SCAMP's name for it, TAN, corrected."""
    kinds = [str(cards.get(name, "")).strip() for name in ("CTYPE1", "CTYPE2")]
    # The standard's TAN has at most PV1_0 to PV1_4, which place its reference point.
    scamp = kinds == ["RA---TAN", "DEC--TAN"] and any(
        re.fullmatch(r"PV2_\d+|PV1_([5-9]|\d\d+)", n) for n in cards
    )
    if scamp:
        cards = cards | {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}
    elif kinds != ["RA---TPV", "DEC--TPV"]:
        return cards
    return {"PV1_1": 1.0, "PV2_1": 1.0} | cards


def _goes_both_ways(wcs: FitsWcs) -> bool:
    """Whether the first pixels have places on the sky, and those lead back to them."""
    x, y = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) + np.array(wcs.xy0)[:, np.newaxis]
    back_x, back_y = wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y))
    return bool((np.hypot(back_x - x, back_y - y) < _SAME).all())


def _dated(frame: Any, mjd: float) -> Any:
    """A frame of FK4, which turns slowly against ICRS, at the date of the observation; others as they are."""
    from astropy.coordinates import FK4
    from astropy.time import Time

    dated = isinstance(frame, FK4) and np.isfinite(mjd)
    return FK4(equinox=frame.equinox, obstime=Time(mjd, format="mjd")) if dated else frame


def _turned(longitude: Array, latitude: Array, source: Any, target: Any) -> tuple[Array, Array]:
    """Coordinates from one frame to another, ICRS for none, degrees."""
    from astropy.coordinates import ICRS, SkyCoord

    # A frame without data counts as false.
    source, target = (ICRS() if frame is None else frame for frame in (source, target))
    good = np.isfinite(longitude) & np.isfinite(latitude)
    out = np.full((2, longitude.size), np.nan)
    points = SkyCoord(longitude[good], latitude[good], unit="deg", frame=source).transform_to(target)
    out[0, good], out[1, good] = points.spherical.lon.deg % 360.0, points.spherical.lat.deg
    return out[0], out[1]
