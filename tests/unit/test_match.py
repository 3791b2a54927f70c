# SPDX-License-Identifier: BSD-3-Clause
"""Alard-Lupton as the stack means it, where that is asked for."""

import numpy as np
import pytest

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


def test_values_of_basis_images_are_those_of_the_stack():
    """BasisLists.cc with alardSigGauss (0.7, 1.5, 3.0) on 21 pixels: centre and neighbours, worked out."""
    active = ImageDifferenceConfig().subtract.kernel.active
    active.scaleByFwhm = False
    images = kernel_basis((2.0, 1.5), True, active, literal=True)[0].images
    assert images.shape == (27, 21, 21)
    c = 10
    for i, at, value in (
        (0, (c, c), 0.324724), (0, (c, c + 1), 0.117046), (1, (c, c + 1), 0.627092), (3, (c, c), -0.777161),
        (3, (c, c + 1), 0.292957), (3, (c + 1, c), -0.280126), (15, (c, c), -0.863206),
        (15, (c, c + 1), -0.205294), (21, (c, c), -0.812482), (21, (c, c + 1), -0.265433),
    ):  # fmt: skip
        assert images[i][at] == pytest.approx(value, abs=2e-6)
