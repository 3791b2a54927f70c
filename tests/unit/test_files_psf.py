# SPDX-License-Identifier: BSD-3-Clause
"""PSF models against numbers known beforehand, and against afw's own evaluation of its own files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from diffrun.errors import DataError
from diffrun.files.afw.archive import Archive
from diffrun.files.afw.exposure import Psf
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.kernelarchive import read_kernel as read_kernel_object
from diffrun.files.afw.psf import DoubleGaussianPsf, GaussianPsf, KernelPsf, PsfexPsf, psf_image
from diffrun.files.afw.psfarchive import read_psf
from diffrun.files.afw.reader import read_kernel, read_summary
from diffrun.files.afw.writer import write_kernel

READ = (
    "coadd",
    "double_gaussian",
    "full_info",
    "gaussian",
    "kernel_analytic",
    "kernel_chebyshev",
    "kernel_polynomial",
)
READ += ("kernel_fixed", "lossy_compressed", "pca", "psfex", "single_gaussian", "warped")


@pytest.mark.parametrize("name", READ)
def test_as_afw_evaluates_its_own_file(shared_data: Path, name: str) -> None:
    psf = read_summary(shared_data / "lsst_reference" / f"{name}.fits").psf
    truth = np.load(shared_data / "lsst_reference" / f"{name}.truth.npz")
    assert psf is not None
    for number, (x, y) in enumerate(truth["psf_positions"]):
        kernel, want = psf.kernel_image(x, y), truth[f"psf_kernel_image_{number}"]
        assert kernel.shape == want.shape
        assert np.abs(kernel - want).max() < 2e-6 * want.max()
        image, x0, y0 = psf_image(psf, x, y)
        want = truth[f"psf_image_{number}"]
        assert (x0, y0, *image.shape[::-1]) == tuple(truth["psf_image_bbox"][number])
        assert np.abs(image - want).max() < 2e-6 * want.max()


def test_an_unknown_class_is_named() -> None:
    """A PIFF model is a pickle, which is never loaded."""
    archive = Archive({1: ("PiffPsf", [np.zeros(1, [("bytes", "O")])])})
    with pytest.raises(DataError, match=r"class PiffPsf; give an image with .*PcaPsf.*CoaddPsf"):
        read_psf(archive, 1, (0.0, 0.0, 9.0, 9.0))


def test_gaussians_have_the_values_of_the_formula() -> None:
    wide = GaussianPsf((3, 3), 4.0).kernel_image(0, 0)
    assert wide[1, 1] == pytest.approx(0.11581332259660833, rel=1e-14)
    assert wide[0, 0] == pytest.approx(0.10879654809508496, rel=1e-14)
    narrow = GaussianPsf((11, 11), 1.5).kernel_image(0, 0)
    assert narrow[5, 5] == pytest.approx(0.07076223776394698, rel=1e-14)
    assert narrow[0, 0] == pytest.approx(1.0575655981532615e-06, rel=1e-12)
    double = DoubleGaussianPsf((41, 31), 1.5, 3.0, 0.1).kernel_image(0, 0)
    assert double.shape == (31, 41)
    assert double.sum() == pytest.approx(1, abs=1e-14)
    ratio = (math.exp(-4 / 4.5) + 0.1 * math.exp(-4 / 18)) / 1.1
    assert double[15, 22] / double[15, 20] == pytest.approx(ratio, rel=1e-14)


@pytest.mark.parametrize(
    ("x", "y"), [(1000.0, 2000.0), (1000.3, 2000.45), (1000.5, 1999.75), (999.51, 2000.49)]
)
def test_a_star_falls_where_it_is(x: float, y: float) -> None:
    # Lanczos-5 with its taps brought to sum 1, as in afw, moves a centroid by up to 0.011 pixel.
    psfs: list[Psf] = [GaussianPsf((61, 61), 2.0), DoubleGaussianPsf((61, 61), 2.0, 3.0, 0.1)]
    for psf in psfs:
        image, x0, y0 = psf_image(psf, x, y)
        columns, rows = np.meshgrid(np.arange(61) + x0, np.arange(61) + y0)
        assert image.sum() == pytest.approx(1, abs=1e-4)
        assert (image * columns).sum() / image.sum() == pytest.approx(x, abs=0.012)
        assert (image * rows).sum() / image.sum() == pytest.approx(y, abs=0.012)


def test_the_psfex_basis_runs_y_slow() -> None:
    """With degree 2: 1, x, x², y, xy, y²; each component a point beside the others."""
    components = np.zeros((6, 9, 9), np.float32)
    for term in range(6):
        components[term, 4, 1 + term] = 1
    psf = PsfexPsf(components, 2, (100.0, 200.0), (10.0, 20.0), 1.0, (100.0, 200.0))
    row = psf.kernel_image(120.0, 230.0)[4]
    u, v = 2.0, 1.5
    want = np.array([1, u, u * u, v, u * v, v * v])
    assert row[1:7] == pytest.approx(want / want.sum(), rel=1e-6)


def polynomial(parameters: np.ndarray, x: float, y: float) -> float:
    """Σ c_k x^(m-k) y^k, 1; x, y; x², xy, y²; ...: the slow way."""
    terms = [x ** (m - k) * y**k for m in range(5) for k in range(m + 1)]
    return float(sum(c * t for c, t in zip(parameters, terms, strict=False)))


def fixed(image: np.ndarray, centre: tuple[int, int]) -> np.ndarray:
    """An archive row of a FixedKernel."""
    height, width = image.shape
    types = [(n, "i4") for n in ("dimensions_x", "dimensions_y", "center_x", "center_y")]
    rows = np.zeros(1, [*types, ("image", "f8", (image.size,))])
    rows[0] = (width, height, *centre, image.ravel())
    return rows


def test_polynomials_become_chebyshev_series_exactly() -> None:
    rng = np.random.default_rng(5)
    images = rng.random((3, 3, 5))
    parameters = [rng.normal(size=n) / 1000.0 ** np.arange(n) ** 0.6 for n in (10, 6, 1)]
    head = np.zeros(1, [("spatialfunctions", "i4", (3,)), ("components", "i4", (3,))])
    head["spatialfunctions"], head["components"] = [2, 3, 4], [5, 6, 7]
    objects = {1: ("LinearCombinationKernel", [head])}
    for number, values in enumerate(parameters, 2):
        row = np.zeros(1, [("coefficients", "f8", (len(values),))])
        row["coefficients"] = values
        objects[number] = ("PolynomialFunction2D", [row])
    for number, image in enumerate(images, 5):
        objects[number] = ("FixedKernel", [fixed(image, (2, 1))])
    kernel = read_kernel_object(Archive(objects), 1, (500.0, 200.0, 1599.0, 1299.0))
    assert kernel.order == 3
    for x, y in rng.uniform(300, 1700, (20, 2)):
        weights = [polynomial(values, x, y) for values in parameters]
        want = np.tensordot(weights, images, axes=1)
        assert np.abs(kernel.at(x, y) - want).max() < 1e-11 * np.abs(want).max()


def test_an_even_or_off_centre_kernel_gets_zeros_around_it() -> None:
    image = np.arange(1.0, 9.0).reshape(2, 4)
    kernel = read_kernel_object(
        Archive({1: ("FixedKernel", [fixed(image, (1, 0))])}), 1, (0.0, 0.0, 1.0, 1.0)
    )
    stamp = kernel.at(0, 0)
    assert stamp.shape == (3, 5)
    assert stamp[1, 2] == image[0, 1]
    assert np.array_equal(stamp[1:, 1:], image)
    assert stamp.sum() == image.sum()
    assert np.array_equal(kernel.coefficients, [[1.0]])


def test_a_kernel_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    for count, terms in ((1, 1), (1, 3), (4, 6)):
        box = (0.5, 1.5, 99.0, 77.0)
        kernel = LinearCombinationKernel(rng.normal(size=(count, 7, 9)), rng.normal(size=(count, terms)), box)
        write_kernel(tmp_path / "kernel.fits", kernel)
        back = read_kernel(tmp_path / "kernel.fits")
        for x, y in ((0.0, 0.0), (50.0, 70.0)):
            assert np.abs(back.at(x, y) - kernel.at(x, y)).max() < 1e-14


def test_a_kernel_psf_has_sum_one_whatever_its_kernel() -> None:
    kernel = LinearCombinationKernel(np.full((1, 3, 3), 5.0), np.array([[2.0]]), (0.0, 0.0, 1.0, 1.0))
    assert KernelPsf(kernel, (0.0, 0.0)).kernel_image(3, 4) == pytest.approx(np.full((3, 3), 1 / 9))
