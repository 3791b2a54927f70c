# SPDX-License-Identifier: BSD-3-Clause
"""Curves through points are SciPy's, point by point."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy.interpolate import Akima1DInterpolator, CubicSpline, make_interp_spline

from diffrun.files import splines

SLOW: dict[str, Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "linear": lambda x, y: make_interp_spline(x, y, k=1),
    "natural": lambda x, y: CubicSpline(x, y, bc_type="natural"),
    "not_a_knot": lambda x, y: make_interp_spline(x, y, k=min(3, len(x) - 1)),
    "akima": Akima1DInterpolator,
}


@pytest.mark.parametrize(("name", "n"), [("linear", 2), ("not_a_knot", 2), *product(SLOW, (3, 4, 5, 6, 33))])
def test_a_curve_is_the_slow_twin(name: str, n: int) -> None:
    rng = np.random.default_rng(n)
    x = np.cumsum(rng.uniform(0.5, 2.0, n))
    at = np.linspace(x[0], x[-1], 301)
    for y in (rng.normal(size=n), rng.normal(size=(n, 4)), np.repeat([0.0, 1.0], (n // 2, n - n // 2))):
        assert np.abs(getattr(splines, name)(x, y).at(at).T - SLOW[name](x, y)(at)).max() < 1e-13
