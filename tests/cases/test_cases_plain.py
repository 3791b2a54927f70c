# SPDX-License-Identifier: BSD-3-Clause
"""Plain images, their cards and planes: the cases U08, U13 to U16, U19, U20, U41 to U44 and U52 to U56."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from benchpair import (
    Difference,
    clean_pair,
    difference,
    exposure,
    finds_the_transients,
    from_file,
    header,
    light,
    noise,
    noisy,
    stars,
    with_sky,
)

from diffrun.engine.makecalexp import companions, plain, projection
from diffrun.errors import NoStarsError
from diffrun.files.afw.exposure import DEFAULT_PLANES

N = 256
STARS = stars(N, 40)
SMALL = ((60.0, 200.0, 3000.0), (150.3, 125.6, 8000.0))
SCIENCE = noisy(light((N, N), 4.2, [*STARS, *SMALL]), 2)
TEMPLATE = noisy(light((N, N), 3.4, STARS), 3)


def write(path, image, cards=None, **planes):
    """A file with the image in its first HDU, or by name with planes beside it."""
    cards = header(N) if cards is None else cards
    if not planes:
        fits.writeto(path, image, cards)
    else:
        others = [fits.ImageHDU(plane, name=name) for name, plane in planes.items()]
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, cards, name="IMAGE"), *others]).writeto(path)
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The template made a calexp from its pixels alone."""
    return from_file(write(tmp_path_factory.mktemp("template") / "template.fits", TEMPLATE), 2)


def found_by(science, template) -> Difference:
    """The difference of two calexps that were made of plain images."""
    return difference(with_sky(science), with_sky(template), science.sources)


def finds_both(found, places=SMALL):
    return all(found.nearest(x, y)[1] < 1 for x, y, _ in places) and not len(found.others(*places))


def said(made, words):
    """The one note that has these words."""
    (line,) = [note for note in made.facts["notes"] if words in note]
    return line


def with_sip():
    cards = header()
    cards.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-5, "B_0_2": 2e-5})
    return cards


@pytest.mark.parametrize("distorted", [True, False])
def test_u08_sip_without_its_name_in_ctype_and_the_stars_decide(distorted):
    """The cards are read as astropy reads them; where the stars say that they do not hold, the stars win."""
    places = stars()
    if distorted:
        u = places[:, :2] - 255.5
        for _ in range(20):
            u = places[:, :2] - 255.5 - 2e-5 * u**2
        places[:, :2] = u + 255.5
    assert any("SIP cards are applied" in note for note in projection.read(with_sip(), (512, 512))[1])
    image = noisy(light((512, 512), 3.4, places), 3)
    found = difference(clean_pair()[0], exposure(image, 3.4, cards=with_sip()))
    assert finds_the_transients(found)
    assert found.facts["imageDifference:register.residual"] < 0.15
    assert bool(found.said) == (not distorted)


def test_u13_no_radesys_is_icrs_with_a_note():
    cards, x = header(), np.array([0.0, 511.0])
    full, _ = projection.read(cards, (512, 512))
    for name in ("RADESYS", "EQUINOX"):
        cards.remove(name, ignore_missing=True)
    bare, notes = projection.read(cards, (512, 512))
    assert notes == ["neither RADESYS nor EQUINOX is given: ICRS is assumed"]
    np.testing.assert_allclose(bare.sky_to_pixel(*full.pixel_to_sky(x, x)), [x, x], atol=0.01)


def test_u15_an_image_alone(tmp_path, template):
    science = from_file(write(tmp_path / "a.fits", SCIENCE))
    assert science.facts["mask"] == "none given"
    assert said(science, "variance: ").startswith("variance: the image's own noise")
    assert finds_both(found_by(science, template))


@pytest.mark.parametrize(
    ("kind", "bits"),
    [("u1", {"SAT": 1, "BAD": 7}), ("i2", {"SAT": 1, "BAD": 14}), ("i4", {"SAT": 1, "BAD": 31}),
     ("u4", {"SAT": 1, "BAD": 31, "MINE": 30})],
)  # fmt: skip
def test_u16_masks_of_every_integer_type(tmp_path, kind, bits):
    values = np.zeros((N, N), np.int64)
    for row, bit in enumerate(bits.values()):
        values[row] = 1 << bit
    hdu = fits.ImageHDU(values.astype(np.uint32).astype(kind), name="MASK")
    for name, bit in bits.items():
        hdu.header[f"MP_{name}"] = bit
    fits.HDUList([fits.PrimaryHDU(SCIENCE), hdu]).writeto(tmp_path / "a.fits")
    with plain.open_file(tmp_path / "a.fits") as hdus:
        mask, planes, _ = companions.find_mask(hdus, None, (N, N))
    assert mask.dtype == np.int32
    for row, name in enumerate(bits):
        assert (mask[row] == 1 << planes[name]).all()
    assert not mask[len(bits) :].any()
    assert {name: planes[name] for name in DEFAULT_PLANES} == dict(DEFAULT_PLANES)


def test_u19_u52_compressed_with_missing_rows_and_odd_tiles(tmp_path, template):
    image = SCIENCE.copy()
    image[40], image[90, 17] = np.nan, np.nan
    hdu = fits.CompImageHDU(image, header(N), compression_type="RICE_1", tile_shape=(7, 100), name="IMAGE")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits.fz")
    science = from_file(tmp_path / "a.fits.fz")
    assert said(science, "without a number") == f"{N + 1} pixels without a number are NO_DATA"
    found = found_by(science, template)
    assert found.image.has("NO_DATA")[40].all()
    assert finds_both(found)


def test_u20_u52_integers_and_a_mask_of_0_and_4(tmp_path, template):
    mask = np.zeros((N, N), np.int16)
    mask[100:104, 30:40] = 4
    counts = np.minimum(SCIENCE, 32767).astype(np.int16)
    hdu = fits.CompImageHDU(counts, header(N), compression_type="RICE_1", tile_shape=(N, 3), name="SCI")
    fits.HDUList([fits.PrimaryHDU(), hdu, fits.ImageHDU(mask, name="DQ")]).writeto(tmp_path / "a.fits")
    science = from_file(tmp_path / "a.fits")
    assert (science.exposure.has("BAD") == (mask == 4)).all()
    found = found_by(science, template)
    assert finds_both(found)
    assert found.image.has("BAD")[101:103, 31:39].all()


def test_u41_a_stale_bzero_is_named(tmp_path):
    science = from_file(write(tmp_path / "a.fits", np.minimum(SCIENCE, 65535).astype(np.uint16)))
    hdu = fits.PrimaryHDU(TEMPLATE, header(N))
    hdu.header["BZERO"] = 32768.0
    hdu.writeto(tmp_path / "b.fits")
    template = from_file(tmp_path / "b.fits", 2)
    assert "BZERO = 32768.0 is not applied" in said(template, "BZERO")
    for made in (science, template):
        assert np.median(with_sky(made).image) == pytest.approx(801, abs=3)
    assert finds_both(found_by(science, template))


def test_u43_a_gain_that_cannot_be(tmp_path, template):
    cards = header(N)
    cards["GAIN"] = 250
    science = from_file(write(tmp_path / "a.fits", SCIENCE / np.float32(65535), cards))
    line = said(science, "is not believed")
    assert "the gain 250 of its card" in line
    assert "it tells a noise of 0.006" in line
    assert "measured is 0.0004" in line
    assert finds_both(found_by(science, template))


def test_u44_sigma_by_the_name_of_variance_and_a_deep_template(tmp_path):
    deep = noisy(light((N, N), 3.4, STARS) * 10, 3) / np.float32(10)
    science = from_file(write(tmp_path / "a.fits", SCIENCE, VARIANCE=np.sqrt(SCIENCE)))
    template = from_file(write(tmp_path / "b.fits", deep, VARIANCE=np.sqrt(deep / 10)), 2)
    for made, factor in ((science, "0.18"), (template, "0.33")):
        line = said(made, "sigma by measure")
        assert f"not variance, it tells {factor}" in line
    found = found_by(science, template)
    assert finds_both(found)
    assert noise(found)[0] == pytest.approx(1, abs=0.03)
    assert abs(found.facts["imageDifference:quality.lag1"]) < 0.03


def test_u53_u56_what_cards_do_not_tell_is_listed(tmp_path):
    """Nothing of it is needed: one line has all that stays unknown."""
    science = from_file(write(tmp_path / "a.fits", SCIENCE), psf_fwhm=4.2)
    assert said(science, "no card tells") == (
        "no card tells its time or its exposure time or its zero point: left unknown"
    )
    assert science.facts["saturation"].startswith("unknown: no card tells it")
    assert science.facts["gain"] is None
    assert "no gain is known" in said(science, "gain")


def turned_away(path, degrees, mirror=False):
    """The template turned about its middle, shifted and perhaps mirrored, in a file without a WCS."""
    angle, places = np.radians(degrees), STARS.copy()
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    places[:, :2] = (places[:, :2] - 127.5) @ turn.T + 127.5 + (9.3, -6.1)
    if mirror:
        places[:, 0] = N - 1 - places[:, 0]
    fits.writeto(path, noisy(light((N, N), 3.4, places), 3))
    return from_file(path, 2)


@pytest.mark.parametrize(("degrees", "mirror"), [(0.0, False), (24.0, False), (5.0, True)])
def test_images_without_a_wcs_are_aligned_by_their_stars(tmp_path, degrees, mirror):
    science = from_file(write(tmp_path / "a.fits", SCIENCE))
    template = turned_away(tmp_path / "b.fits", degrees, mirror)
    assert said(template, "has no WCS")
    found = found_by(science, template)
    assert finds_both(found)
    assert any("The template has no WCS: both are aligned by" in line for line in found.said)
    assert found.image.wcs is science.exposure.wcs


def test_a_science_image_without_a_wcs_gets_the_templates(tmp_path, template):
    fits.writeto(tmp_path / "a.fits", SCIENCE)
    science = from_file(tmp_path / "a.fits")
    found = found_by(science, template)
    assert finds_both(found)
    x = np.array([10.0, 240.0])
    places = found.image.wcs.sky_to_pixel(*template.exposure.wcs.pixel_to_sky(x, x))
    np.testing.assert_allclose(places, [x, x], atol=0.1)
    assert "DIFFRUN_NO_WCS" not in found.image.metadata


def test_without_a_wcs_and_without_common_stars_it_is_refused(tmp_path, template):
    other = noisy(light((N, N), 4.2, stars(N, 40, seed=9)), 2)
    fits.writeto(tmp_path / "a.fits", other)
    with pytest.raises(NoStarsError, match="the science image has no WCS, and no asterism of the"):
        found_by(from_file(tmp_path / "a.fits"), template)


def test_filled_blocks_and_saturated_stars_of_either_image(tmp_path, template):
    """A block of zeros is missing, and a star cut off at one level saturated; neither makes a source."""
    image = np.minimum(SCIENCE, 4000)
    image[180:210, 10:60] = 0
    science = from_file(write(tmp_path / "a.fits", image))
    assert said(science, "in blocks of one value") == "1500 pixels in blocks of one value are NO_DATA"
    assert "pile up" in science.facts["saturation"]
    found = found_by(science, template)
    assert found.image.has("NO_DATA")[181:209, 11:59].all()
    assert not len(found.others(*SMALL))
