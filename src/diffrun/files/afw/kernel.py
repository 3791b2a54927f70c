# SPDX-License-Identifier: BSD-3-Clause
"""Kernels that vary over the field as a linear combination of fixed images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def chebyshev_terms(
    x: NDArray[np.float64] | float,
    y: NDArray[np.float64] | float,
    order: int,
    box: tuple[float, float, float, float],
) -> NDArray[np.float64]:
    """Chebyshev terms of the first kind in the order of afw's ``Chebyshev1Function2``.

    Terms run 1; x, y; x², xy, y²; ...: term ``k`` of total order ``m`` is ``T_(m-k)(x') T_k(y')``.

    Parameters
    ----------
    x, y : `float` or `numpy.ndarray`, (...)
        Parent pixels.
    order : `int`
        Highest total order, 0 or more.
    box : `tuple` of `float`
        ``(min_x, min_y, max_x, max_y)``, mapped onto [-1, 1].

    Returns
    -------
    terms : `numpy.ndarray`, (..., (order + 1) (order + 2) / 2), float64
    """
    min_x, min_y, max_x, max_y = box
    xp = (2 * np.asarray(x, float) - min_x - max_x) / (max_x - min_x)
    yp = (2 * np.asarray(y, float) - min_y - max_y) / (max_y - min_y)
    tx = [np.ones_like(xp), xp]
    ty = [np.ones_like(yp), yp]
    for _ in range(2, order + 1):
        tx.append(2 * xp * tx[-1] - tx[-2])
        ty.append(2 * yp * ty[-1] - ty[-2])
    return np.stack([tx[m - k] * ty[k] for m in range(order + 1) for k in range(m + 1)], axis=-1)


def polynomial_order(n_terms: int) -> int:
    """The order of a two-dimensional polynomial with this many terms."""
    order = int((np.sqrt(8 * n_terms + 1) - 3) / 2 + 0.5)
    if (order + 1) * (order + 2) // 2 != n_terms:
        raise ValueError(f"{n_terms} is not the number of terms of a two-dimensional polynomial")
    return order


@dataclass(frozen=True)
class LinearCombinationKernel:
    """K(x, y) = Σ_i f_i(x, y) K_i with Chebyshev functions f_i of parent pixels.

    Attributes
    ----------
    components : `numpy.ndarray`, (n, height, width), float64
        The fixed images K_i, not normalised.
    coefficients : `numpy.ndarray`, (n, terms), float64
        Chebyshev coefficients of each f_i, in the order of `chebyshev_terms`.
    box : `tuple` of `float`
        ``(min_x, min_y, max_x, max_y)`` of the Chebyshev range, parent pixels.
    """

    components: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    box: tuple[float, float, float, float]

    @property
    def order(self) -> int:
        """Highest order in x and y together."""
        return polynomial_order(self.coefficients.shape[1])

    def weights(self, x: NDArray[np.float64] | float, y: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """f_i(x, y), shape (..., n)."""
        return chebyshev_terms(x, y, self.order, self.box) @ self.coefficients.T

    def at(self, x: float, y: float) -> NDArray[np.float64]:
        """The kernel image at a parent pixel, (height, width), not normalised."""
        return np.asarray(np.tensordot(self.weights(x, y), self.components, axes=1))

    def term_images(self) -> NDArray[np.float64]:
        """One image per Chebyshev term, (terms, height, width): K(x, y) = Σ_j T_j(x, y) image_j."""
        return np.asarray(np.tensordot(self.coefficients.T, self.components, axes=1))
