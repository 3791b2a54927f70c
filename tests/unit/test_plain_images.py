# SPDX-License-Identifier: BSD-3-Clause
"""Plain images in the forms that people have them: the same pixels and the same sky come out of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from diffrun.engine.makecalexp import companions, plain, projection
from diffrun.errors import DataError

SHAPE = (48, 64)
COUNTS = np.random.default_rng(1).poisson(900, SHAPE)
REAL = COUNTS.astype(np.float32)
EMPTY = np.zeros(SHAPE, np.float32)
STEP = 0.2 / 3600


def image(pixels: Any, name: str = "", **cards: Any) -> fits.ImageHDU:
    return fits.ImageHDU(pixels, fits.Header(cards), name=name)


def packed(pixels: Any, **how: Any) -> fits.CompImageHDU:
    return fits.CompImageHDU(pixels, name="SCI", **how)


def blanked() -> fits.PrimaryHDU:
    pixels = COUNTS.astype(np.int32)
    pixels[3, 5] = -1
    return fits.PrimaryHDU(pixels, fits.Header({"BLANK": -1}))


FORMS: dict[str, Callable[[], list[Any]]] = {
    "float32": lambda: [fits.PrimaryHDU(REAL)],
    "float64": lambda: [fits.PrimaryHDU(REAL.astype(float))],
    "int16": lambda: [fits.PrimaryHDU(COUNTS.astype(np.int16))],
    "unsigned": lambda: [fits.PrimaryHDU(COUNTS.astype(np.uint16))],
    "unsigned long": lambda: [fits.PrimaryHDU(COUNTS.astype(np.uint32))],
    "one plane of a cube": lambda: [fits.PrimaryHDU(REAL[np.newaxis, np.newaxis])],
    "rice": lambda: [fits.PrimaryHDU(), packed(COUNTS.astype(np.int16), compression_type="RICE_1")],
    "gzip": lambda: [fits.PrimaryHDU(), packed(REAL, compression_type="GZIP_2", quantize_level=0)],
    "behind a table": lambda: [
        fits.PrimaryHDU(),
        fits.BinTableHDU.from_columns([fits.Column("a", "1J", array=[1])]),
        image(REAL),
    ],
    "by its name": lambda: [fits.PrimaryHDU(), image(EMPTY, "DQ"), image(EMPTY, "ERR"), image(REAL, "SCI")],
    "the only one that is no mask": lambda: [fits.PrimaryHDU(), image(EMPTY, "MASK"), image(REAL, "X1")],
    "a leftover BZERO": lambda: [fits.PrimaryHDU(REAL, fits.Header({"BZERO": 32768.0}))],
}


@pytest.mark.parametrize("ending", [".fits", ".fits.gz"])
@pytest.mark.parametrize("form", FORMS)
def test_the_pixels_are_the_same_in_every_form(form: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    fits.HDUList(FORMS[form]()).writeto(path)
    with plain.open_file(path) as hdus:
        found = plain.read(hdus, None, path)
    assert found.pixels.dtype == np.float32
    np.testing.assert_array_equal(found.pixels, REAL)


def test_blank_and_infinite_pixels_are_no_numbers(tmp_path: Path) -> None:
    path, other = tmp_path / "a.fits", tmp_path / "b.fits"
    fits.HDUList([blanked()]).writeto(path)
    spoilt = REAL.copy()
    spoilt[3, 5] = np.inf
    fits.writeto(other, spoilt)
    for each in (path, other):
        with plain.open_file(each) as hdus:
            pixels = plain.read(hdus, None, each).pixels
        assert np.argwhere(np.isnan(pixels)).tolist() == [[3, 5]]
        np.testing.assert_array_equal(np.nan_to_num(pixels, nan=COUNTS[3, 5]), REAL)


def test_an_hdu_by_number_or_name_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), image(EMPTY, "A"), image(REAL, "B")]).writeto(path)
    with plain.open_file(path) as hdus:
        for wanted in ("2", "b"):
            np.testing.assert_array_equal(plain.read(hdus, wanted, path).pixels, REAL)
        first = plain.read(hdus, None, path)
        assert first.hdu == 1
        assert first.notes == ("2 images are in the file: HDU 1 is used, of HDU 1 A, 2 B",)
        with pytest.raises(DataError, match=r"no image in HDU C; it has images in HDU 1 A, 2 B"):
            plain.read(hdus, "C", path)


def test_cards_of_the_first_hdu_lie_beneath_those_of_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    first = fits.PrimaryHDU(header=fits.Header({"FILTER": "g", "EXPTIME": 30.0}))
    fits.HDUList([first, image(REAL, "SCI", FILTER="r")]).writeto(path)
    with plain.open_file(path) as hdus:
        cards = plain.read(hdus, None, path).header
    assert (cards["FILTER"], cards["EXPTIME"]) == ("r", 30.0)


KINDS: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in ("TAN", "SIN", "ARC", "STG", "ZEA")},
    "TAN-SIP": {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-4, "A_0_2": 2e-5, "B_1_1": 3e-5},
    "TPV": {"PV1_1": 1.0, "PV1_4": 5.0, "PV2_1": 1.0, "PV2_6": -3.0},
    "ZPN": {"PV2_1": 1.0, "PV2_3": 42.0},
}


def sky(kind: str, more: dict[str, Any]) -> fits.Header:
    turn = np.radians(30)
    return fits.Header(
        {
            "CTYPE1": f"RA---{kind}", "CTYPE2": f"DEC--{kind}", "RADESYS": "ICRS",
            "CRVAL1": 53.0, "CRVAL2": -28.0, "CRPIX1": 20.0, "CRPIX2": 70.0,
            "CD1_1": -STEP * np.cos(turn), "CD1_2": STEP * np.sin(turn),
            "CD2_1": STEP * np.sin(turn), "CD2_2": STEP * np.cos(turn), **more,
        }
    )  # fmt: skip


def off(header: fits.Header) -> tuple[NDArray[np.float64], list[str]]:
    """How far our reading of a header is from astropy's, mas, over the image."""
    found, notes = projection.read(header, SHAPE)
    assert found is not None
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 63, 9), np.linspace(0, 47, 9)))
    ra, dec = found.pixel_to_sky(x, y)
    truth = WCS(header).pixel_to_world(x, y).icrs
    east = (ra - truth.ra.deg) * np.cos(np.radians(dec))
    return np.hypot(east, dec - truth.dec.deg) * 3600e3, notes


@pytest.mark.parametrize("kind", KINDS)
def test_every_common_projection_is_followed(kind: str) -> None:
    distance, notes = off(sky(kind, KINDS[kind]))
    assert distance.max() < 0.1
    assert notes == []


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "RADESYS": None},
        {"RADESYS": "FK5", "EQUINOX": 2000.0},
        {"RADESYS": None, "EQUINOX": 1950.0},
        {"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None, "CDELT1": -STEP, "CDELT2": STEP,
         "CROTA2": 30.0},
    ],
    ids=["galactic", "FK5", "B1950", "CDELT and CROTA2"],
)  # fmt: skip
def test_other_axes_and_older_cards_are_brought_to_icrs(cards: dict[str, Any]) -> None:
    header = sky("TAN", {})
    for name, value in cards.items():
        if value is None:
            del header[name]
        else:
            header[name] = value
    distance, _ = off(header)
    assert distance.max() < 0.1


def test_no_wcs_and_one_that_cannot_be_meant() -> None:
    assert projection.read(fits.Header(), SHAPE) == (None, [])
    found, notes = projection.read(fits.Header({"CTYPE1": "WAVE", "CTYPE2": "LINEAR"}), SHAPE)
    assert found is None
    assert "taken as an image without a WCS" in notes[0]
    with pytest.raises(DataError, match="cannot be used"):
        projection.read(sky("TAN", {"CD1_1": 0.0, "CD1_2": 0.0}), SHAPE)


def test_a_mask_by_names_keeps_its_planes(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.int32)
    mask[10, 10:20], mask[20, 20] = 1 << 4, 1 << 2
    fits.writeto(tmp_path / "m.fits", mask, fits.Header({"MP_SAT": 4, "MP_BAD": 2}))
    found = companions.find_mask(fits.HDUList(), tmp_path / "m.fits", SHAPE)
    assert found is not None
    bits, planes, _ = found
    assert ((bits >> planes["SAT"]) & 1).sum() == 10
    assert np.argwhere((bits >> planes["BAD"]) & 1).tolist() == [[20, 20]]


def test_a_mask_of_ones_for_good_pixels_is_known(tmp_path: Path) -> None:
    mask = np.ones(SHAPE, np.uint8)
    mask[5] = 0
    fits.writeto(tmp_path / "m.fits", mask)
    found = companions.find_mask(fits.HDUList(), tmp_path / "m.fits", SHAPE)
    assert found is not None
    bits, planes, said = found
    assert "1 for good pixels" in said
    assert np.flatnonzero(((bits >> planes["BAD"]) & 1).any(axis=1)).tolist() == [5]


def test_planes_of_another_shape_are_refused(tmp_path: Path) -> None:
    fits.writeto(tmp_path / "m.fits", np.zeros((48, 65), np.uint8))
    for find in (companions.find_mask, companions.find_noise):
        with pytest.raises(DataError, match=r"has the shape \(48, 65\), the image \(48, 64\)"):
            find(fits.HDUList(), tmp_path / "m.fits", SHAPE)  # type: ignore[operator]
