# SPDX-License-Identifier: BSD-3-Clause
"""The survey of a pair of which one visit is spoilt: it answers with what it knows, or refuses in a line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smallrepository

from diffrun.engine.config import ImageDifferenceConfig
from diffrun.engine.survey import survey
from diffrun.engine.task import Inputs, align
from diffrun.errors import DataError
from diffrun.files.afw.catalog import Catalog, Field, write_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.writer import write_exposure
from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative

SPOILT = DataId(2, "r", "2,2", "1,1")
NAN = float("nan")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return smallrepository.make(tmp_path / "repo")


def filled(value: float) -> Callable[[Exposure], Exposure]:
    return lambda good: good.replace(image=np.full_like(good.image, value))


def of_variance(value: float) -> Callable[[Exposure], Exposure]:
    return lambda good: good.replace(variance=np.full_like(good.variance, value))


def cropped(ny: int, nx: int) -> Callable[[Exposure], Exposure]:
    return lambda good: good.replace(
        image=good.image[:ny, :nx].copy(),
        mask=good.mask[:ny, :nx].copy(),
        variance=good.variance[:ny, :nx].copy(),
    )


SPOILS: list[tuple[Callable[[Exposure], Exposure], set[tuple[str, str]]]] = [
    (filled(NAN), {("pixels", "stop"), ("noise", "note"), ("depth", "note")}),
    (filled(np.inf), {("pixels", "stop"), ("noise", "note"), ("depth", "note")}),
    (filled(0.0), {("noise", "note"), ("depth", "note")}),
    (of_variance(0.0), {("pixels", "stop"), ("noise", "note")}),
    (of_variance(NAN), {("pixels", "stop"), ("noise", "note")}),
    (of_variance(-3.0), {("pixels", "stop"), ("noise", "note")}),
    (of_variance(1e9), {("noise", "stop")}),
    (lambda good: good.replace(mask=np.full_like(good.mask, 0x1FF)), {("pixels", "stop"), ("noise", "note")}),
    (lambda good: good.replace(flux_mag0=NAN), {("depth", "note")}),
    (lambda good: good.replace(flux_mag0=0.0), {("depth", "note")}),
    (cropped(3, 256), {("overlap", "stop"), ("noise", "note")}),
    (cropped(256, 3), {("overlap", "stop"), ("noise", "note")}),
    (cropped(5, 7), {("overlap", "stop"), ("noise", "note")}),
]


@pytest.mark.parametrize(("spoil", "expected"), SPOILS)
@pytest.mark.parametrize("side", ["science", "template"])
def test_spoilt_pixels(
    repository: Path, spoil: Callable[[Exposure], Exposure], expected: set[tuple[str, str]], side: str
) -> None:
    good = smallrepository.exposure(2, "r", 3.4)
    write_exposure(repository / relative("calexp", SPOILT), spoil(good))
    other = {"science": "template", "template": "science"}[side]
    found = survey(repository, **{side: {"visit": 2}, other: {"visit": 1}})  # type: ignore[arg-type]
    json.dumps(found, allow_nan=False)
    verdicts = {(check["name"], check["verdict"]) for check in found["checks"]}
    if side == "science":
        expected = {each for each in expected if each[0] != "overlap"}  # the other covers what is left of it
    assert expected <= verdicts


@pytest.mark.parametrize("part", ["psf", "wcs"])
def test_what_no_pair_can_do_without_is_refused(repository: Path, part: str) -> None:
    good = smallrepository.exposure(2, "r", 3.4)
    write_exposure(repository / relative("calexp", SPOILT), good.replace(**{part: None}))
    with pytest.raises(DataError, match=f"has no {part.upper()}"):
        survey(repository, {"visit": 1}, {"visit": 2})


@pytest.mark.parametrize(("science", "template", "name"), [(1, 2, "template"), (2, 1, "science")])
def test_the_engine_refuses_a_visit_without_a_wcs_in_one_line(science: int, template: int, name: str) -> None:
    pair = [smallrepository.exposure(visit, "r", 3.4) for visit in (science, template)]
    pair = [
        one.replace(wcs=None) if visit == 2 else one
        for visit, one in zip((science, template), pair, strict=True)
    ]
    inputs = Inputs(pair[0], lambda: pair[0], lambda: pair[1], None, 0)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"the {name} exposure has no WCS; give both images as files"):
        align(inputs, None, ImageDifferenceConfig(), logging.getLogger("test"))


def a_catalog(n: int, value: float, *missing: str) -> Catalog:
    """A ``src`` of sources on a diagonal."""
    names = ["x", "y", "flux", "fluxSigma"]
    fields = [
        Field("id", "L", "", ""),
        Field("coord_ra", "Angle", "rad", ""),
        Field("coord_dec", "Angle", "rad", ""),
    ]
    fields += [Field("parent", "L", "", ""), *(Field(f"a_{name}", "D", "", "") for name in names)]
    place = np.linspace(1010.0, 1240.0, n)
    values: dict[str, Any] = {
        "a_x": place,
        "a_y": place + 1000.0,
        "a_flux": np.full(n, 1e4),
        "a_fluxSigma": np.full(n, 50.0),
    }
    if np.isnan(value):
        values = {name: np.full(n, value) for name in values}
    columns = {
        "id": np.arange(n),
        "parent": np.zeros(n, int),
        "coord_ra": np.zeros(n),
        "coord_dec": np.zeros(n),
        **values,
    }
    slots = {"slot_Centroid": "a", "slot_PsfFlux": "a"}
    made = Catalog(tuple(fields), columns, {k: v for k, v in slots.items() if k not in missing}, {})
    return replace(made)


@pytest.mark.parametrize(
    ("catalog", "name", "verdict"),
    [
        (a_catalog(0, 0.0), "stars", "stop"),
        (a_catalog(2, 0.0), "stars", "stop"),
        (a_catalog(5, NAN), "stars", "stop"),
        (a_catalog(9, 0.0), "stars", "note"),
        (a_catalog(40, 0.0, "slot_Centroid"), "src", "stop"),
        (a_catalog(40, 0.0, "slot_PsfFlux"), "src", "stop"),
        (None, "src", "stop"),
    ],
)
def test_a_spoilt_src(repository: Path, catalog: Catalog | None, name: str, verdict: str) -> None:
    """Of the science visit it stops the run; the template's is of use to the advice alone."""
    path = repository / relative("src", SPOILT)
    path.parent.mkdir(parents=True, exist_ok=True)
    if catalog is None:
        path.write_bytes(b"not a FITS file" * 300)
    else:
        write_catalog(path, catalog)
    of_science = {check["name"]: check for check in survey(repository, {"visit": 2}, {"visit": 1})["checks"]}
    assert of_science[name]["verdict"] == verdict
    of_template = survey(repository, {"visit": 1}, {"visit": 2})
    json.dumps(of_template, allow_nan=False)
    assert {check["verdict"] for check in of_template["checks"]} <= {"ok", "note"}
