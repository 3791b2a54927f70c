# SPDX-License-Identifier: BSD-3-Clause
"""What is said of a pair before the work, against pairs made with known faults."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffrun.engine.comparison import Comparison, Pixels, Side, difference_depth
from diffrun.engine.glance import Look
from diffrun.engine.judgement import Limits, judge
from diffrun.engine.starfield import Common, Stars
from diffrun.repository.dataid import DataId
from diffrun.verdict import Line

ZERO = 1e12


@dataclass(frozen=True)
class Plane:
    """A flat sky of 0.2 arcsec pixels."""

    def pixel_to_sky(self, x: Any, y: Any) -> tuple[Any, Any]:
        return 53.0 + x * 0.2 / 3600, -27.0 + y * 0.2 / 3600


@dataclass(frozen=True)
class Summary:
    """What is looked at of a summary."""

    wcs: Plane = Plane()
    shape: tuple[int, int] = (1000, 1200)
    xy0: tuple[int, int] = (0, 0)
    flux_mag0: float = ZERO
    mjd: float = math.nan


def a_side(name: str, fwhm: float, **more: Any) -> Side:
    values = {
        "noise": 10.0,
        "factor": 1.0,
        "stars": 100,
        "seen": 1.0,
        "filter": "r",
        "scale": 0.2,
        "usable": 1.0,
        **more,
    }
    none = np.zeros(values["stars"])
    stars = Stars(none, none, none, values["seen"], values.get("width", fwhm), True)
    depth = 5 * values["noise"] * math.sqrt(4 * math.pi) * fwhm / 2.3548
    data_id = DataId(1, values["filter"], "2,2", "1,1")
    summary: Any = Summary(flux_mag0=values.get("zero", ZERO))
    look = Look(data_id, Path("S11.fits"), summary, fwhm, values["scale"])
    return Side(name, look, Pixels(values["noise"], values["factor"], depth, stars, values["usable"]))


def a_pair(
    science: dict[str, Any] | None = None, template: dict[str, Any] | None = None, **more: Any
) -> Comparison:
    sides = (
        a_side("science image", **{"fwhm": 5.0, **(science or {})}),
        a_side("template", **{"fwhm": 4.0, **(template or {})}),
    )
    values = {
        "overlap": 0.95,
        "common": Common(90, 100, (0.01, 0.02), 1.0, 100),
        "reach": 200.0,
        "wanted": True,
        "literal": False,
        **more,
    }
    return Comparison(*sides, **values)


def found(pair: Comparison, name: str, limits: Limits | None = None) -> Line:
    return next(check for check in judge(pair, limits or Limits()) if check.name == name)


def test_a_good_pair_is_ok_throughout() -> None:
    checks = judge(a_pair(), Limits())
    assert {check.verdict for check in checks} == {"ok"}
    names = ["bands", "seeing", "overlap", "depth", "scale", "noise", "stars", "positions", "convolved"]
    assert [check.name for check in checks] == names
    assert not any(check.remedy for check in checks)


FAULTS = [
    ("bands", {"template": {"filter": "g"}}, "science r, template g"),
    ("seeing", {"template": {"fwhm": 6.0}}, "larger PSF"),
    ("psf", {"science": {"width": 6.5}}, "5.00 px wide, the stars of its src 6.50 px"),
    ("sampling", {"template": {"fwhm": 2.3}}, "template: undersampled, FWHM 2.30 px"),
    ("overlap", {"overlap": 0.31}, "31 %"),
    ("depth", {"template": {"noise": 40.0}}, "the template is the shallower"),
    ("depth", {"template": {"zero": 0.0}}, "no zero point"),
    ("scale", {"common": Common(90, 100, (0.0, 0.0), 0.8, 100)}, "1 by the zero points, 0.8 by 90 stars"),
    ("scale", {"template": {"scale": 0.4}}, "0.200 and 0.400"),
    ("noise", {"science": {"factor": 5.3}}, "science image 5.3"),
    ("noise", {"template": {"factor": 0.5}}, "template 0.5"),
    ("noise", {"template": {"factor": math.nan}}, "too little blank sky"),
    ("noise", {"template": {"factor": 0.0}}, "no noise at all"),
    ("pixels", {"science": {"usable": 0.3}}, "science image: 30 % of the pixels"),
    ("stars", {"common": Common(7, 9, (0.0, 0.0), 1.0, 9)}, "7 of the 9 brightest"),
    ("positions", {"common": Common(90, 100, (1.2, 0.5), 1.0, 100)}, "1.30 px (0.260 arcsec)"),
    ("positions", {"common": None}, "not compared"),
    ("stars", {"common": Common(0, 2, (math.nan, math.nan), math.nan, 50)}, "none of the 2 brightest"),
    ("convolved", {"template": {"fwhm": 6.0}}, "the science image will be convolved"),
    ("convolved", {"wanted": False}, "the template will be convolved"),
    ("convolved", {"template": {"fwhm": 6.0}, "literal": True}, "must be sharpened"),
]


@pytest.mark.parametrize(("name", "fault", "words"), FAULTS)
def test_what_is_worth_a_note_is_named_with_its_number(name: str, fault: dict[str, Any], words: str) -> None:
    notes = [
        check for check in judge(a_pair(**fault), Limits()) if check.name == name and check.verdict == "note"
    ]
    assert [check for check in notes if words in check.seen]


STOPS = [
    ("overlap", {"overlap": 0.0349}),
    ("overlap", {"overlap": 0.00051}),
    ("noise", {"science": {"factor": 16.2}}),
    ("noise", {"template": {"factor": 0.03}}),
    ("stars", {"common": Common(0, 2, (math.nan, math.nan), math.nan, 2)}),
]


@pytest.mark.parametrize(("name", "fault"), STOPS)
def test_what_says_stop_also_says_which_option_accepts_it(name: str, fault: dict[str, Any]) -> None:
    stopped = found(a_pair(**fault), name)
    assert stopped.verdict == "stop"
    option, value = re.search(r"--([a-z-]+) ([0-9.]+)$", stopped.remedy).groups()  # type: ignore[union-attr]
    limits = replace(Limits(), **{option.replace("-", "_"): float(value)})
    assert found(a_pair(**fault), name, limits).verdict == "note"


@pytest.mark.parametrize(
    ("common", "seen"),
    [
        (Common(80, 100, (150.2, 0.0), 1.0, 100), "150.20 px (30.040 arcsec)"),
        (Common(0, 100, (math.nan, math.nan), math.nan, 100), "do not lie on each other"),
    ],
)
def test_stars_too_far_apart_cannot_be_accepted(common: Common, seen: str) -> None:
    for limits in (Limits(), Limits(max_offset=100.0)):
        stopped = found(a_pair(common=common), "positions", limits)
        assert (stopped.verdict, "--max-offset" in stopped.remedy) == ("stop", False)
        assert seen in stopped.seen


def test_a_shift_that_the_engine_follows_is_accepted_by_default() -> None:
    shifted = a_pair(common=Common(80, 100, (12.0, 0.0), 1.0, 100))
    assert found(shifted, "positions").verdict == "note"
    stopped = found(shifted, "positions", Limits(max_offset=5.0))
    assert (stopped.verdict, stopped.remedy[-20:]) == ("stop", "with --max-offset 12")


def test_no_wcs_no_overlap() -> None:
    names = {check.name: check.verdict for check in judge(a_pair(overlap=None, common=None), Limits())}
    assert (names["overlap"], "positions" in names) == ("note", False)


def test_no_common_sky_cannot_be_accepted_by_a_number() -> None:
    stopped = found(a_pair(overlap=0.0), "overlap")
    assert (stopped.verdict, stopped.remedy) == ("stop", "choose a template that covers more")


def test_an_image_without_a_value_says_stop() -> None:
    stopped = found(a_pair(template={"usable": 0.0}), "pixels")
    assert (stopped.verdict, stopped.seen[:15]) == ("stop", "template: none ")


def test_stars_seen_in_a_part_of_the_pixels_are_counted_for_the_whole() -> None:
    part = {"stars": 2, "seen": 0.1}
    check = found(a_pair(part, part, common=None), "stars")
    assert check.verdict == "ok"
    assert "2 in the science image in the 10 % of its pixels" in check.seen


def test_the_depth_of_a_difference_of_equal_visits_is_that_of_two_noises() -> None:
    equal = a_pair(template={"fwhm": 5.0})
    alone = equal.science.pixels.depth_magnitude(ZERO)  # type: ignore[union-attr]
    assert difference_depth(equal) == pytest.approx(alone - 1.25 * math.log10(2), abs=1e-6)
    # an infinitely deep template takes nothing away
    assert difference_depth(a_pair(template={"noise": 1e-6})) == pytest.approx(alone, abs=1e-4)


def test_the_depth_follows_the_scale_of_the_template() -> None:
    # the same sky in other units
    units = a_pair(template={"noise": 1000.0, "zero": 100 * ZERO})
    assert difference_depth(units) == pytest.approx(difference_depth(a_pair()), abs=1e-6)
