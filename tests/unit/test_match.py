# SPDX-License-Identifier: BSD-3-Clause
"""Alard-Lupton as the stack means it, where that is asked for."""

import numpy as np
import pytest

from diffrun.engine.basis import gaussian_basis
from diffrun.engine.config import ImageDifferenceConfig
from diffrun.engine.match import kernel_basis

FWHM_PER_SIGMA = 2.354820


def literal(template, science):
    """The basis with the stack's own values, for two FWHM in pixels."""
    config = ImageDifferenceConfig()
    active = config.subtract.kernel.active
    active.kernelSizeMin, active.spatialKernelOrder = 21, 1
    sigmas = science / FWHM_PER_SIGMA, template / FWHM_PER_SIGMA
    return kernel_basis(sigmas, True, active, literal=True)


@pytest.mark.parametrize(
    ("template", "science", "widths", "size"),
    [
        (3.5, 3.6, (0.7, 1.4, 2.8), 21),
        (3.5, 4.5, (0.7, 1.4, 2.8), 21),
        (3.5, 4.82, (0.704, 1.407, 2.815), 21),
        (3.5, 6.0, (1.035, 2.070, 4.139), 25),
        (3.5, 8.0, (1.527, 3.055, 6.110), 35),
    ],
)
def test_the_basis_is_that_of_the_stack(template, science, widths, size):
    """Widths and sizes of its makeKernelBasisList, in the smooth form of 2026."""
    basis, facts = literal(template, science)
    np.testing.assert_allclose(facts["ALBasisSigGauss"], widths, atol=1e-3)
    assert facts["ALKernelSize"] == size
    assert basis.images.shape == (27, size, size)
    assert not basis.has_wing
    sums = basis.images.sum(axis=(1, 2))
    np.testing.assert_allclose(sums, [1] + [0] * 26, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(basis.images[1:], axis=(1, 2)), 1, rtol=1e-12)


def test_gaussians_that_are_listed_are_taken_as_they_are():
    """The stack's list; the values of its images are held in test_basis.py."""
    active = ImageDifferenceConfig().subtract.kernel.active
    active.scaleByFwhm = False
    images = kernel_basis((2.0, 1.5), True, active, literal=True)[0].images
    np.testing.assert_array_equal(images, gaussian_basis(21, (0.7, 1.5, 3.0), (4, 2, 2)).images)
