# SPDX-License-Identifier: BSD-3-Clause
"""World coordinates against astropy's WCS, an independent implementation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import FK5, ICRS, SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from diffrun.errors import DataError
from diffrun.files.afw.wcs import TanSipWcs, from_header

MAS = 1 / 3.6e6  # degrees


def cards(sip: bool = False, **changes: Any) -> dict[str, Any]:
    header: dict[str, Any] = {
        "CTYPE1": "RA---TAN-SIP" if sip else "RA---TAN",
        "CTYPE2": "DEC--TAN-SIP" if sip else "DEC--TAN",
        "CRPIX1": -310.5,
        "CRPIX2": 1203.25,
        "CRVAL1": 359.99,
        "CRVAL2": -27.439,
        "CD1_1": 5.4e-5,
        "CD1_2": 1.1e-5,
        "CD2_1": -1.2e-5,
        "CD2_2": 5.5e-5,
        "RADESYS": "ICRS",
    }
    if sip:
        header |= {"A_ORDER": 3, "B_ORDER": 3, "A_2_0": 3e-6, "A_1_1": -2e-6, "A_0_3": 4e-10}
        header |= {"B_0_2": -5e-6, "B_1_1": 1e-6, "B_2_1": -3e-10}
    return header | changes


def astropy_wcs(header: dict[str, Any]) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(fits.Header(header))


def pixels(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    return rng.uniform(-100, 2100, n), rng.uniform(-100, 2100, n)


@pytest.mark.parametrize("sip", [False, True])
def test_both_ways_as_astropy(sip: bool) -> None:
    header = cards(sip)
    x, y = pixels()
    x0, y0 = 700, 300
    wcs = from_header(header, (x0, y0))
    ra, dec = wcs.pixel_to_sky(x + x0, y + y0)
    want_ra, want_dec = astropy_wcs(header).all_pix2world(x, y, 0)
    assert np.abs((ra - want_ra + 180) % 360 - 180).max() < 1e-5 * MAS
    assert np.abs(dec - want_dec).max() < 1e-5 * MAS
    assert ((ra >= 0) & (ra < 360)).all()
    back_x, back_y = wcs.sky_to_pixel(want_ra, want_dec)
    assert np.abs(back_x - x - x0).max() < 1e-7
    assert np.abs(back_y - y - y0).max() < 1e-7


@pytest.mark.parametrize("sip", [False, True])
def test_the_header_written_says_the_same_to_astropy(sip: bool) -> None:
    wcs = from_header(cards(sip), (700, 300))
    x, y = pixels()
    ra, dec = astropy_wcs(wcs.header((20, 30))).all_pix2world(x - 20, y - 30, 0)
    want_ra, want_dec = wcs.pixel_to_sky(x, y)
    assert np.abs((ra - want_ra + 180) % 360 - 180).max() < 1e-5 * MAS
    assert np.abs(dec - want_dec).max() < 1e-5 * MAS


def test_cdelt_and_pc_make_a_matrix() -> None:
    header = {name: value for name, value in cards().items() if not name.startswith("CD")}
    header |= {"CDELT1": -5e-5, "CDELT2": 5e-5, "PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8}
    x, y = pixels()
    ra, dec = from_header(header, (0, 0)).pixel_to_sky(x, y)
    want_ra, want_dec = astropy_wcs(header).all_pix2world(x, y, 0)
    assert np.abs((ra - want_ra + 180) % 360 - 180).max() < 1e-5 * MAS
    assert np.abs(dec - want_dec).max() < 1e-5 * MAS


@pytest.mark.parametrize("dec", [-27.4, 89.5, -89.95])
@pytest.mark.parametrize("equinox", [2000.0, 1975.0])
def test_fk5_becomes_icrs(dec: float, equinox: float) -> None:
    header = cards(RADESYS="FK5", EQUINOX=equinox, CRVAL2=dec)
    x, y = pixels(50)
    ra, got_dec = from_header(header, (0, 0)).pixel_to_sky(x, y)
    frame = FK5(equinox=f"J{equinox}")
    want = SkyCoord(*astropy_wcs(header).all_pix2world(x, y, 0), unit="deg", frame=frame).transform_to(ICRS())
    assert SkyCoord(ra, got_dec, unit="deg").separation(want).deg.max() < 1e-3 * MAS


def test_reverse_polynomials_are_good_to_a_thousandth_of_a_pixel() -> None:
    wcs = from_header(cards(sip=True), (0, 0)).with_reverse((0, 0, 2000, 2000))
    x, y = np.random.default_rng(2).uniform(0, 2000, (2, 300))
    u, v = x - wcs.crpix[0], y - wcs.crpix[1]
    assert wcs.a is not None
    assert wcs.b is not None
    assert wcs.ap is not None
    assert wcs.bp is not None
    polynomial = np.polynomial.polynomial.polyval2d
    big_u, big_v = u + polynomial(u, v, wcs.a), v + polynomial(u, v, wcs.b)
    assert np.abs(big_u + polynomial(big_u, big_v, wcs.ap) - u).max() < 1e-3
    assert np.abs(big_v + polynomial(big_u, big_v, wcs.bp) - v).max() < 1e-3


def test_behind_the_tangent_plane_is_nowhere() -> None:
    wcs = TanSipWcs((10.0, 20.0), (0.0, 0.0), np.array([[-5e-5, 0], [0, 5e-5]]))
    x, y = wcs.sky_to_pixel(np.array([190.0, 10.0]), np.array([-20.0, 20.0]))
    assert np.isnan(x[0])
    assert np.isnan(y[0])
    assert (x[1], y[1]) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"CTYPE1": "RA---SIN"}, "CTYPE RA---SIN, DEC--TAN"),
        ({"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"}, "CTYPE DEC--TAN"),
        ({"LONPOLE": 90.0}, "LONPOLE 90"),
        ({"RADESYS": "FK4", "EQUINOX": 1950.0}, "frame FK4"),
        ({"CD1_1": 0.0, "CD2_1": 0.0}, "cannot be used"),
        ({"CRVAL1": float("nan")}, "cannot be used"),
        ({"CRVAL2": 91.0}, "cannot be used"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_remedy(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        from_header(cards(**changes), (0, 0))
    assert "TAN" in caught.value.remedy


@pytest.mark.parametrize("missing", ["CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2"])
def test_a_missing_card_is_named(missing: str) -> None:
    header = cards()
    del header[missing]
    with pytest.raises(DataError, match=f"lacks {missing}"):
        from_header(header, (0, 0))
