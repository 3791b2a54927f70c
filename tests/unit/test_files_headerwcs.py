# SPDX-License-Identifier: BSD-3-Clause
"""Headers with world coordinates beyond TAN and TAN-SIP, against their definitions."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import FK4, FK5, Galactic, SkyCoord
from astropy.time import Time

from diffrun.errors import DataError
from diffrun.files.afw.headerwcs import FitsWcs, read
from diffrun.files.afw.wcs import TanSipWcs

MAS = 1 / 3.6e6  # degrees
XY0 = (700, 300)
TAN = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 320.5, "CRVAL2": -40.25,
    "CRPIX1": 512.5, "CRPIX2": 480.0, "CD1_1": -7e-5, "CD1_2": 1e-5, "CD2_1": 1.2e-5, "CD2_2": 7.1e-5,
    "RADESYS": "ICRS",
}  # fmt: skip
BOX = (700.0, 300.0, 1723.0, 1323.0)
X, Y = (grid.ravel() for grid in np.meshgrid(np.linspace(700, 1723, 5), np.linspace(300, 1323, 5)))


def without_matrix(**cards: Any) -> dict[str, Any]:
    return {name: value for name, value in TAN.items() if not name.startswith("CD")} | cards


def plane(cards: dict[str, Any] = TAN) -> tuple[Any, Any]:
    """Intermediate world coordinates of the test pixels, degrees."""
    x, y = X - XY0[0] + 1 - cards["CRPIX1"], Y - XY0[1] + 1 - cards["CRPIX2"]
    return cards["CD1_1"] * x + cards["CD1_2"] * y, cards["CD2_1"] * x + cards["CD2_2"] * y


def around(distance: Any, xi: Any, eta: Any, frame: Any = "icrs") -> tuple[Any, Any]:
    """ICRS of the points at that distance (degrees) from the reference point, towards (xi, eta)."""
    centre = SkyCoord(TAN["CRVAL1"], TAN["CRVAL2"], unit="deg", frame=frame)
    there = centre.directional_offset_by(np.arctan2(xi, eta) * u.rad, distance * u.deg).icrs
    return there.ra.deg, there.dec.deg


def gnomonic(xi: Any, eta: Any, frame: Any = "icrs") -> tuple[Any, Any]:
    return around(np.degrees(np.arctan(np.radians(np.hypot(xi, eta)))), xi, eta, frame)


def apart(one: tuple[Any, Any], other: tuple[Any, Any]) -> float:
    """The largest distance of two lists of positions, degrees."""
    first, second = (SkyCoord(*each, unit="deg") for each in (one, other))
    return float(first.separation(second).deg.max())


def tpv() -> tuple[dict[str, Any], tuple[Any, Any]]:
    """A TPV header, and the sky by its definition: polynomials of (ξ, η, r) before the tangent plane."""
    pv = {"PV1_0": 1e-4, "PV1_1": 1.002, "PV1_2": 3e-4, "PV1_3": 2e-5, "PV1_4": 0.01, "PV1_7": -0.3}
    pv |= {"PV2_0": -2e-4, "PV2_1": 0.999, "PV2_2": 1e-4, "PV2_5": 0.02, "PV2_10": 0.1}
    cards = {**TAN, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", **pv}

    def distorted(a: Any, b: Any, axis: int) -> Any:
        terms = {0: 1, 1: a, 2: b, 3: np.hypot(a, b), 4: a**2, 5: a * b, 7: a**3, 10: b**3}
        return sum(cards.get(f"PV{axis}_{n}", 0.0) * term for n, term in terms.items())

    xi, eta = plane()
    return cards, gnomonic(distorted(xi, eta, 1), distorted(eta, xi, 2))


def kinds() -> dict[str, tuple[dict[str, Any], tuple[Any, Any]]]:
    xi, eta = plane()
    distance = np.hypot(xi, eta)
    sine = np.degrees(np.arcsin(np.radians(distance)))
    turn = np.radians(20.0)
    x, y = X - XY0[0] + 1 - TAN["CRPIX1"], Y - XY0[1] + 1 - TAN["CRPIX2"]
    turned = (
        -7e-5 * np.cos(turn) * x - 7e-5 * np.sin(turn) * y,
        -7e-5 * np.sin(turn) * x + 7e-5 * np.cos(turn) * y,
    )
    fk4 = FK4(equinox="B1950", obstime=Time(1983.5, format="jyear"))
    scamp, there = tpv()
    return {
        "TPV": (scamp, there),
        "TPV as SCAMP writes it": ({**scamp, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}, there),
        "TPV without coefficients": ({**TAN, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}, gnomonic(xi, eta)),
        "TPV of one axis": (
            {**TAN, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_4": 0.01},
            gnomonic(xi + 0.01 * xi**2, eta),
        ),
        "PV of the standard": ({**TAN, "PV1_1": 0.0, "PV1_2": 90.0}, gnomonic(xi, eta)),
        "SIN": ({**TAN, "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"}, around(sine, xi, eta)),
        "ARC": ({**TAN, "CTYPE1": "RA---ARC", "CTYPE2": "DEC--ARC"}, around(distance, xi, eta)),
        "CROTA2": (without_matrix(CDELT1=-7e-5, CDELT2=7e-5, CROTA2=20.0), gnomonic(*turned)),
        "LONPOLE": ({**TAN, "LONPOLE": 0.0}, gnomonic(-xi, -eta)),
        "arcsec": (
            {name: value * 3600 if name[:2] in ("CD", "CR") and "PIX" not in name else value
             for name, value in TAN.items() if name[:4] != "RADE"}
            | {"CUNIT1": "arcsec", "CUNIT2": "arcsec", "RADESYS": "ICRS"},
            gnomonic(xi, eta),
        ),
        "FK4": (
            {**TAN, "RADESYS": "FK4", "EQUINOX": 1950.0, "DATE-OBS": Time(1983.5, format="jyear").isot},
            gnomonic(xi, eta, fk4),
        ),
        "galactic": (
            {**{n: v for n, v in TAN.items() if n != "RADESYS"}, "CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
            gnomonic(xi, eta, Galactic()),
        ),
        "declination first": (
            {**TAN, "CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": -40.25, "CRVAL2": 320.5,
             "CD1_1": 1.2e-5, "CD1_2": 7.1e-5, "CD2_1": -7e-5, "CD2_2": 1e-5},
            gnomonic(xi, eta),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", kinds())
def test_by_their_definitions(kind: str) -> None:
    cards, sky = kinds()[kind]
    wcs = read(cards, XY0)
    assert isinstance(wcs, FitsWcs)
    assert apart(wcs.pixel_to_sky(X, Y), sky) < 1e-4 * MAS
    back_x, back_y = wcs.sky_to_pixel(*sky)
    assert max(np.abs(back_x - X).max(), np.abs(back_y - Y).max()) < 1e-6
    written = wcs.with_reverse(BOX)
    assert isinstance(written, TanSipWcs)
    # the cone of PV1_3 is no polynomial
    assert apart(written.pixel_to_sky(X, Y), sky) < (2 if "PV1_3" in cards else 1e-2) * MAS


def test_tan_stays_our_own() -> None:
    for cards, frame in ((TAN, "icrs"), ({**TAN, "RADESYS": "FK5", "EQUINOX": 2000.0}, FK5())):
        wcs = read(cards, XY0)
        assert isinstance(wcs, TanSipWcs)
        assert apart(wcs.pixel_to_sky(X, Y), gnomonic(*plane(), frame)) < 1e-4 * MAS


def test_the_other_side_of_the_sky_is_nowhere() -> None:
    x, y = read(tpv()[0], XY0).sky_to_pixel(np.array([140.5, 320.5]), np.array([40.25, -40.25]))
    assert np.isnan([x[0], y[0]]).all()
    assert np.isfinite([x[1], y[1]]).all()


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({**TAN, "CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, "CTYPE LINEAR, LINEAR, and gives no sky"),
        ({**TAN, "CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}, "WCS is not understood"),
        ({**TAN, "CTYPE1": "RA---SIN"}, "WCS is not understood"),
        ({**TAN, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 0.0}, "TPV, and gives no sky"),
        ({**TAN, "RADESYS": "FK4", "CD1_1": 0.0, "CD1_2": 0.0}, "WCS is not understood"),
        ({n: v for n, v in tpv()[0].items() if n != "CRPIX1"}, "lacks CRPIX1"),
    ],
)
def test_what_gives_no_sky_is_refused(cards: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(cards, XY0)
