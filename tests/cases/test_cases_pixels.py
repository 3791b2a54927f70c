# SPDX-License-Identifier: BSD-3-Clause
"""Bad data, masks and missing values: the cases U01 to U06 and U16 to U21 of docs/cases.md."""

from __future__ import annotations

import numpy as np
import pytest
from benchpair import (
    TRANSIENTS,
    clean_pair,
    difference,
    exposure,
    far_from,
    finds_the_transients,
    frame,
    light,
    noisy,
    stars,
    turned,
)

from diffrun.files.afw.exposure import DEFAULT_PLANES
from diffrun.files.afw.reader import read_exposure
from diffrun.files.afw.writer import write_exposure


def moved_by(found, clean, where):
    """The largest change of the difference against the clean run, in sigma."""
    return np.abs((found.image.image - clean.image.image) / np.sqrt(clean.image.variance))[where].max()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_u01_one_pixel_without_a_number_stays_alone(clean, value):
    science, template = clean_pair()
    image, there = science.image.copy(), np.zeros(science.shape, bool)
    image[150, 150], there[150, 150] = value, True
    found = difference(science.replace(image=image), template)
    assert finds_the_transients(found)
    assert found.image.has("NO_DATA")[150, 150]
    assert (found.image.has("NO_DATA") & ~clean.image.has("NO_DATA")).sum() == 1
    assert moved_by(found, clean, far_from(there, found)) < 0.01


def test_u03_hot_pixels_of_either_image_are_no_sources():
    science = frame(4.2, extra=TRANSIENTS)
    places, cards = turned(1.0, (7.3, 4.6), stars())
    template = noisy(light((512, 512), 3.4, places), 3)
    science[200, 120] += 60 * np.sqrt(800)
    template[330, 420] += 60 * np.sqrt(800)
    found = difference(exposure(science, 4.2), exposure(template, 3.4, cards=cards))
    assert finds_the_transients(found)
    assert found.image.has("CR")[200, 120]
    for name in ("science image", "template image"):
        assert any(f"1 pixels of the {name} are too sharp" in line for line in found.said)


def test_u04_a_transient_beside_a_bad_pixel_is_kept():
    image = frame(4.2, extra=[*TRANSIENTS, (200.0, 150.0, 4100)])
    mask, variance = np.zeros(image.shape, np.int32), image.copy()
    image[150, 203], mask[150, 203] = 0, 1 << DEFAULT_PLANES["BAD"]
    found = difference(exposure(image, 4.2, mask=mask, variance=variance), clean_pair()[1])
    row, distance = found.nearest(200, 150)
    flux, error = (column[row] for column in found.sources.flux("slot_PsfFlux"))
    assert distance < 1
    assert abs(flux - 4100) < 3 * error
    assert found.sources["base_PixelFlags_flag_bad"][row]


def test_u05_variances_that_are_no_numbers(clean):
    science, template = clean_pair()
    variance = template.variance.copy()
    variance[50:60, 50:55], variance[300, 300] = np.nan, np.inf
    found = difference(science, template.replace(variance=variance))
    assert found.image.has("NO_DATA")[~np.isfinite(variance)].all()
    assert moved_by(found, clean, far_from(~np.isfinite(variance), found)) < 0.02
    assert finds_the_transients(found)


def test_u06_cosmic_rays_without_a_mask_are_no_candidates():
    science, template = clean_pair()
    image = science.image.copy()
    rows, columns = np.random.default_rng(9).integers(5, 507, (2, 200))
    image[rows, columns] += 5000
    found = difference(science.replace(image=image, variance=image.copy()), template)
    assert finds_the_transients(found)
    assert found.image.has("CR")[rows, columns].mean() > 0.95
    assert any("pixels of the science image are too sharp for its PSF" in line for line in found.said)
    assert found.facts["imageDifference:subtract.spatialKernelSum"] == pytest.approx(1, abs=0.01)


def test_u17_saturation_of_the_template_and_a_strip_without_data():
    science, template = clean_pair()
    image, mask = template.image.copy(), template.mask.copy()
    x, y, _ = stars()[np.argmax(stars()[:, 2])]
    core = np.s_[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
    image[core], mask[core] = 60000, 1 << DEFAULT_PLANES["SAT"]
    image[:, 440:450], mask[:, 440:450] = 1e6, 1 << DEFAULT_PLANES["NO_DATA"]
    found = difference(science, template.replace(image=image, mask=mask))
    assert found.image.has("SAT_TEMPLATE")[core].all()
    assert not found.image.has("SAT").any()
    assert found.image.has("NO_DATA")[:, 441:449].all()
    assert not len(found.others(*TRANSIENTS))
    assert not ((found.places[:, 0] > 435) & (found.places[:, 0] < 455)).any()


def test_u17_what_is_missing_is_written_as_nan(tmp_path, clean):
    write_exposure(tmp_path / "a.fits", clean.image, missing=("NO_DATA",))
    written = read_exposure(tmp_path / "a.fits")
    assert clean.image.has("NO_DATA").any()
    assert np.isnan(written.image[clean.image.has("NO_DATA")]).all()
    assert np.isfinite(written.image[~clean.image.has("NO_DATA")]).all()


def test_u18_planes_go_by_name_whatever_their_bits(tmp_path):
    """SAT is bit 1 in one and 15 in the other; a plane that the engine does not know is carried."""
    science, template = clean_pair()
    planes = {"BAD": 1, "CR": 0, "INTRP": 2, "EDGE": 4, "NO_DATA": 8, "BRIGHT": 9, "SAT": 15}
    mask = np.zeros(template.shape, np.int32)
    for row, name in ((300, "SAT"), (200, "BRIGHT"), (100, "BAD")):
        mask[row : row + 4, 60:64] |= 1 << planes[name]
    found = difference(science, template.replace(mask=mask, planes=planes)).image
    for row, name in ((300, "SAT_TEMPLATE"), (200, "BRIGHT"), (100, "BAD")):
        assert found.has(name)[row + 1 : row + 3, 61:63].all()
        assert found.has(name).sum() < 60
    write_exposure(tmp_path / "a.fits", found)
    again = read_exposure(tmp_path / "a.fits")
    np.testing.assert_array_equal(again.has("BRIGHT"), found.has("BRIGHT"))


def test_u21_nan_beside_a_moved_star():
    places = stars()
    x, y, _ = places[np.argmin(np.abs(places[:, 2] - 3e4))]
    places[np.argmin(np.abs(places[:, 2] - 3e4)), 0] += 1.5
    image = noisy(light((512, 512), 4.2, places), 2)
    variance = image.copy()
    image[round(y) + 2, round(x) : round(x) + 4] = np.nan
    found = difference(exposure(image, 4.2, variance=variance), clean_pair()[1])
    row, distance = found.nearest(x, y)
    assert distance < 4
    assert np.isfinite(found.places[row]).all()
    assert found.flagged[row]
