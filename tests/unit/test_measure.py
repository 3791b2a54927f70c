# SPDX-License-Identifier: BSD-3-Clause
"""Sources of known flux and position go in; the catalogue must tell them, with honest errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import XY0, Profile, blend, config, draw, exposure, footprint, matched_filter, spans

from diffrun.engine import dipole
from diffrun.engine.config import ImageDifferenceConfig
from diffrun.engine.footprint import Footprint
from diffrun.engine.lobes import Beneath
from diffrun.engine.measure import measure
from diffrun.files.afw.catalog import Catalog, read_catalog, write_catalog
from diffrun.files.afw.exposure import Exposure

SCIENCE, TEMPLATE = 60.0, 40.0
ID_BASE = 230 << 32


def grid(
    snr: float, profile: Profile, rng: Any, n: int = 20, step: int = 36
) -> tuple[Catalog, Any, Any, float]:
    """A field of n² sources of one S/N at random pixel phases, measured: catalogue and truth."""
    size = (n + 1) * step
    rows, columns = np.mgrid[:n, :n] * step + step
    x = XY0[0] + columns.ravel() + rng.uniform(-0.5, 0.5, n * n)
    y = XY0[1] + rows.ravel() + rng.uniform(-0.5, 0.5, n * n)
    flux = snr * profile.sigma_of_flux(SCIENCE + TEMPLATE)
    sources = draw((size, size), profile, x, y, np.full(n * n, abs(flux)))
    noise = [rng.normal(0.0, v**0.5, (size, size)) for v in (SCIENCE, TEMPLATE)]
    science, template = noise[0] + sources * (flux > 0), noise[1] + sources * (flux < 0)
    catalogue = run(science, template, profile, list(zip(x, y, strict=True)))
    return catalogue, x, y, flux


def run(science: Any, template: Any, profile: Profile, places: list[Any], **changes: Any) -> Catalog:
    """Measure discs around the places given, on science − template."""
    difference = exposure(science - template, SCIENCE + TEMPLATE, profile).replace(**changes)
    snr = matched_filter(difference.image, SCIENCE + TEMPLATE, profile)
    found = [footprint(snr, x, y) for x, y in places]
    return measure(found, difference, beneath(science), config(), ID_BASE)


def beneath(science: Any) -> Beneath:
    """A science image that brought its part of the difference's variance."""
    return Beneath(np.asarray(science, np.float32), SCIENCE / (SCIENCE + TEMPLATE))


def single(rng: Any, snr: float = 15.0, size: int = 81, fwhm: float = 3.5) -> tuple[Exposure, Beneath, float]:
    """Difference and science image with one source in the middle, and its flux."""
    profile = Profile(fwhm)
    flux = snr * profile.sigma_of_flux(SCIENCE + TEMPLATE)
    science = draw((size, size), profile, XY0[0] + 40.2, XY0[1] + 39.7, flux)
    science += rng.normal(0, SCIENCE**0.5, science.shape)
    template = rng.normal(0, TEMPLATE**0.5, science.shape)
    return exposure(science - template, SCIENCE + TEMPLATE, profile), beneath(science), flux


def measure_middle(difference: Exposure, science: Beneath) -> Catalog:
    snr = matched_filter(difference.image, SCIENCE + TEMPLATE, Profile(3.5))
    return measure([footprint(snr, XY0[0] + 40.2, XY0[1] + 39.7)], difference, science, config(), 0)


@pytest.mark.parametrize("fwhm", [2.5, 4.0])
@pytest.mark.parametrize("snr", [6.0, 12.0, -12.0, 40.0, 200.0])
def test_flux_and_position_of_injected_sources(fwhm: float, snr: float) -> None:
    catalogue, x, y, flux = grid(snr, Profile(fwhm), np.random.default_rng(int(abs(snr)) + int(10 * fwhm)))
    n = len(catalogue)
    assert not catalogue["slot_Centroid_flag"].any()
    assert (catalogue["flags_negative"] == (snr < 0)).all()
    off = np.concatenate([catalogue["slot_Centroid_x"] - x, catalogue["slot_Centroid_y"] - y])
    sigma = np.concatenate([catalogue["slot_Centroid_xSigma"], catalogue["slot_Centroid_ySigma"]])
    assert off.std() < 0.85 * fwhm / abs(snr)
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(2 * n)
    # Below S/N 10 the likelihood of a position is wider than a parabola tells.
    assert 0.9 < (off / sigma).std() < (1.25 if abs(snr) < 10 else 1.1)
    phase = np.concatenate([x, y]) % 1.0
    for part in (phase < 0.5, phase >= 0.5):
        assert abs(off[part].mean()) < 4 * off.std() / np.sqrt(n)
    measured, error = catalogue.flux("slot_PsfFlux")
    assert measured.mean() / flux == pytest.approx(1.0, abs=3.5 / abs(snr) / np.sqrt(n) + 0.002)
    assert 0.9 < ((measured - flux) / error).std() < 1.1
    assert np.median(error) == pytest.approx(Profile(fwhm).sigma_of_flux(100.0), rel=0.01)


def test_aperture_gaussian_and_forced_fluxes_agree_with_the_truth() -> None:
    gaussian = Profile(3.0, beta=np.inf)
    catalogue, _, _, flux = grid(300.0, gaussian, np.random.default_rng(3))
    names = (
        "base_CircularApertureFlux_9_0",
        "base_CircularApertureFlux_12_0",
        "base_SdssShape",
        "base_GaussianFlux",
    )
    for name in (*names, "diffrun_ScienceForced"):
        assert np.mean(catalogue[f"{name}_flux"]) / flux == pytest.approx(1.0, abs=0.003), name
        pulls = (catalogue[f"{name}_flux"] - flux) / catalogue[f"{name}_fluxSigma"]
        # The error of GaussianFlux, as in the stack, is that of known moments.
        assert 0.88 < pulls.std() < (1.6 if name == "base_GaussianFlux" else 1.12), name
    template = catalogue["diffrun_TemplateForced_flux"] / catalogue["diffrun_TemplateForced_fluxSigma"]
    assert abs(template.mean()) < 0.25
    assert 0.9 < template.std() < 1.1
    # Its image is not convolved with its PSF: value times effective area is known in closed form.
    stamp = gaussian.stamp(0.0, 0.0)
    expected = flux * stamp.max() / (stamp**2).sum()
    assert np.mean(catalogue["base_PeakLikelihoodFlux_flux"]) == pytest.approx(expected, rel=0.01)


def test_other_centroids_and_shape_of_a_bright_source() -> None:
    catalogue, x, y, _ = grid(150.0, Profile(3.5), np.random.default_rng(4))
    for name, worst in (
        ("base_GaussianCentroid", 0.08),
        ("base_SdssShape", 0.08),
        ("base_NaiveCentroid", 0.6),
    ):
        assert np.hypot(catalogue[f"{name}_x"] - x, catalogue[f"{name}_y"] - y).max() < worst, name
    assert np.hypot(catalogue["base_PeakCentroid_x"] - x, catalogue["base_PeakCentroid_y"] - y).max() < 0.75
    assert np.mean(catalogue["base_SdssShape_xx"] - catalogue["base_SdssShape_psf_xx"]) == pytest.approx(
        0, abs=0.01
    )
    assert (catalogue["ip_diffim_NaiveDipoleCentroid_neg_flag"]).all()
    naive = np.hypot(
        catalogue["ip_diffim_NaiveDipoleCentroid_x"] - catalogue["base_NaiveCentroid_x"],
        catalogue["ip_diffim_NaiveDipoleCentroid_y"] - catalogue["base_NaiveCentroid_y"],
    )
    assert naive.max() < 1e-9


def test_sky_position_id_and_parent() -> None:
    catalogue, _, _, _ = grid(20.0, Profile(3.0), np.random.default_rng(5), n=3)
    ra = 53.0 + (catalogue["slot_Centroid_x"] - XY0[0]) * 0.2 / 3600
    dec = -0.5 + (catalogue["slot_Centroid_y"] - XY0[1]) * 0.2 / 3600
    np.testing.assert_allclose(np.degrees(catalogue["coord_ra"]), ra, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.degrees(catalogue["coord_dec"]), dec, rtol=0, atol=1e-12)
    assert list(catalogue["id"]) == [ID_BASE | n for n in range(1, 10)]
    assert not catalogue["parent"].any()
    assert np.all(catalogue["diffrun_snr"] > 10)


def test_a_bad_pixel_beside_a_transient_only_flags_it() -> None:
    difference, science, flux = single(np.random.default_rng(6))
    image, mask = difference.image.copy(), difference.mask.copy()
    image[40, 43], mask[40, 43] = 0.0, difference.bits("BAD")
    catalogue = measure_middle(difference.replace(image=image, mask=mask), science)
    assert len(catalogue) == 1
    assert abs(catalogue["base_PsfFlux_flux"][0] - flux) < 3 * catalogue["base_PsfFlux_fluxSigma"][0]
    assert catalogue["base_PixelFlags_flag_bad"][0]
    assert not catalogue["base_PsfFlux_flag"][0]
    assert catalogue["base_CircularApertureFlux_6_0_flag"][0]


def test_a_strip_without_data_does_not_reach_into_the_flux() -> None:
    difference, science, flux = single(np.random.default_rng(7))
    image, mask = difference.image.copy(), difference.mask.copy()
    image[:, 44:47], mask[:, 44:47] = 1e6, difference.bits("NO_DATA")
    clean = measure_middle(difference, science)
    catalogue = measure(
        [footprint(matched_filter(difference.image, 100.0, Profile(3.5)), XY0[0] + 40.2, XY0[1] + 39.7)],
        difference.replace(image=image, mask=mask), science, config(), 0,
    )  # fmt: skip
    assert abs(catalogue["base_PsfFlux_flux"][0] - flux) < 3 * catalogue["base_PsfFlux_fluxSigma"][0]
    assert catalogue["base_PixelFlags_flag_edge"][0]
    assert not catalogue["base_PixelFlags_flag_saturatedCenter"][0]
    assert abs(catalogue["slot_Centroid_x"][0] - clean["slot_Centroid_x"][0]) < 0.3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_leave_a_row_with_a_position(value: float) -> None:
    difference, science, flux = single(np.random.default_rng(9), snr=40.0)
    image, variance = difference.image.copy(), difference.variance.copy()
    image[38:40, 38:40] = value
    variance[45, 45] = value
    catalogue = measure_middle(difference.replace(image=image, variance=variance), science)
    assert np.isfinite(catalogue["slot_Centroid_x"][0])
    assert abs(catalogue["base_PsfFlux_flux"][0] - flux) < 4 * catalogue["base_PsfFlux_fluxSigma"][0]


def test_nothing_but_nan_gives_the_peak_and_flags() -> None:
    difference, _, _ = single(np.random.default_rng(10))
    everything = footprint(
        matched_filter(difference.image, 100.0, Profile(3.5)), XY0[0] + 40.2, XY0[1] + 39.7
    )
    blank = np.full(difference.shape, np.nan, np.float32)
    empty = difference.replace(image=blank, variance=blank)
    catalogue = measure([everything], empty, beneath(blank), config(), 0)
    assert catalogue["slot_Centroid_x"][0] == everything.peaks_x[0]
    assert catalogue["slot_Centroid_flag"][0]
    assert catalogue["base_SdssCentroid_flag_noSecondDerivative"][0]
    assert catalogue["base_PsfFlux_flag_noGoodPixels"][0]
    assert np.isfinite(catalogue["coord_ra"][0])


def test_sources_at_the_edge_and_in_the_corner() -> None:
    rng, profile = np.random.default_rng(11), Profile(3.5)
    places = [(XY0[0] + 1.3, XY0[1] + 50.2), (XY0[0] + 98.8, XY0[1] + 98.9), (XY0[0] + 50.0, XY0[1] + 0.2)]
    flux = 60 * profile.sigma_of_flux(100.0)
    science = draw((100, 100), profile, *np.transpose(places), np.full(3, flux))
    science += rng.normal(0, SCIENCE**0.5, science.shape)
    catalogue = run(science, rng.normal(0, TEMPLATE**0.5, science.shape), profile, places)
    pulls = (catalogue["base_PsfFlux_flux"] - flux) / catalogue["base_PsfFlux_fluxSigma"]
    assert np.abs(pulls).max() < 4
    assert catalogue["base_PsfFlux_flag_edge"].all()
    assert catalogue["base_SdssCentroid_flag_edge"].all()
    assert catalogue["base_CircularApertureFlux_12_0_flag_apertureTruncated"].all()
    truth = np.array(places).T
    assert (
        np.hypot(catalogue["slot_Centroid_x"] - truth[0], catalogue["slot_Centroid_y"] - truth[1]).max() < 0.4
    )


def test_a_transient_on_a_galaxy_is_unbiased() -> None:
    rng, profile = np.random.default_rng(12), Profile(3.5)
    y, x = np.mgrid[:61, :61] - 30.0
    galaxy = 500 * np.exp(-np.hypot(x, y) / 5.0)
    flux, ratios, pulls = 4000.0, [], []
    for _ in range(40):
        px, py = XY0[0] + 32.0 + rng.uniform(-0.5, 0.5), XY0[1] + 31.0 + rng.uniform(-0.5, 0.5)
        source = draw(galaxy.shape, profile, px, py, flux)
        variance = SCIENCE + TEMPLATE + 2 * galaxy + source
        image = source + rng.normal(0, np.sqrt(variance))
        difference = exposure(image, 1.0, profile).replace(variance=variance.astype(np.float32))
        found = footprint(matched_filter(image, 200.0, profile), px, py)
        catalogue = measure([found], difference, beneath(difference.image), config(), 0)
        ratios.append(catalogue["base_PsfFlux_flux"][0] / flux)
        pulls.append((catalogue["base_PsfFlux_flux"][0] - flux) / catalogue["base_PsfFlux_fluxSigma"][0])
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.02)
    assert 0.75 < np.std(pulls) < 1.25


def test_pixel_flags_by_a_slow_twin() -> None:
    difference, science, _ = single(np.random.default_rng(13))
    rng = np.random.default_rng(14)
    mask = np.zeros(difference.shape, np.int32)
    for plane in ("BAD", "SAT", "INTRP", "CR", "EDGE", "SUSPECT", "NO_DATA"):
        mask[rng.random(mask.shape) < 0.004] |= difference.bits(plane)
    difference = difference.replace(mask=mask)
    found = []
    for _ in range(40):
        x, y = rng.integers(8, 72, 2)
        rows, columns = np.mgrid[:81, :81]
        disc = spans(np.hypot(columns - x, rows - y) < 4)
        found.append(Footprint(disc, np.array([x + XY0[0]]), np.array([y + XY0[1]]), np.array([5.0])))
    catalogue = measure(found, difference, science, config(), 0)
    anywhere = {"bad": "BAD", "saturated": "SAT", "interpolated": "INTRP", "cr": "CR", "suspect": "SUSPECT"}
    for n, one in enumerate(found):
        pixels = [mask[y - XY0[1], x - XY0[0]] for y, x0, x1 in one.spans for x in range(x0, x1 + 1)]
        bits = int(np.bitwise_or.reduce(pixels))
        for flag, plane in anywhere.items():
            assert catalogue[f"base_PixelFlags_flag_{flag}"][n] == bool(bits & difference.bits(plane)), flag
        assert catalogue["base_PixelFlags_flag_edge"][n] == bool(bits & difference.bits("EDGE", "NO_DATA"))
        column = int(np.floor(catalogue["slot_Centroid_x"][n] + 0.5)) - XY0[0]
        row = int(np.floor(catalogue["slot_Centroid_y"][n] + 0.5)) - XY0[1]
        centre = int(np.bitwise_or.reduce(mask[row - 1 : row + 2, column - 1 : column + 2], axis=None))
        for flag in ("saturated", "interpolated", "cr", "suspect"):
            expected = bool(centre & difference.bits(anywhere[flag]))
            assert catalogue[f"base_PixelFlags_flag_{flag}Center"][n] == expected, flag


def test_sums_of_the_footprint_by_a_slow_twin() -> None:
    difference, science, _ = single(np.random.default_rng(15))
    snr = matched_filter(difference.image, 100.0, Profile(3.5))
    found = footprint(snr, XY0[0] + 40.2, XY0[1] + 39.7)
    catalogue = measure([found], difference, science, config(), 0)
    pixels = [
        float(difference.image[y - XY0[1], x - XY0[0]]) for y, a, b in found.spans for x in range(a, b + 1)
    ]
    negative = [p for p in pixels if p < 0]
    name = "ip_diffim_NaiveDipoleFlux"
    assert catalogue[f"{name}_nneg"][0] == len(negative)
    assert catalogue[f"{name}_npos"][0] == len(pixels) - len(negative)
    assert catalogue[f"{name}_neg_flux"][0] == pytest.approx(sum(negative))
    assert catalogue[f"{name}_neg_fluxSigma"][0] == pytest.approx(np.sqrt(100.0 * len(negative)))


def test_a_source_does_not_depend_on_its_neighbours_in_the_catalogue() -> None:
    rng, profile = np.random.default_rng(16), Profile(3.0)
    flux = 10 * profile.sigma_of_flux(100.0)
    places = [(XY0[0] + 40.0 * k + 0.3, XY0[1] + 40.4) for k in (1, 2, 3)]
    image = draw((90, 170), profile, *np.transpose(places), np.full(3, flux)) + rng.normal(0, 10, (90, 170))
    difference = exposure(image, 100.0, profile)
    found = [footprint(matched_filter(image, 100.0, profile), x, y) for x, y in places]
    together = measure(found, difference, beneath(difference.image), config(), 0)
    alone = measure(found[1:2], difference, beneath(difference.image), config(), 0)
    for name in set(together.names) - {"id"}:
        np.testing.assert_allclose(together[name][1], alone[name][0], rtol=1e-9, err_msg=name)


def test_no_footprints_give_an_empty_catalogue() -> None:
    difference, science, _ = single(np.random.default_rng(17))
    catalogue = measure([], difference, science, config(), 0)
    assert len(catalogue) == 0
    assert "slot_PsfFlux_flux" in catalogue


def test_schema_is_that_of_the_stack(tmp_path: Path) -> None:
    difference, science, _ = single(np.random.default_rng(18))
    snr = matched_filter(difference.image, 100.0, Profile(3.5))
    found = [blend(snr, [XY0[0] + 40.2], [XY0[1] + 39.7])]
    catalogue = measure(found, difference, science, config(), ID_BASE)
    assert catalogue.names[:4] == ["id", "coord_ra", "coord_dec", "parent"]
    assert len(set(catalogue.names)) == len(catalogue.names)
    assert {f.unit for f in catalogue.fields if f.name.endswith(("_flux", "_fluxSigma"))} == {"count"}
    assert all(f.doc for f in catalogue.fields)
    assert catalogue.resolve("slot_Centroid_x") == "base_SdssCentroid_x"
    assert catalogue.resolve("base_GaussianFlux_flag_badShape") == "base_SdssShape_flag"
    types = {f.name: f.type for f in catalogue.fields}
    assert types["base_SdssCentroid_xSigma"] == "F"
    assert types["base_PsfFlux_fluxSigma"] == "D"
    assert types["ip_diffim_NaiveDipoleFlux_npos"] == "I"
    path = tmp_path / "diaSrc.fits"
    write_catalog(path, catalogue)
    again = read_catalog(path)
    assert again.names[:4] == catalogue.names[:4]
    assert set(again.names) == set(catalogue.names)
    for name in catalogue.names:
        np.testing.assert_array_equal(again[name], catalogue[name], err_msg=name)


@pytest.mark.parametrize("seed", range(8))
def test_no_damage_to_the_planes_loses_a_row_or_its_position(seed: int) -> None:
    rng, profile = np.random.default_rng(seed), Profile(3.0)
    size, n = int(rng.integers(60, 130)), 12
    x, y = XY0[0] + rng.uniform(0, size - 1, n), XY0[1] + rng.uniform(0, size - 1, n)
    flux = profile.sigma_of_flux(100.0) * 10 ** rng.uniform(0.7, 3.5, n)
    images = [draw((size, size), profile, x + shift, y, flux) for shift in (0.0, -0.4 * (x > XY0[0] + 1))]
    noisy = [i + rng.normal(0, v**0.5, i.shape) for i, v in zip(images, (SCIENCE, TEMPLATE), strict=True)]
    snr = matched_filter(noisy[0] - noisy[1], 100.0, profile)
    found = [blend(snr, [px], [py]) for px, py in zip(x, y, strict=True)]
    damaged = []
    for image, variance in ((noisy[0] - noisy[1], 100.0), (noisy[0], SCIENCE)):
        e = exposure(image, variance, profile)
        for plane in (e.image, e.variance):
            plane[rng.random(plane.shape) < rng.choice([0.0, 1e-3, 0.1, 0.6])] = rng.choice(
                [np.nan, np.inf, -np.inf, 0.0, -5.0, 1e30]
            )
        e.mask[rng.random(e.mask.shape) < rng.choice([0.0, 0.02, 0.4])] |= e.bits("SAT", "CR")
        damaged.append(e)
    settings = {
        "fitBackground": seed % 3,
        "fitAllDiaSources": float(seed % 2),
        "fitSeparateNegParams": seed > 4,
    }
    catalogue = measure(found, damaged[0], beneath(damaged[1].image), config(**settings), 0)
    assert len(catalogue) == n
    for name in (
        "slot_Centroid",
        "base_GaussianCentroid",
        "base_NaiveCentroid",
        "ip_diffim_NaiveDipoleCentroid",
    ):
        assert np.isfinite(catalogue[f"{name}_x"]).all(), name
    assert np.isfinite(catalogue["coord_dec"]).all()
    tried = catalogue["ip_diffim_DipoleFit_flag_classificationAttempted"]
    assert np.isfinite(catalogue["ip_diffim_DipoleFit_neg_centroid_x"][tried]).all()
    assert (np.isfinite(catalogue["base_PsfFlux_flux"]) | catalogue["base_PsfFlux_flag"]).all()


def test_settings_are_read_from_the_configuration_of_the_program() -> None:
    program = ImageDifferenceConfig()
    assert dipole.Settings.of(program) == dipole.Settings.of(config())
