# SPDX-License-Identifier: BSD-3-Clause
"""Two versions of a product with a difference that was put in: its size, its place and its count come out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffrun.engine import compare
from diffrun.errors import DataError
from diffrun.files.afw.catalog import Catalog, Field, write_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import GaussianPsf
from diffrun.files.afw.wcs import TanSipWcs
from diffrun.files.afw.writer import write_exposure, write_kernel


def exposure() -> Exposure:
    """Noise of standard deviation 3, a pixel without data, the lower left pixel at x=100, y=200."""
    image = np.random.default_rng(5).normal(0, 3, (12, 17)).astype(np.float32)
    image[4, 4] = np.nan
    wcs = TanSipWcs((53.0, -27.4), (1700.25, 2300.5), np.array([[5e-5, 0], [0, 5e-5]]))
    mask, variance = np.zeros(image.shape, np.int32), np.full(image.shape, 9, np.float32)
    return Exposure(image, mask, variance, wcs, GaussianPsf((11, 11), 1.5), xy0=(100, 200), filter="r")


def changed(exposure: Exposure, row: int, column: int, by: float) -> Exposure:
    image = exposure.image.copy()
    image[row, column] += np.float32(by)
    return exposure.replace(image=image)


def test_one_pixel_of_an_exposure(tmp_path: Path) -> None:
    write_exposure(tmp_path / "a.fits", exposure())
    write_exposure(tmp_path / "b.fits", changed(exposure(), 7, 2, 0.75))
    found = compare.compare(tmp_path / "a.fits", tmp_path / "b.fits")
    assert found.largest == pytest.approx(0.25, rel=1e-5)
    assert (found.unit, found.where) == ("sigma", "pixel x=102 y=207")
    assert (found.differing, found.values) == (1, 12 * 17)
    same = compare.compare(tmp_path / "a.fits", tmp_path / "a.fits")
    assert (same.largest, same.differing) == (0.0, 0)


def test_a_mask_counts_and_a_value_against_none_is_infinite() -> None:
    mask = np.zeros((12, 17), np.int32)
    mask[0, :5] = 4
    found = compare.of_exposures(exposure(), exposure().replace(mask=mask))
    assert (found.largest, found.differing) == (0.0, 5)
    found = compare.of_exposures(exposure(), changed(exposure(), 7, 2, np.nan))
    assert found.largest == np.inf
    assert found.as_dict()["largest"] is None
    with pytest.raises(DataError, match=r"\(12, 17\) and \(3, 17\) pixels"):
        compare.of_exposures(exposure(), exposure().replace(image=exposure().image[:3]))


def catalogue(**changes: list[float]) -> Catalog:
    fields = [Field("id", "L"), Field("coord_ra", "Angle"), Field("coord_dec", "Angle"), Field("parent", "L")]
    fields += [Field("f_flux"), Field("f_fluxSigma"), Field("x_x"), Field("flag", "Flag")]
    columns = {
        "id": np.array([2**60 + 1, 2**60 + 2]), "coord_ra": np.array([1.0, 1.1]),
        "coord_dec": np.array([-0.5, -0.4]), "parent": np.array([0, 0]), "f_flux": np.array([10.0, np.nan]),
        "f_fluxSigma": np.array([2.0, 2.0]), "x_x": np.array([5.0, 6.0]), "flag": np.array([True, False]),
    }  # fmt: skip
    for name, values in changes.items():
        columns[name] = np.array(values, columns[name].dtype)
    return Catalog(fields, columns)


def test_a_measured_value_counts_in_its_own_error(tmp_path: Path) -> None:
    write_catalog(tmp_path / "a.fits", catalogue())
    write_catalog(tmp_path / "b.fits", catalogue(f_flux=[10.5, np.nan], x_x=[5.0, 7.0]))
    found = compare.compare(tmp_path / "a.fits", tmp_path / "b.fits")
    assert (found.largest, found.where) == (0.25, "f_flux of row 0")
    assert (found.differing, found.values) == (2, 16)


def test_ids_that_a_double_cannot_tell_apart_differ() -> None:
    found = compare.of_catalogues(catalogue(), catalogue(id=[2**60 + 1, 2**60 + 3]))
    assert (found.largest, found.differing) == (0.0, 1)


def test_a_kernel_counts_in_its_peak(tmp_path: Path) -> None:
    components = np.zeros((1, 3, 3))
    components[0, 1, 1] = 4.0
    box = (0.0, 0.0, 100.0, 100.0)
    other = components.copy()
    other[0, 0, 0] = 0.5
    write_kernel(tmp_path / "a.fits", LinearCombinationKernel(components, np.ones((1, 1)), box))
    write_kernel(tmp_path / "b.fits", LinearCombinationKernel(other, np.ones((1, 1)), box))
    found = compare.compare(tmp_path / "a.fits", tmp_path / "b.fits")
    assert (found.largest, found.unit, found.differing) == (0.125, "of the peak", 9)


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_exposure(tmp_path / "a.fits", exposure())
    write_exposure(tmp_path / "b.fits", changed(exposure(), 7, 2, 0.75))
    assert compare.main([str(tmp_path / "a.fits"), str(tmp_path / "b.fits")]) == 0
    assert json.loads(capsys.readouterr().out)["where"] == "pixel x=102 y=207"
    (tmp_path / "c.fits").write_bytes(b"no FITS")
    assert compare.main([str(tmp_path / "a.fits"), str(tmp_path / "c.fits")]) == DataError.exit_code
    assert "are not two exposures" in capsys.readouterr().err
