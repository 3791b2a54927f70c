# SPDX-License-Identifier: BSD-3-Clause
"""Detections joined into objects: by the rule itself, done slowly, and anywhere on the sky."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from diffrun.engine import places
from diffrun.engine.associate import associate
from diffrun.errors import UsageError

RADIUS = 0.5 / 3600
Floats = NDArray[np.float64]


def field(seed: int, ra: float, dec: float, objects: int = 40, each: int = 5) -> tuple[Floats, ...]:
    """Places, about each of which some detections scatter, and their S/N."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-10, 10, (2, objects)) / 3600
    x, y = (np.repeat(v, each) + rng.normal(0, 0.1 / 3600, objects * each) for v in (x, y))
    offsets = (x * units.deg, y * units.deg)
    true = SkyCoord(ra, dec, unit="deg").spherical_offsets_by(*offsets)
    return true.ra.deg, true.dec.deg, rng.normal(0, 20, objects * each)


def slowly(ra: Floats, dec: Floats, snr: Floats, radius: float) -> list[int]:
    """The brightest begins an object, and takes all within the radius that are free."""
    sky = SkyCoord(ra, dec, unit="deg")
    of = [-1] * len(ra)
    count = 0
    for index in sorted(range(len(ra)), key=lambda k: (-max(abs(snr[k]), 1.0), ra[k], dec[k])):
        if of[index] >= 0:
            continue
        near = sky[index].separation(sky).deg <= radius
        for k in np.flatnonzero(near):
            of[k] = count if of[k] < 0 else of[k]
        count += 1
    return of


def partition(of: list[int] | NDArray[np.int64]) -> set[frozenset[int]]:
    groups: dict[int, set[int]] = {}
    for k, number in enumerate(of):
        groups.setdefault(int(number), set()).add(k)
    return {frozenset(group) for group in groups.values()}


@pytest.mark.parametrize(("ra", "dec"), [(53.0, -27.4), (0.0, 0.0), (120.0, 89.9995), (200.0, -90.0)])
def test_by_the_rule_in_any_order(ra: float, dec: float) -> None:
    sent = field(1, ra, dec)
    found = associate(*sent, RADIUS)
    assert partition(found.of) == partition(slowly(*sent, RADIUS))
    order = np.random.default_rng(2).permutation(len(sent[0]))
    again = associate(*(values[order] for values in sent), RADIUS)
    np.testing.assert_array_equal(again.of, found.of[order])
    np.testing.assert_allclose(again.ra, found.ra, atol=1e-11)
    assert (np.diff(found.ra) >= 0).all()
    sky = SkyCoord(found.ra, found.dec, unit="deg")[found.of]
    assert (sky.separation(SkyCoord(*sent[:2], unit="deg")).arcsec < 1.0).all()


def test_place_is_the_weighted_mean() -> None:
    step = 0.3 / 3600
    found = associate(np.array([10.0, 10.0]), np.array([0.0, step]), np.array([-30.0, 10.0]), RADIUS)
    assert len(found.ra) == 1 and found.dec[0] == pytest.approx(0.1 * step)


def test_without_a_detection() -> None:
    nothing = np.empty(0)
    assert len(associate(nothing, nothing, nothing, RADIUS).ra) == 0
    known = places.Places(("a",), np.array([10.0]), np.array([1.0]))
    found = associate(nothing, nothing, nothing, RADIUS, known)
    assert (found.names, found.ra.tolist(), found.of.tolist()) == (("a",), [10.0], [])


def test_known_places_stay_and_take_what_is_near() -> None:
    known = places.Places(("east", "west"), np.array([10.0 + 0.8 / 3600, 10.0]), np.zeros(2))
    ra = 10.0 + np.array([0.35, 0.9, 2.2, 2.4, -0.9]) / 3600
    found = associate(ra, np.zeros(5), np.full(5, 9.0), RADIUS, known)
    assert found.names == ("west", "east", "")
    assert found.ra[:2].tolist() == [10.0, known.ra[0]]
    assert found.of.tolist() == [0, 1, 2, 2, 0]
    assert found.ra[2] == pytest.approx(10.0 + 2.3 / 3600, abs=1e-9)


def test_places_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "places"
    path.write_text("# %ECSV 1.0\nname ra dec mag\n\"a b\" 10.5 -3 20\n'c' -1 4 21\n")
    found = places.read(path)
    assert found.names == ("a b", "'c'") and found.ra.tolist() == [10.5, 359.0]
    path.write_text("ra,dec\n 10.5, -3\n")
    assert places.read(path).names == ("",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ra,de\n1,2\n", "has the columns ra, de; ra and dec are needed"),
        ("", "has the columns ; ra and dec are needed"),
        ("ra,dec\n1,2\n\n1,x\n", "line 4 is no place; give ra and dec in degrees"),
        ("ra,dec\n1\n", "line 2 is no place"),
        ("ra,dec\n1,nan\n", "line 2 has ra 1, dec nan; give degrees"),
        ("ra,dec\n1,-91\n", "line 2 has ra 1, dec -91; give degrees"),
    ],
)
def test_what_is_no_place_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "places.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        places.read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*: No such file"):
        places.read(tmp_path / "none.csv")
