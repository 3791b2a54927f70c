# SPDX-License-Identifier: BSD-3-Clause
"""Dipoles of known separation, direction and flux."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scenes import XY0, Profile, blend, config, draw, exposure, matched_filter

from diffrun.engine.dipole import Settings, joint
from diffrun.engine.footprint import Footprint
from diffrun.engine.lobes import Beneath
from diffrun.engine.measure import measure
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure

PROFILE = Profile(3.5)
SCIENCE, TEMPLATE = 60.0, 40.0
FIT = "ip_diffim_DipoleFit"
Scene = tuple[Footprint, Exposure, Beneath]


def dipole(
    rng: Any, separation: float, fluxes: tuple[float, float], angle: float, sky: float = 0.0, size: int = 81
) -> tuple[Scene, Any]:
    """A star of one flux and place in the science image, and of another in the template: scene and places."""
    middle = np.array([size // 2, size // 2]) + XY0 + rng.uniform(-0.5, 0.5, 2)
    arm = separation / 2 * np.array([np.cos(angle), np.sin(angle)])
    places = np.stack([middle + arm, middle - arm])
    images = [
        draw((size, size), PROFILE, *place, flux) + rng.normal(sky, variance**0.5, (size, size))
        for place, flux, variance in zip(places, fluxes, (SCIENCE, TEMPLATE), strict=True)
    ]
    difference = exposure(images[0] - images[1], SCIENCE + TEMPLATE, PROFILE)
    snr = matched_filter(difference.image, SCIENCE + TEMPLATE, PROFILE)
    found = blend(snr, places[:, 0], places[:, 1])
    beneath = Beneath(images[0].astype(np.float32), SCIENCE / (SCIENCE + TEMPLATE))
    return (found, difference, beneath), places


def run(scene: Scene, **settings: Any) -> Catalog:
    found, difference, beneath = scene
    return measure([found], difference, beneath, config(**settings), 0)


def flux_of(snr: float) -> float:
    return snr * PROFILE.sigma_of_flux(SCIENCE + TEMPLATE)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("separation", [0.4, 1.5, 4.0])
def test_flux_places_and_their_errors(separation: float, separate: bool) -> None:
    rng, flux = np.random.default_rng(int(10 * separation)), flux_of(60.0)
    settings, kernel = Settings.of(config(fitSeparateNegParams=separate)), PROFILE.stamp(0.0, 0.0)
    off, pulls, chi2 = [], [], []
    for _ in range(120):
        (found, difference, beneath), places = dipole(
            rng, separation, (flux, flux), rng.uniform(0, 2 * np.pi), 25.0, 61
        )
        fit = joint(found, difference, beneath, kernel, 1.6, settings)
        assert not fit.failed
        assert fit.is_dipole(settings.min_sn, settings.max_flux_ratio)
        off.append((fit.positions - places.ravel()) / fit.position_sigmas)
        pulls.append((np.array(fit.fluxes) - flux) / np.array(fit.sigmas))
        chi2.append(fit.chi2dof)
        assert np.abs(fit.positions - places.ravel()).max() < 0.2
    assert 0.85 < np.std(off) < 1.15
    assert abs(np.mean(off)) < 0.25
    assert 0.8 < np.std(pulls) < 1.2
    assert abs(np.mean(pulls)) < 0.6
    assert np.mean(chi2) == pytest.approx(1.0, abs=0.04)


def test_direction_separation_and_middle() -> None:
    rng, flux = np.random.default_rng(1), flux_of(200.0)
    for angle in (0.3, 2.0, -2.5):
        scene, places = dipole(rng, 3.0, (flux, flux), angle)
        c = run(scene)
        assert c[f"{FIT}_orientation"][0] == pytest.approx(np.degrees(angle), abs=1.0)
        assert c[f"{FIT}_separation"][0] == pytest.approx(3.0, abs=0.06)
        assert c[f"{FIT}_centroid_x"][0] == pytest.approx(places[:, 0].mean(), abs=0.04)
        assert c[f"{FIT}_flux"][0] == pytest.approx(flux, rel=0.03)
        assert c["ip_diffim_ClassificationDipole_value"][0] == 1.0
        assert c["ip_diffim_PsfDipoleFlux_pos_flux"][0] == pytest.approx(flux, rel=0.1)
        assert c["ip_diffim_PsfDipoleFlux_neg_centroid_y"][0] == pytest.approx(places[1, 1], abs=0.1)


def test_unequal_lobes_are_no_dipole_but_are_measured() -> None:
    rng, flux = np.random.default_rng(2), flux_of(100.0)
    scene, _ = dipole(rng, 4.0, (flux, 0.3 * flux), 0.4)
    c = run(scene, fitSeparateNegParams=True)
    assert c[f"{FIT}_flag_classificationAttempted"][0]
    assert not c[f"{FIT}_flag_classification"][0]
    assert c[f"{FIT}_pos_flux"][0] == pytest.approx(flux, rel=0.05)
    assert c[f"{FIT}_neg_flux"][0] == pytest.approx(-0.3 * flux, rel=0.15)
    assert not run(scene)[f"{FIT}_flag_classification"][0]


def test_a_transient_is_not_tried() -> None:
    rng, flux = np.random.default_rng(3), flux_of(30.0)
    scene, _ = dipole(rng, 0.0, (flux, 0.0), 0.0)
    found = scene[0]
    one = Footprint(found.spans, found.peaks_x[:1], found.peaks_y[:1], found.peaks_snr[:1])
    c = run((one, *scene[1:]))
    assert c[f"{FIT}_flag"][0]
    assert not c[f"{FIT}_flag_classificationAttempted"][0]
    assert np.isnan(c[f"{FIT}_pos_flux"][0])
    assert np.isnan(c[f"{FIT}_separation"][0])
    assert c["ip_diffim_PsfDipoleFlux_flag"][0]


def test_a_faint_dipole_is_not_significant() -> None:
    scene, _ = dipole(np.random.default_rng(4), 4.0, (flux_of(3.0), flux_of(3.0)), 1.0)
    assert not run(scene)[f"{FIT}_flag_classification"][0]


def test_pixels_that_are_no_numbers_in_the_footprint() -> None:
    rng, flux = np.random.default_rng(5), flux_of(100.0)
    scene, places = dipole(rng, 1.5, (flux, flux), 0.7)
    found, difference, beneath = scene
    image, variance, science = difference.image.copy(), difference.variance.copy(), beneath.science.copy()
    for plane in (image, science):
        plane[39:41, 43:45] = np.nan
    science[45, 41] = np.nan
    variance[44, 40] = np.inf
    broken = difference.replace(image=image, variance=variance)
    c = run((found, broken, Beneath(science, beneath.share)))
    assert np.isfinite([c["slot_Centroid_x"][0], c["slot_Centroid_y"][0], c["coord_ra"][0]]).all()
    assert c[f"{FIT}_pos_centroid_x"][0] == pytest.approx(places[0, 0], abs=0.1)
    assert c[f"{FIT}_flux"][0] == pytest.approx(flux, rel=0.1)


def test_without_any_usable_pixel_the_peaks_stand() -> None:
    scene, _ = dipole(np.random.default_rng(6), 3.0, (flux_of(50.0), flux_of(50.0)), 0.7)
    found, difference, beneath = scene
    blank = difference.replace(mask=np.full(difference.shape, difference.bits("NO_DATA"), np.int32))
    c = run((found, blank, beneath))
    assert c[f"{FIT}_flag"][0]
    assert c[f"{FIT}_flag_classificationAttempted"][0]
    assert not c[f"{FIT}_flag_classification"][0]
    assert c[f"{FIT}_pos_centroid_x"][0] == found.peaks_x[0]
    assert c[f"{FIT}_neg_centroid_y"][0] == found.peaks_y[-1]


def test_at_the_edge_of_the_image() -> None:
    scene, places = dipole(np.random.default_rng(7), 2.5, (flux_of(100.0), flux_of(100.0)), 0.0)
    found, difference, beneath = scene
    left = 38
    cut = difference.replace(
        image=difference.image[:, left:], mask=difference.mask[:, left:],
        variance=difference.variance[:, left:], xy0=(difference.xy0[0] + left, difference.xy0[1]),
    )  # fmt: skip
    c = run((found, cut, Beneath(beneath.science[:, left:], beneath.share)))
    assert c[f"{FIT}_flag_edge"][0]
    assert c[f"{FIT}_pos_centroid_x"][0] == pytest.approx(places[0, 0], abs=0.15)


def test_fitted_sky_takes_the_wings_along() -> None:
    rng, flux = np.random.default_rng(8), flux_of(500.0)
    scene, _ = dipole(rng, 2.0, (flux, flux), 0.2, sky=1000.0)
    assert run(scene, fitBackground=2)[f"{FIT}_flux"][0] == pytest.approx(flux, rel=0.01)
