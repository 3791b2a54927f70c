# SPDX-License-Identifier: BSD-3-Clause
"""What the cards of a plain image say of its time, unit, zero point, gain and saturation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffrun.engine.makecalexp.plain import first
from diffrun.files.afw.photocalib import FLUX_MAG0_NJY

_GAIN = ("GAIN", "EGAIN", "CCDGAIN", "GAINEFF", "AVGGAIN", "GAINA", "HIERARCH CELL.GAIN", "CELL.GAIN")
_READ_NOISE = ("RDNOISE", "READNOIS", "READNOISE", "RON", "ENOISE", "RDNOISEA")
_SATURATE = ("SATURATE", "SATURATI", "SATLEVEL", "SATURATA", "SATUR_LV", "CELL.SATURATION")
_EXPTIME = ("EXPTIME", "EXPOSURE", "EXP_TIME", "TEXPTIME", "ITIME")
_ZERO_POINT = (
    "MAGZERO",
    "MAGZPT",
    "ZEROPT",
    "ZEROPNT",
    "PHOTZP",
    "MAGZP",
    "ZPMAG",
    "PHOT_ZP",
    "ZP",
    "FPA.ZP",
)
_MJD = ("MJD-OBS", "MJD_OBS", "MJD", "MJDOBS", "EXPMJD")
_MIDDLE = ("MJD-MID", "MJD-AVG", "MJDMID")
_KEPT = (
    "ORIGIN", "OBSERVAT", "TELESCOP", "INSTRUME", "DETECTOR", "CCDNAME", "CCD", "OBJECT", "OBSERVER",
    "AIRMASS", "RUN", "CAMCOL", "FRAME", "FIELD", "OBSID", "EXPNUM", "DATE-OBS",
)  # fmt: skip
_NANOMAGGY = 1e9  # of AB magnitude 0
_SDSS_FLUX20 = 10.0**8  # magnitude 20 in units of magnitude 0


@dataclass(frozen=True)
class Facts:
    """What the cards say; NaN for what they do not.

    Attributes
    ----------
    gain, read_noise : `float`
        Electrons per count, electrons. Not yet believed.
    saturation, pedestal : `float`
        In the image's unit; the pedestal is in every pixel, beneath sky and sources.
    exposure_time : `float`
        Seconds.
    mjd : `float`
        Middle of the exposure, TAI.
    flux_mag0 : `float`
        The image's units of an AB magnitude 0 source.
    kept : `dict`
        Cards that go along with the image.
    notes : `tuple` [`str`, ...]
    """

    gain: float
    read_noise: float
    saturation: float
    pedestal: float
    exposure_time: float
    mjd: float
    flux_mag0: float
    kept: Mapping[str, Any]
    notes: tuple[str, ...]


def read(header: Mapping[str, Any]) -> Facts:
    """Read the cards of an image."""
    notes: list[str] = []
    exposure_time = _value(header, _EXPTIME)
    unit = str(header.get("BUNIT", header.get("BUNITS", ""))).strip().lower()
    gain = 1.0 if unit in ("e-", "electron", "electrons", "photon", "photons") else _value(header, _GAIN)
    found = {
        "time": _middle(header, exposure_time),
        "exposure time": exposure_time,
        "zero point": _zero_point(header, unit, notes),
    }
    missing = [name for name, value in found.items() if not np.isfinite(value)]
    if missing:
        notes.append(f"no card tells its {' or its '.join(missing)}: left unknown")
    return Facts(
        gain=gain,
        read_noise=_value(header, _READ_NOISE),
        saturation=_value(header, _SATURATE),
        pedestal=_value(header, ("SOFTBIAS",)),
        exposure_time=exposure_time,
        mjd=found["time"],
        flux_mag0=found["zero point"],
        kept={name: header[name] for name in _KEPT if name in header},
        notes=tuple(notes),
    )


def _value(header: Mapping[str, Any], names: tuple[str, ...]) -> float:
    """The first card above 0, NaN if there is none."""
    found = first(
        {name: header[name] for name in names if name in header and header[name] not in (0, "")}, names
    )
    return found[1] if found and found[1] > 0 else float("nan")


def _zero_point(header: Mapping[str, Any], unit: str, notes: list[str]) -> float:
    """The flux of magnitude 0, from a card or from the unit."""
    flux = _value(header, ("FLUXMAG0",))
    if np.isfinite(flux):
        return flux
    if unit in ("njy", "nanojansky"):
        return FLUX_MAG0_NJY
    if unit in ("nanomaggy", "nanomaggies", "nmgy"):
        return _NANOMAGGY
    flux20 = _value(header, ("FLUX20",))
    if np.isfinite(flux20):
        return flux20 * _SDSS_FLUX20
    found = first(header, _ZERO_POINT)
    if found is None or not 0 < found[1] < 60:
        return float("nan")
    name, value = found
    if name == "FPA.ZP":  # Pan-STARRS gives it for one second
        value += 2.5 * np.log10(max(_value(header, _EXPTIME), 1.0))
    notes.append(f"the card {name} = {value:g} is taken as the AB magnitude of one unit of the image")
    return float(10 ** (0.4 * value))


def _middle(header: Mapping[str, Any], exposure_time: float) -> float:
    """The middle of the exposure as TAI; cards are UTC unless TIMESYS says so."""
    half = 0.5 * exposure_time / 86400 if np.isfinite(exposure_time) else 0.0
    scale = "tai" if str(header.get("TIMESYS", "")).strip().upper() == "TAI" else "utc"
    seconds = first(header, ("TAI",))
    if seconds and seconds[1] > 1e9:  # SDSS: seconds since MJD 0
        return seconds[1] / 86400 + half
    middle, start = first(header, _MIDDLE), first(header, _MJD)
    if middle and middle[1] > 0:
        return _tai(middle[1], "mjd", scale)
    if start and start[1] > 0:
        return _tai(start[1], "mjd", scale) + half
    text = str(header.get("DATE-OBS", "")).strip()
    if "T" not in text:
        clock = next(
            (str(header[name]).strip() for name in ("TIME-OBS", "UTC-OBS", "UT") if name in header), ""
        )
        text = f"{text}T{clock}" if clock else ""
    return _tai(text, "isot", scale) + half if text else float("nan")


def _tai(value: float | str, form: str, scale: str) -> float:
    from astropy.time import Time

    try:
        return float(Time(value, format=form, scale=scale).tai.mjd)
    except ValueError:
        return float("nan")
