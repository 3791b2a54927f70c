# SPDX-License-Identifier: BSD-3-Clause
"""Files in the layout of the package lsst-images, made here card by card as that package makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from diffrun.engine.makecalexp import __main__ as makecalexp
from diffrun.errors import DataError
from diffrun.files.afw.exposure import DEFAULT_PLANES
from diffrun.files.afw.reader import read_exposure, read_summary
from diffrun.files.afw.writer import write_exposure

SHAPE = (40, 50)
#: Names there, and in afw where they differ; more than one HDU holds.
FIRST = ("BAD", "SATURATED", "INTERPOLATED", "COSMIC_RAY", "DETECTION_EDGE", "DETECTED", "SUSPECT", "NO_DATA")
FIRST += ("VIGNETTED", "PARTLY_VIGNETTED", "CROSSTALK", "ITL_DIP", "NOT_DEBLENDED", "SPIKE", "UNMASKED_NAN")
SECOND = ("DETECTED_NEGATIVE", "STREAK")
AFW = {"SATURATED": "SAT", "INTERPOLATED": "INTRP", "COSMIC_RAY": "CR", "DETECTION_EDGE": "EDGE"}
AFW |= {"UNMASKED_NAN": "UNMASKEDNAN"}
UNUSED = ("ITL_DIP", "PARTLY_VIGNETTED")


def drawn(names: tuple[str, ...], seed: int) -> tuple[np.ndarray, fits.Header]:
    """A mask with each plane but two, and the cards that name them."""
    mask = np.random.default_rng(seed).integers(0, 1 << len(names), SHAPE, dtype=np.int32)
    header = fits.Header()
    for n, name in enumerate(names):
        header[f"MSKN{n:04d}"] = name
        header[f"MSKM{n:04d}"] = 1 << n
        header[f"MSKD{n:04d}"] = "What it means, in words."
        if name in UNUSED:
            mask &= ~np.int32(1 << n)
    return mask, header


def origin(header: fits.Header) -> None:
    for axis, start in ((1, 1017.0), (2, 2050.0)):
        header[f"CTYPE{axis}A"], header[f"CRPIX{axis}A"] = "LINEAR", 1.0
        header[f"CRVAL{axis}A"], header[f"CUNIT{axis}A"] = start, "PIXEL"


def container(kind: type = fits.CompImageHDU, tree: Any = None) -> fits.HDUList:
    """The HDUs of a visit image; without a tree those of a cut-out."""
    rng = np.random.default_rng(5)
    options = {"compression_type": "GZIP_2", "quantize_level": 0} if kind is fits.CompImageHDU else {}
    primary = fits.PrimaryHDU()
    hdus = [primary]
    planes = [("IMAGE", rng.normal(size=SHAPE).astype(np.float32), fits.Header())]
    planes += [("MASK", *drawn(FIRST, 1)), ("MASK", *drawn(SECOND, 2))]
    planes += [("VARIANCE", np.full(SHAPE, 2, np.float32), fits.Header())]
    for name, pixels, header in planes:
        hdu = kind(pixels, header=header, name=name, **options)
        hdu.header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "RADESYS": "ICRS"})
        hdu.header.update({"CRVAL1": 53.0, "CRVAL2": -27.4, "CRPIX1": 11.0, "CRPIX2": 21.0})
        hdu.header.update({"CD1_1": -5e-5, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 5e-5})
        origin(hdu.header)
        hdus.append(hdu)
    hdus[1].header["BUNIT"], hdus[4].header["BUNIT"] = "nJy", "nJy2"
    hdus[3].header["EXTVER"] = 2
    if tree is not None:
        primary.header.update({"FMTVER": 1, "INDXADDR": 0, "INDXSIZE": 0, "JSONADDR": 0, "JSONSIZE": 0})
        primary.header["DATAMODL"] = "https://images.lsst.io/schemas/visit_image-1.0.0"
        primary.header["VISIT"] = 4711
        rows = np.zeros(2, [("JSON", "O")])
        for row, text in enumerate((json.dumps(tree).encode(), b'{"other": 1}')):
            rows["JSON"][row] = np.frombuffer(text, np.uint8)
        column = fits.Column("JSON", "PB()", array=rows["JSON"])
        hdus.append(fits.BinTableHDU.from_columns([column], name="JSON"))
    return fits.HDUList(hdus)


@pytest.mark.parametrize("kind", [fits.ImageHDU, fits.CompImageHDU])
@pytest.mark.parametrize("tree", [None, {"band": "r", "schema_version": "1.0.0"}])
def test_planes_masks_sky_and_units(tmp_path: Path, kind: type, tree: Any) -> None:
    container(kind, tree).writeto(tmp_path / "visit.fits")
    found = read_exposure(tmp_path / "visit.fits")
    assert (found.shape, found.xy0, found.psf) == (SHAPE, (1017, 2050), None)
    assert np.array_equal(found.image, np.random.default_rng(5).normal(size=SHAPE).astype(np.float32))
    assert (found.variance == 2).all()
    for names, seed in ((FIRST, 1), (SECOND, 2)):
        mask, _ = drawn(names, seed)
        for n, name in enumerate(names):
            assert np.array_equal(found.has(AFW.get(name, name)), (mask >> n & 1).astype(bool)), name
    assert {name: found.planes[name] for name in DEFAULT_PLANES} == DEFAULT_PLANES
    assert not set(UNUSED) & set(found.planes)
    assert found.flux_mag0 == pytest.approx(3630780547701.0024)
    ra, dec = found.wcs.pixel_to_sky(np.array([1027.0]), np.array([2070.0]))
    assert (ra[0], dec[0]) == pytest.approx((53.0, -27.4), abs=1e-12)
    assert found.filter == ("r" if tree else "_unknown_")
    assert found.metadata == ({"VISIT": 4711} if tree else {})
    assert read_summary(tmp_path / "visit.fits").xy0 == (1017, 2050)
    write_exposure(tmp_path / "again.fits", found)
    assert np.array_equal(read_exposure(tmp_path / "again.fits").has("STREAK"), found.has("STREAK"))


@pytest.mark.parametrize("kind", [fits.ImageHDU, fits.CompImageHDU])
def test_a_visit_image_as_a_plain_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: type
) -> None:
    """Its planes keep their names, DETECTED makes nothing bad, and its unit is the zero point."""
    sigma, (ny, nx) = 1.7, (200, 240)
    random = np.random.default_rng(9)
    y, x = np.mgrid[:ny, :nx]
    image = random.normal(0, np.sqrt(2), (ny, nx))
    for a, b in zip(random.uniform(15, nx - 16, 25), random.uniform(15, ny - 16, 25), strict=True):
        image += 300 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * sigma**2))
    hdus = container(kind, {"band": "i"})
    mask = np.where(x < 150, np.int32(1 << FIRST.index("DETECTED")), np.int32(0))
    mask[50:60, 70:75] |= 1 << FIRST.index("SATURATED")
    streak = np.zeros((ny, nx), np.int32)
    streak[:, 100] = 1 << SECOND.index("STREAK")
    planes = (image.astype(np.float32), mask, streak, np.full((ny, nx), 2, np.float32))
    for hdu, plane in zip(hdus[1:5], planes, strict=True):
        hdu.data = plane
    hdus.writeto(tmp_path / "visit.fits")
    words = [str(tmp_path / "visit.fits"), "--output", str(tmp_path / "repo"), "--visit", "3"]
    assert makecalexp.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data_id"]["filter"] == "i"
    assert told["mask"].startswith("the HDUs MASK, planes by name (")
    assert told["psf"]["fwhm_pixels"] == pytest.approx(2.3548 * sigma, rel=0.02)
    found = read_exposure(tmp_path / "repo/calexp/v3-fi/R22/S11.fits")
    assert not found.has("BAD", "NO_DATA").any()
    assert found.has("SAT")[50:60, 70:75].all()
    assert found.has("SAT").sum() == 50
    assert np.array_equal(np.nonzero(found.has("STREAK").all(axis=0))[0], [100])
    assert found.flux_mag0 == pytest.approx(3630780547701.0024)
    assert (found.variance == 2).all()


def broken(what: str) -> fits.HDUList:
    hdus = container(fits.ImageHDU, {"band": "r"})
    if what == "twice":
        hdus[3].header["MSKN0000"] = "SATURATED"
    elif what == "bit":
        hdus[2].header["MSKM0003"] = 9
    elif what == "image":
        hdus[1].header["EXTNAME"] = "PICTURE"
    elif what == "json":
        hdus[5].data["JSON"][0][:] = 0
    return hdus


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("twice", "the mask has SAT twice"),
        ("bit", "mask plane COSMIC_RAY has the bit mask 9"),
        ("image", "no HDU IMAGE"),
        ("json", "JSON tree of the file cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, what: str, words: str) -> None:
    broken(what).writeto(tmp_path / "visit.fits")
    with pytest.raises(DataError, match=rf"visit\.fits: .*{words}"):
        read_exposure(tmp_path / "visit.fits")
