# SPDX-License-Identifier: BSD-3-Clause
"""Points that two lists share, whatever was done to one of them; and none where they share none."""

from __future__ import annotations

import numpy as np
import pytest

from diffrun.engine.asterisms import identified

SIDE = 1000.0
BOX = (0.0, 0.0, SIDE, SIDE)


def mapped(points, degrees, scale, mirrored, shift):
    """The points turned, scaled, mirrored and shifted about the middle."""
    angle = np.radians(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centred = (points - SIDE / 2) * (np.array([-1, 1]) if mirrored else 1)
    return centred @ matrix.T + SIDE / 2 + shift


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (1, 1), (90, 1), (200, 0.76), (-37, 1.9)])
@pytest.mark.parametrize("count", [6, 12, 100])
def test_shared_points_are_identified(count, degrees, scale, mirrored):
    """A quarter of either list is in it alone, and all places have an error of 0.1 pixels."""
    random = np.random.default_rng([count, degrees % 360, mirrored])
    common = random.uniform(0, SIDE, (count, 2))
    lists = [common, mapped(common, degrees, scale, mirrored, (13.0, -210.0))]
    first, second = (
        np.concatenate([each, random.uniform(0, SIDE, (count // 4, 2))])
        + random.normal(0, 0.1, (count + count // 4, 2))
        for each in lists
    )
    order = random.permutation(count + count // 4)
    pairs = identified(first, second[order], BOX)
    assert pairs is not None
    right = pairs.first == order[pairs.second]
    assert right[pairs.first < count].all()
    assert (pairs.first < count).sum() >= max(5, 0.9 * count)


def test_more_distortion_than_a_turn_explains_is_followed():
    points = np.random.default_rng(1).uniform(0, SIDE, (150, 2))
    u = (points - SIDE / 2) / (SIDE / 2)
    moved = points + 8 * u * (u**2).sum(axis=1, keepdims=True)
    pairs = identified(points, moved, BOX)
    assert pairs is not None
    assert (pairs.first == pairs.second).all()
    assert len(pairs) >= 140


@pytest.mark.parametrize("count", [5, 10, 40, 200])
def test_other_skies_are_not_taken_for_one(count):
    for seed in range(5):
        random = np.random.default_rng([count, seed])
        first, second = random.uniform(0, SIDE, (2, count, 2))
        assert identified(first, second, BOX) is None


@pytest.mark.parametrize("counts", [(0, 0), (0, 50), (4, 4), (2, 100)])
def test_too_few_points_tell_nothing(counts):
    random = np.random.default_rng(3)
    first, second = (random.uniform(0, SIDE, (n, 2)) for n in counts)
    assert identified(first, second, BOX) is None


def test_points_in_a_line_or_in_one_place_tell_nothing():
    line = np.stack([np.arange(30.0), np.full(30, 7.0)], axis=1)
    assert identified(line, line, BOX) is None
    assert identified(np.zeros((30, 2)), np.zeros((30, 2)), BOX) is None
