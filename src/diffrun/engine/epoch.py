# SPDX-License-Identifier: BSD-3-Clause
"""Every object of a sky measured in one pair: rows of a light curve, also where nothing can be measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diffrun.engine import forced
from diffrun.engine.associate import chord
from diffrun.engine.flags import bits_at_center
from diffrun.engine.overlap import corners, middle, vectors
from diffrun.errors import DataError, DiffrunError
from diffrun.files.afw.exposure import Exposure, Frame
from diffrun.files.afw.photocalib import FLUX_MAG0_NJY, flattened
from diffrun.files.afw.reader import ExposureSummary, read_exposure, read_kernel, read_summary
from diffrun.files.tables import Block, Column
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Run = Mapping[str, Any]

_PLACE = ("raft", "sensor")
_IMAGES = ("flux", "science", "template")
COLUMNS = (
    Column("object", "i8"), Column("pair"), Column("visit", "i8"), Column("template", "i8"), Column("band"),
    Column("template_band"), *map(Column, _PLACE), Column("mjd", "f8", ".8f"),
    *(Column(name, "f8", ".3f") for name in ("x", "y")),
    *(Column(f"{name}_njy{error}", "f8", ".7g") for name in _IMAGES for error in ("", "_error")),
    Column("flags"),
)  # fmt: skip
_PAIR = tuple(column.name for column in COLUMNS[1:6])
#: Flag: the planes that are looked for in the 3 x 3 pixels about the place.
_PLANES = {
    "edge": ("EDGE", "NO_DATA"),
    "bad": ("BAD",),
    "saturated": ("SAT", "SAT_TEMPLATE"),
    "interpolated": ("INTRP", "CR"),
}
#: S/N of the flux on the template from which it holds light of the object.
_LIGHT = 5.0


class Sky:
    """The objects, to be asked for those near a place."""

    def __init__(self, ra: Floats, dec: Floats) -> None:
        self.ra, self.dec = ra, dec
        self._tree = cKDTree(vectors(ra, dec)) if len(ra) else None

    def near(self, image: Frame) -> Ints:
        """Rows of the objects within the circle about an image."""
        centre, *rim = vectors(*image.wcs.pixel_to_sky(*np.vstack([middle(image), corners(image)]).T))
        reach = np.linalg.norm(rim - centre, axis=1).max() + chord(1 / 3600)
        return np.array(sorted(self._tree.query_ball_point(centre, reach)) if self._tree else [], np.intp)


@dataclass
class Measured:
    """The objects on one sensor: their rows in the `Sky`, places, fluxes in nJy, and flags."""

    objects: Ints
    x: Floats
    y: Floats
    fluxes: dict[str, tuple[Floats, Floats]]
    flags: list[list[str]]

    def flag(self, name: str, where: NDArray[np.bool_]) -> None:
        """Add a flag to some."""
        for index in np.flatnonzero(where):
            self.flags[index].append(name)


def rows(pair: Sequence[Run], sky: Sky) -> tuple[Block, list[str]]:
    """`COLUMNS` of the objects on or near the images of one pair, and what could not be read.

    Parameters
    ----------
    pair : sequence
        One object of the list for each sensor; one without ``files`` for a pair that failed.
    sky : `Sky`
    """
    found: list[list[Any]] = []
    notes: list[str] = []
    near, seen, when = set[int](), set[int](), math.nan
    for run, image in _images(pair, notes):
        candidates = sky.near(image)
        measured = _placed(image, candidates, sky)
        near.update(candidates.tolist())
        seen.update(measured.objects.tolist())
        when = run["mjd"] if run.get("mjd") is not None else image.mjd
        if run.get("files"):
            _measure(run, measured, notes)
        else:
            measured.flag("failed", np.ones(len(measured.x), bool))
        found += _rows(run, when, measured)
    known, unmeasured = [*_values(pair[0], _PAIR), None, None], [math.nan] * (2 + 2 * len(_IMAGES))
    found += [[k + 1, *known, when, *unmeasured, "off"] for k in sorted(near - seen)]
    values = zip(*found, strict=True) if found else ((),) * len(COLUMNS)
    return {column.name: value for column, value in zip(COLUMNS, values, strict=True)}, notes


def _images(pair: Sequence[Run], notes: list[str]) -> Iterator[tuple[Run, ExposureSummary]]:
    """What each image of a pair says but its pixels; of a pair that failed, its science images."""
    for run in pair:
        try:
            if run.get("files"):
                yield run, _sited(path(run, "differenceExp"))
                continue
            repository = Repository.open(run["folder"])
            keys = {"visit": "visit", "filter": "band", "raft": "raft", "sensor": "sensor"}
            known = {key: run[name] for key, name in keys.items() if run.get(name) is not None}
            for data_id in repository.select(**known):
                place = {"band": data_id.filter, "raft": data_id.raft, "sensor": data_id.sensor}
                yield {**run, **place}, _sited(repository.require("calexp", data_id))
        except (DiffrunError, OSError) as error:
            notes.append(f"{run['pair']} has images without rows: {error}")


def _sited(path: Path) -> ExposureSummary:
    image = read_summary(path)
    if image.wcs is None:
        raise DataError(f"{path} has no WCS", "give an image with one")
    return image


def _rows(run: Run, when: float, measured: Measured) -> Iterator[list[Any]]:
    known = [*_values(run, (*_PAIR, *_PLACE)), when]
    for n, k in enumerate(measured.objects):
        fluxes = (float(value[n]) for name in _IMAGES for value in measured.fluxes[name])
        yield [
            int(k) + 1, *known, float(measured.x[n]), float(measured.y[n]), *fluxes,
            " ".join(measured.flags[n]),
        ]  # fmt: skip


def _values(run: Run, names: Sequence[str]) -> list[Any]:
    return [run.get(name) for name in names]


def path(run: Run, product: str) -> Path:
    """Where a product of a run lies; `DataError` if it has none."""
    name = run["files"].get(product)
    if not name:
        raise DataError(f"{run['folder']} has no {product}", "make the pair with that product")
    return Path(run["folder"], name)


def _placed(image: ExposureSummary, candidates: Ints, sky: Sky) -> Measured:
    """The candidates that lie on the image, without fluxes."""
    x, y = image.wcs.sky_to_pixel(sky.ra[candidates], sky.dec[candidates])
    (ny, nx), (x0, y0) = image.shape, image.xy0
    on = (x >= x0 - 0.5) & (x < x0 + nx - 0.5) & (y >= y0 - 0.5) & (y < y0 + ny - 0.5)
    x, y = np.asarray(x[on], float), np.asarray(y[on], float)
    nothing = np.full(len(x), np.nan)
    fluxes = dict.fromkeys(_IMAGES, (nothing, nothing))
    return Measured(candidates[on], x, y, fluxes, [[] for _ in range(len(x))])


def _measure(run: Run, measured: Measured, notes: list[str]) -> None:
    """Fluxes on difference, science image and template, and flags; an image that cannot be read has none."""
    if not len(measured.x):
        return
    for name, put in (("flux", _on_difference), ("science", _on_science), ("template", _on_template)):
        try:
            put(run, measured)
        except (DiffrunError, OSError) as error:
            notes.append(f"{run['pair']}, {run['raft']} {run['sensor']}: no {name}: {error}")
        measured.flag(f"no_{name}", ~np.isfinite(measured.fluxes[name][0]))
    flux, sigma = (np.nan_to_num(value) for value in measured.fluxes["template"])
    measured.flag("template_light", flux > _LIGHT * np.where(sigma > 0, sigma, np.inf))


def _on_difference(run: Run, measured: Measured) -> None:
    difference = read_exposure(path(run, "differenceExp"))
    bits = bits_at_center(difference, measured.x, measured.y)
    for name, planes in _PLANES.items():
        measured.flag(name, (bits & difference.bits(*planes)) != 0)
    _put(measured, "flux", difference, 1.0, level=False)


def _put(measured: Measured, name: str, exposure: Exposure, gain: float, level: bool = True) -> None:
    """Measure on one image; its level is taken off, and its errors are larger by ``gain``."""
    if exposure.psf is None:
        raise DataError("it has no psf", "process it with a task that fits one")
    if not exposure.flux_mag0 > 0:
        raise DataError("it has no zero point", "calibrate it")
    if level:
        exposure = exposure.replace(image=exposure.image - np.float32(np.nanmedian(exposure.image[::3, ::3])))
    fluxes, blended = forced.fluxes_at(exposure, measured.x, measured.y)
    scale = FLUX_MAG0_NJY / exposure.flux_mag0
    measured.fluxes[name] = fluxes.flux * scale, fluxes.sigma * (scale * gain)
    if name == "flux":
        measured.flag("blended", blended)
        measured.flag("cut_off", fluxes.edge & ~fluxes.empty)


def _on_science(run: Run, measured: Measured) -> None:
    """On the calexp that the difference was made from."""
    data_id = DataId(int(run["visit"]), run["band"], run["raft"], run["sensor"])
    file = Repository.open(run["folder"]).require("calexp", data_id)
    _put(measured, "science", flattened(read_exposure(file)), 1.0)


def _on_template(run: Run, measured: Measured) -> None:
    """On the template as it was subtracted."""
    matched, gain = read_exposure(path(run, "matchedExp")), 1.0
    if run.get("convolved") == "template":
        gain = forced.noise_gain(matched, read_kernel(path(run, "kernel")))
    _put(measured, "template", matched, gain)
