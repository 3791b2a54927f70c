# SPDX-License-Identifier: BSD-3-Clause
"""Exposures against what the stack itself reads from its files, and the rules by which it reads ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from diffrun.errors import DataError
from diffrun.files.afw import cards, photocalib
from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import DoubleGaussianPsf, GaussianPsf, KernelPsf, PsfexPsf
from diffrun.files.afw.reader import map_exposure, read_exposure, read_summary
from diffrun.files.afw.skywcs import SkyWcs
from diffrun.files.afw.wcs import TanSipWcs
from diffrun.files.afw.writer import exposure_to_bytes, write_exposure

MAS = 1 / 3.6e6  # degrees
READ = (
    "coadd",
    "double_gaussian",
    "full_info",
    "gaussian",
    "kernel_analytic",
    "kernel_chebyshev",
    "kernel_fixed",
    "kernel_polynomial",
)
READ += ("lossy_compressed", "pca", "psfex", "single_gaussian", "warped")


def same(one: np.ndarray, two: np.ndarray) -> bool:
    """Equal, where CFITSIO may have turned an infinity into NaN."""
    bad = ~np.isfinite(two)
    return bool(np.array_equal(one[~bad], two[~bad]) and not np.isfinite(one[bad]).any())


@pytest.mark.parametrize("name", READ)
def test_pixels_that_stay_in_the_file_are_the_same(shared_data: Path, name: str) -> None:
    path = shared_data / "lsst_reference" / f"{name}.fits"
    there, here = map_exposure(path), read_exposure(path)
    assert np.array_equal(there.image, here.image, equal_nan=True)
    assert np.array_equal(there.variance, here.variance, equal_nan=True)
    for plane in here.planes:
        assert np.array_equal(there.has(plane), here.has(plane))
    assert (there.xy0, there.filter, there.metadata) == (here.xy0, here.filter, here.metadata)
    if there.image.dtype.isnative is False:
        assert not there.image.flags.writeable


@pytest.mark.parametrize("name", READ)
def test_as_the_stack_reads_it(shared_data: Path, name: str) -> None:
    exposure = read_exposure(shared_data / "lsst_reference" / f"{name}.fits")
    truth = np.load(shared_data / "lsst_reference" / f"{name}.truth.npz")
    said = json.loads((shared_data / "lsst_reference" / f"{name}.truth.json").read_text())
    assert same(exposure.image, truth["image"])
    assert same(exposure.variance, truth["variance"])
    for plane, bit in said["mask_planes"].items():
        assert np.array_equal(exposure.has(plane), truth["mask"] >> bit & 1)
    for array, kind in ((exposure.image, "f4"), (exposure.mask, "i4"), (exposure.variance, "f4")):
        assert array.dtype == np.dtype(kind)
        assert array.dtype.isnative
        assert array.flags.c_contiguous
    assert exposure.xy0 == tuple(said["xy0"])
    assert exposure.filter == said["filter"]["band"]
    assert exposure.mjd == pytest.approx(said["visitinfo"]["date_tai_mjd"], abs=1e-11)
    assert exposure.exposure_time == said["visitinfo"]["exposureTime"]
    mean, error = said["photocalib"]["calibration_mean"], said["photocalib"]["calibration_err"]
    assert exposure.flux_mag0 == pytest.approx(3630780547701.0024 / mean, rel=1e-15)
    assert exposure.flux_mag0_err / exposure.flux_mag0 == pytest.approx(error / mean, rel=1e-12)
    assert {name: exposure.metadata[name] for name in said["metadata"] if name != "REFSTR"} == {
        name: value for name, value in said["metadata"].items() if name != "REFSTR"
    }
    x, y = truth["wcs_pixels"].T
    ra, dec = exposure.wcs.pixel_to_sky(x, y)
    want_ra, want_dec = truth["wcs_ra_dec_deg"].T
    assert np.abs((ra - want_ra) * np.cos(np.radians(dec))).max() < 1e-5 * MAS
    assert np.abs(dec - want_dec).max() < 1e-5 * MAS
    back_x, back_y = exposure.wcs.sky_to_pixel(want_ra, want_dec)
    assert max(np.abs(back_x - x).max(), np.abs(back_y - y).max()) < 1e-7


@pytest.mark.parametrize("name", ["double_gaussian", "full_info", "kernel_chebyshev", "single_gaussian"])
def test_zero_points_that_vary(shared_data: Path, name: str) -> None:
    """The nJy of 1000 counts as the stack gives them, and the image with one zero point."""
    exposure = read_exposure(shared_data / "lsst_reference" / f"{name}.fits")
    truth = np.load(shared_data / "lsst_reference" / f"{name}.truth.npz")
    flat = photocalib.flattened(exposure)
    assert (exposure.calibration is None) == (name == "single_gaussian")
    assert flat.calibration is None
    if exposure.calibration is None:
        assert flat is exposure
        return
    for (x, y), flux in zip(
        truth["psf_positions"], truth["photocalib_nJy_of_1000_at_psf_positions"].reshape(-1), strict=True
    ):
        there = exposure.calibration.grid(np.array([x]), np.array([y]))[0, 0]
        assert 1000 * there == pytest.approx(flux, rel=1e-13)
    rows, columns = np.array([100, 200]), np.array([30, 240])
    field = exposure.calibration.grid(columns + 1017.0, rows + 2050.0) / (3630780547701.0024 / flat.flux_mag0)
    pixels = np.ix_(rows, columns)
    assert flat.image[pixels] == pytest.approx(exposure.image[pixels] * field, rel=1e-6)
    assert flat.variance[pixels] == pytest.approx(exposure.variance[pixels] * field**2, rel=1e-6)


def test_a_wcs_that_no_header_holds_is_written_as_the_nearest(shared_data: Path, tmp_path: Path) -> None:
    """Within a thousandth of a pixel, here far below."""
    sent = read_exposure(shared_data / "lsst_reference" / "kernel_fixed.fits")
    assert isinstance(sent.wcs, SkyWcs)
    write_exposure(tmp_path / "S11.fits", sent)
    back = read_exposure(tmp_path / "S11.fits")
    assert isinstance(back.wcs, TanSipWcs)
    truth = np.load(shared_data / "lsst_reference" / "kernel_fixed.truth.npz")
    x, y = back.wcs.sky_to_pixel(*truth["wcs_ra_dec_deg"].T)
    assert np.abs(np.stack([x, y], axis=1) - truth["wcs_pixels"]).max() < 1e-6
    header = fits.getheader(tmp_path / "S11.fits", 1)
    assert header["CTYPE1"] == "RA---TAN-SIP"
    ra, dec = WCS(header).all_pix2world(*(truth["wcs_pixels"].T - [[1017], [2050]]), 0)
    assert np.abs(np.stack([ra, dec], axis=1) - truth["wcs_ra_dec_deg"]).max() < 1e-3 * MAS


SKY = (29.999999999999986, 39.99968573031947)
# afw's own test files: shape, xy0, sum of the image, FLUXMAG0, filter, sky of parent (0, 0).
OLD: list[tuple[str, tuple[int, int], tuple[int, int], float, float, str, tuple[float, float] | None]] = [
    ("HSC-0908120-056-small.fits", (200, 200), (100, 100), 346002.4407659024, np.nan, "_unknown_", None),
    ("calexp.fits", (32, 64), (0, 0), -3880.1824579164386, 1820772928849.1614, "300", None),
    ("example-calexp.fits.gz", (4, 8), (0, 0), -132.68757650256157, 1722367118085.0, "i", None),
    ("exposure-noversion.fits", (10, 10), (0, 0), 4950, 1e6, "ha", SKY),
    ("exposure-version-0.fits", (10, 10), (0, 0), 4950, 1e6, "ha", SKY),
    ("exposure-version-1.fits", (10, 10), (0, 0), 4950, 3630780.5477010026, "ha", SKY),
    ("exposure-version-2.fits", (10, 10), (0, 0), 4950, 3630780.5477010026, "N656", SKY),
    ("small.fits", (16, 16), (0, 0), 281.1783196814358, np.nan, "_unknown_", None),
    ("parent.fits", (256, 256), (0, 0), 4194304, np.nan, "_unknown_", None),
    ("scienceMI.fits", (193, 193), (9, 9), 88861, np.nan, "_unknown_", None),
    ("ticketdm26260.fits", (512, 512), (0, 0), 6447394, np.nan, "_unknown_", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "xy0", "total", "flux_mag0", "band", "sky"), OLD)
def test_files_of_every_age(
    shared_data: Path,
    name: str,
    shape: tuple[int, int],
    xy0: tuple[int, int],
    total: float,
    flux_mag0: float,
    band: str,
    sky: tuple[float, float] | None,
) -> None:
    exposure = read_exposure(shared_data / "afw" / name)
    assert (exposure.shape, exposure.xy0, exposure.filter) == (shape, xy0, band)
    assert exposure.image.sum(dtype=float) == pytest.approx(total, rel=1e-12)
    assert exposure.flux_mag0 == pytest.approx(flux_mag0, rel=1e-15, nan_ok=True)
    if sky:
        assert exposure.wcs.pixel_to_sky(0, 0) == pytest.approx(sky, abs=1e-12)
    assert read_summary(shared_data / "afw" / name).shape == shape


def test_details_of_old_files(shared_data: Path) -> None:
    hsc = read_exposure(shared_data / "afw" / "HSC-0908120-056-small.fits")
    assert hsc.wcs.crpix == pytest.approx((965.842697735752, 2103.38916604442), abs=1e-9)
    assert hsc.planes == {**DEFAULT_PLANES, "CROSSTALK": 9, "UNMASKEDNAN": 10}
    assert hsc.has("DETECTED").sum() == 5390
    assert hsc.has("CROSSTALK").sum() == 14
    # There NO_DATA is bit 9 and CROSSTALK bit 8: bits belong to names.
    assert not hsc.has("NO_DATA").any()
    calexp = read_exposure(shared_data / "afw" / "calexp.fits")
    assert [int(calexp.has(name).sum()) for name in ("BAD", "INTRP", "EDGE")] == [576, 576, 783]
    assert calexp.psf == GaussianPsf((3, 3), 4.0, calexp.psf.average_position)
    # The header is 0.14 mas away from the archive, which is the truth.
    ra, dec = calexp.wcs.pixel_to_sky(np.array([0.0, 1200.0, 2047.0]), np.array([0.0, 1493.0, 4175.0]))
    want = [320.66138749534616, 320.7293818266132, 320.8478452441429]
    assert ra == pytest.approx(want, abs=1e-5 * MAS)
    want = [-0.37514971351720305, -0.32085613370600186, -0.2794033316911282]
    assert dec == pytest.approx(want, abs=1e-5 * MAS)
    example = read_exposure(shared_data / "afw" / "example-calexp.fits.gz")
    assert example.has("EDGE").all()
    assert example.mjd == pytest.approx(56598 + (5 * 3600 + 19 * 60 + 17.875517011) / 86400, abs=1e-10)
    small = read_exposure(shared_data / "afw" / "small.fits")
    assert not small.mask.any()  # the mask that has a BLANK card
    assert not read_exposure(shared_data / "afw" / "parent.fits").mask.any()


def test_fk5_of_an_archive_becomes_icrs(shared_data: Path) -> None:
    """The stack's own reading, in FK5, is turned by astropy to ICRS and compared."""
    from astropy.coordinates import FK5, ICRS, SkyCoord

    exposure = read_exposure(shared_data / "afw" / "HSC-0908120-056-small.fits")
    known = [151.41579794604328, 151.40220444052747], [1.6596008172338217, 1.645794684699443]
    fk5 = SkyCoord(*known, unit="deg", frame=FK5(equinox="J2000"))
    ra, dec = exposure.wcs.pixel_to_sky(np.array([0.0, 299.0]), np.array([0.0, 299.0]))
    assert SkyCoord(ra, dec, unit="deg").separation(fk5.transform_to(ICRS())).deg.max() < 1e-3 * MAS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("small_MI_corrupt_img.fits", "lacks CRPIX1, CRPIX2"),
        ("templateMI.fits", r"have the origins \[\(9, 9\), \(24, 24\)\]"),
        ("oldTanSipWcs.fits", "no image in HDU 0 or 1"),
        ("sourceTable-v1.fits", "no image in HDU 0 or 1"),
    ],
)
def test_what_cannot_be_read_says_why(shared_data: Path, name: str, words: str) -> None:
    for reader in (read_exposure, read_summary) if name != "templateMI.fits" else (read_exposure,):
        with pytest.raises(DataError, match=rf"{name}: .*{words}"):
            reader(shared_data / "afw" / name)


@pytest.mark.parametrize(
    ("visit", "psf", "xy0"), [(4192, PsfexPsf, (500, 200)), (6377, KernelPsf, (496, 234))]
)
def test_stripe_82(shared_data: Path, visit: int, psf: type, xy0: tuple[int, int]) -> None:
    exposure = read_exposure(shared_data / "stripe82_repo" / "calexp" / f"v{visit}-fr" / "R22" / "S11.fits")
    assert (exposure.shape, exposure.xy0, type(exposure.psf)) == ((1100, 1100), xy0, psf)
    assert exposure.exposure_time == 53.907456
    mjd = {4192: 52931.19692920, 6377: 53998.24764040}[visit]
    assert exposure.mjd == pytest.approx(mjd, abs=1e-8)
    # FLUX20 is the flux of magnitude 20 in DN, the image is in electrons.
    flux20 = {4192: 1981.78, 6377: 1948.81}[visit]
    assert exposure.flux_mag0 == pytest.approx(flux20 * 4.760 * 10**8, rel=1e-6)
    medians = {4192: 720.12, 6377: 601.12}
    assert np.median(exposure.variance) == pytest.approx(medians[visit], abs=0.01)
    centre = exposure.psf.kernel_image(xy0[0] + 550, xy0[1] + 550)
    fwhm = {4192: 2.618, 6377: 2.456}[visit]
    assert 2.3548 * gaussian_sigma(centre) == pytest.approx(fwhm, rel=0.01)


def gaussian_sigma(stamp: np.ndarray) -> float:
    """Sigma of the round Gaussian that is its own weight: adaptive moments."""
    half = len(stamp) // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    sigma = 1.5
    for _ in range(100):
        weight = stamp * np.exp(-(x**2 + y**2) / (2 * sigma**2))
        moment = (weight * (x**2 + y**2)).sum() / weight.sum() / 2
        sigma = float(np.sqrt(2 * moment))
    return sigma


def exposure(psf: Any = None, **changes: Any) -> Exposure:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(12, 17)).astype(np.float32)
    image[2, 3:6] = np.nan, np.inf, -0.0
    wcs = TanSipWcs((53.0, -27.4), (1700.25, 2300.5), np.array([[5e-5, 1e-5], [1e-5, -5e-5]]))
    made = Exposure(
        image=image,
        mask=rng.integers(0, 1 << 11, image.shape, dtype=np.int32),
        variance=np.where(np.isfinite(image), 2, np.nan).astype(np.float32),
        wcs=wcs,
        psf=psf or GaussianPsf((11, 11), 1.5),
        xy0=(1017, 2050),
        planes={**DEFAULT_PLANES, "UNMASKEDNAN": 9, "CROSSTALK": 10},
        filter="r",
        flux_mag0=1e12,
        flux_mag0_err=3e8,
        mjd=59580.139555,
        exposure_time=30.0,
        metadata={"RUN": 3, "LONG KEYWORD": 2.5, "INSTRUMENT": "lsstSim", "FLAG": True},
    )
    return made.replace(**changes)


def kernel_psf() -> KernelPsf:
    rng = np.random.default_rng(2)
    kernel = LinearCombinationKernel(
        rng.random((3, 5, 7)), rng.random((3, 6)), (1017.0, 2050.0, 1033.0, 2061.0)
    )
    return KernelPsf(kernel, (1020.0, 2055.0))


def psfex_psf() -> PsfexPsf:
    components = np.random.default_rng(3).random((3, 9, 11), dtype=np.float32)
    return PsfexPsf(components, 1, (10.0, 20.0), (30.0, 40.0), 0.75, (1020.0, 2055.0))


PSFS = [
    GaussianPsf((11, 13), 1.5),
    GaussianPsf((11, 13), 1.5, class_name="SingleGaussianPsf"),
    DoubleGaussianPsf((11, 13), 1.5, 3.0, 0.1),
    kernel_psf(),
    psfex_psf(),
]


@pytest.mark.parametrize("psf", PSFS, ids=lambda psf: type(psf).__name__)
def test_an_exposure_comes_back_as_it_was_written(tmp_path: Path, psf: Any) -> None:
    sent = exposure(psf)
    write_exposure(tmp_path / "S11.fits", sent)
    back = read_exposure(tmp_path / "S11.fits")
    for name in ("image", "mask", "variance"):
        assert np.array_equal(getattr(sent, name), getattr(back, name), equal_nan=True)
    assert np.signbit(back.image[2, 5])
    for name in ("xy0", "planes", "filter", "flux_mag0", "flux_mag0_err", "exposure_time", "metadata"):
        assert getattr(sent, name) == getattr(back, name)
    assert back.mjd == pytest.approx(sent.mjd, abs=1e-11)
    x, y = np.array([1017.0, 1033.0]), np.array([2050.0, 2061.0])
    assert np.array_equal(back.wcs.pixel_to_sky(x, y), sent.wcs.pixel_to_sky(x, y))
    assert np.abs(back.psf.kernel_image(1021, 2052) - sent.psf.kernel_image(1021, 2052)).max() < 1e-15
    assert exposure_to_bytes(back) == (tmp_path / "S11.fits").read_bytes()


def test_what_is_unknown_stays_unknown(tmp_path: Path) -> None:
    nan = float("nan")
    sent = exposure(
        flux_mag0=nan, mjd=nan, exposure_time=nan, wcs=None, metadata={"BAD": nan, "TEXT": "a\nb"}
    )
    write_exposure(tmp_path / "S11.fits", sent.replace(psf=None))
    back = read_exposure(tmp_path / "S11.fits")
    assert np.isnan([back.flux_mag0, back.mjd, back.exposure_time]).all()
    assert (back.wcs, back.psf, back.metadata) == (None, None, {})


def test_the_file_obeys_the_rules_of_afw_12(tmp_path: Path) -> None:
    """afw.md section 7, seen by astropy, with nothing of our reader."""
    write_exposure(tmp_path / "S11.fits", exposure(kernel_psf()))
    with fits.open(tmp_path / "S11.fits", do_not_scale_image_data=True) as hdus:
        assert [hdu.header.get("EXTTYPE") for hdu in hdus[:5]] == [
            None,
            "IMAGE",
            "MASK",
            "VARIANCE",
            "ARCHIVE_INDEX",
        ]
        assert all(hdu.header["EXTTYPE"] == "ARCHIVE_DATA" for hdu in hdus[5:])
        assert [hdu.header["AR_CATN"] for hdu in hdus[4:]] == list(range(len(hdus) - 4))
        assert hdus[4].header["AR_NCAT"] == len(hdus) - 4
        primary = hdus[0].header
        assert (primary["AR_HDU"], primary["FLUXMAG0"], primary["FILTER"]) == (5, 1e12, "r")
        assert "EXPINFO_V" not in primary
        assert primary["TIME-MID"] == "2022-01-01T03:20:20.552000000Z"
        assert primary["DATE-AVG"] == "2022-01-01T03:20:57.552000000"
        for number, bitpix in ((1, -32), (2, 16), (3, -32)):
            header = hdus[number].header
            assert header["BITPIX"] == bitpix
            assert header["INHERIT"] is True
            for card, value in (("CRVAL1A", 1017), ("CRVAL2A", 2050), ("CRPIX1A", 1), ("CRPIX2A", 1)):
                assert (header[card], type(header[card])) == (value, int)
            assert (header["LTV1"], header["LTV2"]) == (-1017, -2050)
            assert header["CRPIX1"] == 1700.25 + 1 - 1017
            assert (header["RADESYS"], "EQUINOX" in header) == ("ICRS", False)
        assert hdus[2].header["BZERO"] == 32768
        assert type(hdus[2].header["MP_SAT"]) is int
        index = hdus[4].data
        assert index.dtype.itemsize == 148
        classes = {int(row["id"]): str(row["name"]) for row in index}
        assert classes[primary["PSF_ID"]] == "PcaPsf"
        assert classes[primary["WCS_ID"]] == "TanWcs"
        row = next(row for row in index if row["name"] == "TanWcs")
        wcs = hdus[4 + int(row["cat.archive"])].data[int(row["row0"])]
        assert (wcs["crpix_x"], wcs["crpix_y"]) == (1700.25, 2300.5)
        assert list(wcs["cd"]) == [5e-5, 1e-5, 1e-5, -5e-5]
        assert (wcs["ctype1"], wcs["radesys"]) == ("RA---TAN", "ICRS")


def test_more_than_16_planes_in_use_are_refused(tmp_path: Path) -> None:
    planes = {f"PLANE{bit}": bit for bit in range(17)}
    sent = exposure(planes=planes)
    with pytest.raises(DataError, match=r"17 planes in use; drop some of PLANE0.* 16 can be written"):
        write_exposure(tmp_path / "S11.fits", sent.replace(mask=np.full_like(sent.mask, 0x1FFFF)))


def test_planes_beyond_the_bits_of_a_file_stay_apart(tmp_path: Path) -> None:
    names = [f"P{number}" for number in range(7)]
    mask = np.arange(1 << 8, dtype=np.int32).reshape(16, 16) << 8
    planes = {**DEFAULT_PLANES, **{name: 9 + number for number, name in enumerate(names)}}
    zero = np.zeros(mask.shape, np.float32)
    path = tmp_path / "many.fits"
    write_exposure(path, Exposure(zero, mask, zero, None, planes=planes))
    for found in (map_exposure(path), read_exposure(path)):
        for name, bit in planes.items():
            assert np.array_equal(found.has(name), mask >> bit & 1), name


def test_of_many_planes_those_in_use_are_written(tmp_path: Path) -> None:
    """As of a sensor of 2026: 18 planes, the last ones beyond the 16 bits of old files."""
    more = ("VIGNETTED", "STREAK", "CROSSTALK", "ITL_DIP", "NOT_DEBLENDED", "UNMASKEDNAN", "SPIKE", "FAKE")
    planes = {**DEFAULT_PLANES, **{name: 9 + n for n, name in enumerate((*more, "SAT_TEMPLATE"))}}
    rng = np.random.default_rng(4)
    mask = rng.integers(0, 1 << 18, (12, 17), dtype=np.int32) & ~np.int32(1 << 9 | 1 << 11)
    sent = exposure(planes=planes, mask=mask)
    write_exposure(tmp_path / "S11.fits", sent)
    back = read_exposure(tmp_path / "S11.fits")
    assert set(planes) - set(back.planes) == {"VIGNETTED", "CROSSTALK"}
    for name in planes:
        assert np.array_equal(back.has(name), sent.has(name))


@pytest.mark.parametrize(("unit", "nanojansky"), [("nJy", 1.0), ("uJy", 1e3), ("Jy", 1e9), ("adu", np.nan)])
@pytest.mark.parametrize("where", [0, 1])
def test_a_unit_of_flux_is_a_zero_point(tmp_path: Path, unit: str, nanojansky: float, where: int) -> None:
    write_exposure(tmp_path / "S11.fits", exposure(flux_mag0=np.nan))
    path = rewritten(tmp_path / "S11.fits", lambda hdus: hdus[where].header.update({"BUNIT": unit}))
    found = read_exposure(path).flux_mag0
    assert found == pytest.approx(3630780547701.0024 / nanojansky, rel=1e-15, nan_ok=True)


def rewritten(path: Path, change: Any) -> Path:
    """A copy of an exposure's file, changed and without checksums."""
    with fits.open(path, do_not_scale_image_data=True) as hdus:
        for hdu in hdus:
            for card in ("CHECKSUM", "DATASUM"):
                hdu.header.remove(card, ignore_missing=True)
        change(hdus)
        hdus.writeto(path.with_suffix(".changed.fits"), overwrite=True)
    return path.with_suffix(".changed.fits")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hdus: hdus[0].header.update({"AR_HDU": 99}), "HDU 98 is no archive index"),
        (lambda hdus: hdus[0].header.update({"PSF_ID": 99}), "class .missing."),
        (lambda hdus: hdus[2].header.update({"MP_SAT": 0}), "mask plane SAT has the bit 0"),
        (lambda hdus: hdus[2].header.update({"EXTTYPE": "VARIANCE"}), "should be the MASK, and is VARIANCE"),
        (lambda hdus: hdus.pop(3), "HDU 4 is no archive index"),
        (lambda hdus: [hdus.pop() for _ in range(len(hdus) - 2)], "HDU 4 is no archive index"),
        (lambda hdus: setattr(hdus[3], "data", hdus[3].data[:-1]), "differ in shape"),
        (lambda hdus: hdus[3].header.update({"CRVAL1A": 3}), "have the origins"),
        (lambda hdus: hdus[0].header.update({"DATE-AVG": "yesterday"}), "DATE-AVG is 'yesterday'"),
        (lambda hdus: hdus[0].header.set("HIERARCH EXPINFO_V", 3), "EXPINFO_V 3 is newer"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    write_exposure(tmp_path / "S11.fits", exposure())
    path = rewritten(tmp_path / "S11.fits", change)
    with pytest.raises(DataError, match=f"{path}: .*{words}"):
        read_exposure(path)


def test_an_old_file_without_inherit_or_checksums_is_read(tmp_path: Path) -> None:
    write_exposure(tmp_path / "S11.fits", exposure())

    def older(hdus: fits.HDUList) -> None:
        hdus[2].data = hdus[2].data.astype(np.int32) + 32768
        hdus[2].header["BLANK"] = 2147483647
        for hdu in hdus[1:4]:
            hdu.header.remove("EXTNAME")
            hdu.header["CRVAL1A"], hdu.header["CRVAL2A"] = 1017.0, 2050.0

    back = read_exposure(rewritten(tmp_path / "S11.fits", older))
    assert np.array_equal(back.mask, exposure().mask)
    assert back.xy0 == (1017, 2050)


def test_bits_belong_to_names() -> None:
    """The sign bit of a file's mask moves to a bit of ours; a bit without a name is dropped."""
    bits = {"NO_DATA": 31, "SAT": 0, "MINE": 4}
    mask = np.array([[-(1 << 31), 1, 16, 2]], np.int32)
    moved, planes = cards.renumber(mask, bits)
    assert planes == {**DEFAULT_PLANES, "MINE": 9}
    assert moved.tolist() == [[1 << 8, 1 << 1, 1 << 9, 0]]
    with pytest.raises(DataError, match="33 planes, more than 31"):
        cards.renumber(mask, {f"P{bit}": bit for bit in range(24)})
