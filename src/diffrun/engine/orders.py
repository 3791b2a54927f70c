# SPDX-License-Identifier: BSD-3-Clause
"""The orders with which the kernel and its sum vary over the field, and its wing, by cross-validation.

The candidates are parted into folds; the kernel from all but one fold is judged by what it leaves of the
stars of that fold (Stone 1974, J. R. Stat. Soc. B 36, 111). All that is needed lies in the candidates' own
normal equations, so no pixel is touched.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.basis import GaussianBasis
from diffrun.engine.equations import Equations, over_field
from diffrun.engine.kernelstamps import Stamps
from diffrun.files.afw.kernel import chebyshev_terms

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Box = tuple[float, float, float, float]

_FOLDS = 5
#: Highest order of the kernel sum: thin clouds over a sensor.
_SUM_ORDER = 3
#: Order of the kernel that is not asked for: no PSF is the same everywhere.
_LEAST = 1
#: Largest part that one star has in the comparison of two orders, in deviations of a good star.
_MOST = 100.0
#: A higher order must predict better by more than so many standard errors, one of the sum by more: the
#: scale is the same everywhere unless there are clouds, and a few variable stars can feign a gradient.
_TIE, _SUM_TIE = 1.0, 3.0
#: Largest standard error of the kernel sum with which a wing is believed.
_SUM_ERROR = 0.003


class Orders(NamedTuple):
    """Orders of the Chebyshev polynomials of the kernel and of its sum, and whether it has a wing."""

    kernel: int
    sum: int
    wing: bool = False

    def free(self, basis: GaussianBasis, terms: int) -> NDArray[np.bool_]:
        """Which coefficients (bases, terms) are fitted."""
        free = np.zeros((len(basis.mixing), terms), bool)
        free[0, : n_terms(self.sum)] = True
        free[1:, : n_terms(self.kernel)] = True
        if basis.has_wing:
            free[-1] = np.arange(terms) < self.wing
        return free


def n_terms(order: int) -> int:
    """How many terms a polynomial of two variables has."""
    return (order + 1) * (order + 2) // 2


def affordable_order(candidates: int, wanted: int) -> int:
    """The highest order with at least two candidates for each of its terms."""
    order = wanted
    while order > 0 and candidates < (order + 1) * (order + 2):
        order -= 1
    return order


def choose_orders(
    made: Equations, share: Array, stamps: Stamps, basis: GaussianBasis, box: Box, wanted: int
) -> Orders:
    """The lowest orders, of the kernel up to ``wanted``, that predict the candidates as well as any.

    The order of the kernel rises as long as the next one predicts better, while sum and wing are free; then
    the lowest order of the sum is taken that no higher one surely beats. The wing stays unless it does harm,
    if the stars determine the kernel sum with it: few of them see it, but without it the kernel sum is low.

    Parameters
    ----------
    made : `Equations`
    share : `numpy.ndarray`, (n,)
        What each candidate counts, 0 for those left out.
    stamps : `Stamps`
    basis : `GaussianBasis`
    box : `tuple` of `float`
        Field of the polynomials.
    wanted : `int`
    """
    used = np.flatnonzero(share > 0)
    highest = affordable_order(len(used), wanted)
    if len(used) < 2 * _FOLDS:
        return Orders(highest, 0)
    sums = list(range(affordable_order(len(used), _SUM_ORDER) + 1))
    terms = chebyshev_terms(stamps.x, stamps.y, max(highest, sums[-1]), box)
    folds = Folds.of(made, share, used, terms, basis)
    kernels = [Orders(k, sums[-1], basis.has_wing) for k in range(min(_LEAST, highest), highest + 1)]
    best = kernels[0]
    for higher in kernels[1:]:
        if not folds.better(higher, best):
            break
        best = higher
    of_sum = [best._replace(sum=order) for order in sums]
    while any(folds.better(higher, of_sum[0], _SUM_TIE) for higher in of_sum[1:]):
        del of_sum[0]
    best = of_sum[0]
    bare = best._replace(wing=False)
    vague = folds.sum_error(best) > _SUM_ERROR
    return bare if vague or folds.better(bare, best) else best


class Folds:
    """The used candidates in folds, and what kernels from the others leave of each."""

    def __init__(
        self, made: Equations, share: Array, terms: Array, basis: GaussianBasis, members: list[Index]
    ) -> None:
        self._made, self._share, self._terms, self._basis = made, share, terms, basis
        self._members = members
        gram = basis.gram
        self._whole = over_field(made, share, terms, gram)
        self._rests = []
        for mine in members:
            part = np.zeros(len(share))
            part[mine] = share[mine]
            self._rests.append(self._whole.without(over_field(made, part, terms, gram)))
        self._left: dict[Orders, Array] = {}

    @classmethod
    def of(cls, made: Equations, share: Array, used: Index, terms: Array, basis: GaussianBasis) -> Folds:
        """Folds with bright and faint candidates alike."""
        ordered = used[np.argsort(-made.square[used] * share[used], kind="stable")]
        return cls(made, share, terms, basis, [ordered[i::_FOLDS] for i in range(_FOLDS)])

    def sum_error(self, orders: Orders) -> float:
        """Standard error of the kernel sum from all candidates."""
        return self._whole.error(orders.free(self._basis, self._terms.shape[1]))

    def better(self, orders: Orders, than: Orders, errors: float = _TIE) -> bool:
        """Whether some orders predict the candidates left out better than others, by so many errors."""
        gain = np.clip(self.deviances(than) - self.deviances(orders), -_MOST, _MOST)
        return bool(gain.sum() > errors * np.sqrt((gain**2).sum()))

    def deviances(self, orders: Orders) -> Array:
        """Deviance of each used candidate when left out, fold after fold."""
        if orders not in self._left:
            free = orders.free(self._basis, self._terms.shape[1])
            left = []
            for mine, rest in zip(self._members, self._rests, strict=True):
                coefficients = self._terms[mine] @ rest.plain_solution(free).T
                left.append(self._made.deviances(coefficients, mine) * self._share[mine])
            self._left[orders] = np.concatenate(left)
        return self._left[orders]
