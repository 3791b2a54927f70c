# SPDX-License-Identifier: BSD-3-Clause
"""Headers, ids and configuration files that nobody would write: read, or refused in our own words."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from benchpair import header, light, noisy, stars
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffrun.engine.config import ImageDifferenceConfig
from diffrun.engine.makecalexp import facts, plain, projection
from diffrun.engine.makecalexp.make import Ask, make
from diffrun.engine.overrides import apply, read_configfile
from diffrun.errors import ConfigError, DiffrunError, UsageError
from diffrun.files import fits as door
from diffrun.files.afw import headerwcs
from diffrun.repository.dataid import DataId, parse_id

#: The same examples in every run.
SAME = settings(
    derandomize=True, deadline=None, max_examples=100, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
SHAPE = (48, 64)
PIXELS = noisy(light(SHAPE, 4.0, stars(48, 6)), 1)

CARDS = (
    "CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2", "CDELT1",
    "CDELT2", "CUNIT1", "PC1_1", "CROTA2", "RADESYS", "EQUINOX", "LONPOLE", "LATPOLE", "A_ORDER", "A_2_0",
    "B_ORDER", "B_0_2", "PV1_1", "PV2_1", "WCSAXES", "GAIN", "RDNOISE", "SATURATE", "EXPTIME", "MJD-OBS",
    "DATE-OBS", "TIMESYS", "FILTER", "FLUXMAG0", "FLUX20", "MAGZERO", "ZP", "BUNIT", "TAI",
    "MP_SAT", "MP_BAD", "SOFTBIAS",
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-(2**31), 2**31),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([0, -1, 1e-300, 1e300, 90.0, 360.0, 1e9, 32768.0]),
)
WORDS = st.one_of(
    st.sampled_from(
        ["RA---TAN", "DEC--TAN", "RA---SIN", "GLON-CAR", "RA---TPV", "RA---TAN-SIP", "DEC--ZPN", "STOKES",
         "FREQ", "FK4", "FK5", "ICRS", "deg", "rad", "2016-11-12T03:04:05", "99/13/45", "njy",
         "nmgy", "tai", "", " "]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
)  # fmt: skip
HEADERS = st.dictionaries(st.sampled_from(CARDS), st.one_of(NUMBERS, WORDS, st.booleans()), max_size=12)


def with_cards(cards):
    """A sound WCS with some cards replaced, added or, where the value is a blank, removed."""
    found = header(SHAPE[1])
    for name, value in cards.items():
        if value == " ":
            found.remove(name, ignore_missing=True)
        else:
            found[name] = value
    return found


@SAME
@given(HEADERS)
def test_the_wcs_of_any_header_is_read_or_refused(cards):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wcs, notes = projection.read(with_cards(cards), SHAPE)
        except DiffrunError as error:
            assert "\n" not in str(error)
            return
    assert all(isinstance(note, str) for note in notes)
    if wcs is not None:
        x, y = np.array([0.0, 30.0, 63.0]), np.array([0.0, 20.0, 47.0])
        np.testing.assert_allclose(wcs.sky_to_pixel(*wcs.pixel_to_sky(x, y)), [x, y], atol=0.01)


@SAME
@given(HEADERS)
def test_the_wcs_of_any_exposure_is_read_or_refused(cards):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with door.reading(Path("a.fits")):
                wcs = headerwcs.read(dict(with_cards(cards)), (0, 0))
        except DiffrunError as error:
            assert "\n" not in str(error)
            return
    if wcs is not None:
        assert np.isfinite(wcs.pixel_to_sky(np.array([30.0]), np.array([20.0]))).all()


@SAME
@given(HEADERS)
def test_the_facts_of_any_header_are_numbers_that_make_sense_or_none(cards):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = facts.read(dict(with_cards(cards)))
    for name in ("gain", "read_noise", "saturation", "exposure_time", "flux_mag0"):
        value = getattr(said, name)
        assert np.isnan(value) or 0 < value < np.inf
    assert np.isnan(said.mjd) or np.isfinite(said.mjd)


@settings(SAME, max_examples=12)
@given(HEADERS)
def test_an_image_with_any_header_is_made_a_calexp_or_refused(tmp_path, cards):
    path = tmp_path / "a.fits"
    fits.writeto(path, PIXELS, with_cards(cards), overwrite=True, output_verify="ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = make(Ask(path, psf_fwhm=4.0), DataId(1, "r", "2,2", "1,1"))
        except DiffrunError as error:
            assert "\n" not in str(error)
            return
    assert np.isfinite(made.exposure.image).all()
    assert (made.exposure.variance > 0).all()


@SAME
@given(st.sampled_from(["u1", "i2", "i4", "f4", "f8"]), st.one_of(NUMBERS, st.booleans()), NUMBERS, NUMBERS)
def test_any_scaling_gives_real_numbers_or_nan(kind, scale, zero, blank):
    hdu = fits.PrimaryHDU(np.arange(48, dtype=kind).reshape(6, 8))
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = scale, zero, blank
    with np.errstate(all="ignore"):
        try:
            pixels, _ = plain.scaled(hdu)
        except DiffrunError:
            return
    assert pixels.dtype == np.float32
    assert not np.isinf(pixels).any()


KEYS = st.one_of(
    st.sampled_from(
        ["visit", "raft", "sensor", "raftName", "detectorName", "ccd", "ccdName", "filter", "channel"]
    ),
    st.text(max_size=12),
)
VALUES = st.one_of(
    st.sampled_from(
        ["230", "2,2", "R22", "S11", "1,1", "R:2,2 S:1,1", "r", "R22_S11", "-1", "1e3", "../x", "٣"]
    ),
    st.text(max_size=16),
)


@settings(SAME, max_examples=200)
@given(st.lists(st.tuples(KEYS, VALUES), max_size=5))
def test_any_id_is_one_that_a_path_can_hold_or_refused(pairs):
    try:
        known = parse_id(pairs)
    except UsageError as error:
        assert str(error)
        return
    assert set(known) <= {"visit", "filter", "raft", "sensor"}
    for value in known.values():
        assert "/" not in str(value)
        assert ".." not in str(value)
        assert str(value).isprintable()


LINES = st.one_of(
    st.sampled_from(
        ["config.doMerge=True", "config.doMerge=1/0", "config.detection.thresholdValue=-5", "import os",
         "root.x=1", "config.subtract.kernel.name='DF'", "config.subtract.kernel['AL']=3", "del config",
         "config=None", "(" * 90, "config.getTemplate.retarget(GetCalexpAsTemplateTask)",
         "config.coaddName='a'+'b'", "# a note", ""]
    ),
    st.text(max_size=40),
    st.builds("config.{}={!r}".format, st.from_regex("[a-zA-Z.]{1,20}", fullmatch=True), NUMBERS | st.text()),
)  # fmt: skip


@settings(SAME, max_examples=60)
@given(st.lists(LINES, max_size=6))
def test_any_configuration_file_is_applied_or_refused_with_its_place(tmp_path, lines):
    path = tmp_path / "config.py"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    try:
        overrides = read_configfile(path)
        apply(ImageDifferenceConfig(), overrides)
    except ConfigError as error:
        assert "config.py" in str(error)
