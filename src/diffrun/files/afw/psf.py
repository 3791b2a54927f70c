# SPDX-License-Identifier: BSD-3-Clause
"""Point spread functions as afw stores them, evaluated as afw evaluates them (afw.md 2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.files.afw.kernel import LinearCombinationKernel


@dataclass(frozen=True)
class KernelPsf:
    """A PSF that is a kernel image with sum 1; afw's ``KernelPsf`` and ``PcaPsf``."""

    kernel: LinearCombinationKernel
    average_position: tuple[float, float]

    def kernel_image(self, x: float, y: float) -> NDArray[np.float64]:
        """The PSF at parent pixel (x, y), centred on the middle pixel, with sum 1."""
        image = self.kernel.at(x, y)
        return image / image.sum()
