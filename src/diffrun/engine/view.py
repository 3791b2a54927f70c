# SPDX-License-Identifier: BSD-3-Clause
"""The images of one run, and what they alone tell: looked at before the sources are measured."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from diffrun.engine import picture, quality
from diffrun.engine.overlap import lacks_wcs, middle
from diffrun.engine.smoothpsf import fwhm
from diffrun.errors import UsageError
from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import map_exposure, read_summary
from diffrun.repository.dataid import DataId, short_name
from diffrun.repository.gen2 import Repository

#: Planes whose pixels are not shown in the difference.
_UNUSABLE = ("BAD", "SAT", "SAT_TEMPLATE", "EDGE", "NO_DATA")
_THIN = 4

Keys = dict[str, int | str]


@dataclass(frozen=True)
class Images:
    """The images of one sensor; `None` for what was not written.

    Attributes
    ----------
    science_id, template_id, science, difference, matched, stars
    template_fwhm : `float`
        Of the template's PSF in its own pixels, NaN if it is not known any more.
    names : `tuple` [`str`, `str`], optional
        What a person calls both images, where they are no visits.
    """

    science_id: DataId
    template_id: DataId | None
    science: Exposure
    difference: Exposure
    matched: Exposure | None
    stars: Catalog | None
    template_fwhm: float
    names: tuple[str, str] | None

    def look(self) -> None:
        """Do now what takes time, by two threads."""
        with ThreadPoolExecutor(1) as beside:
            told = beside.submit(lambda: (self.noise, self.residuals))
            _ = self.scene.panels
            told.result()

    @cached_property
    def sky(self) -> quality.Sky:
        """Blank sky."""
        return quality.blank_sky(self.difference, self.science)

    @cached_property
    def noise(self) -> dict[str, float | int | None]:
        """As `quality.noise`."""
        return quality.noise(self.difference, self.sky)

    @cached_property
    def residuals(self) -> quality.Array:
        """As `quality.star_residuals`."""
        return quality.star_residuals(self.difference, self.stars) if self.stars else np.zeros(0)

    @cached_property
    def scene(self) -> picture.Scene:
        """What is drawn of them."""
        return _scene(self)


def read_images(
    out: Path, science: Keys, template: Keys | None, names: tuple[str, str] | None, prefix: str
) -> Images:
    """Open the images of one sensor.

    Parameters
    ----------
    out : `pathlib.Path`
        Root of the output repository; inputs are found through its ``_parent``.
    science, template : `dict`
        What is known of the data ids; the science id must mean one sensor with a difference. The products
        do not say which template they were made with: without it the picture does not say so either.
    names : `tuple` [`str`, `str`], optional
        What a person calls both images, where they are no visits.
    prefix : `str`
        First word of the datasets, ``deep`` unless the configuration says otherwise.

    Raises
    ------
    RepositoryError, UsageError, DataError
        If the images are not there, are several, or cannot be read.
    """
    repository = Repository.open(out)
    science_id = _finished(repository, science, prefix)
    place: Keys = {"raft": science_id.raft, "sensor": science_id.sensor}
    template_id = repository.select(**{**place, **template})[0] if template else None
    matched = repository.find(f"{prefix}Diff_matchedExp", science_id)
    stars = repository.find("src", science_id)
    return Images(
        science_id=science_id,
        template_id=template_id,
        science=map_exposure(repository.require("calexp", science_id)),
        difference=map_exposure(repository.require(f"{prefix}Diff_differenceExp", science_id)),
        matched=map_exposure(matched) if matched else None,
        stars=read_catalog(stars) if stars else None,
        template_fwhm=_template_fwhm(repository, template_id),
        names=names,
    )


def _finished(repository: Repository, known: Keys, prefix: str) -> DataId:
    """The one data id that these keys mean and that has a difference."""
    dataset = f"{prefix}Diff_differenceExp"
    chosen = repository.select(**known)
    there = [data_id for data_id in chosen if repository.find(dataset, data_id)]
    if not there:
        repository.require(dataset, chosen[0])
    if len(there) > 1:
        names = ", ".join(short_name(data_id.raft, data_id.sensor) for data_id in there[:8])
        raise UsageError(f"{known} has {len(there)} differences: {names}", "give raft and sensor")
    return there[0]


def _template_fwhm(repository: Repository, template_id: DataId | None) -> float:
    """FWHM of the template's PSF in its own pixels, NaN if it is not known any more."""
    path = repository.find("calexp", template_id) if template_id else None
    summary = read_summary(path) if path else None
    if summary is None or summary.psf is None:
        return float("nan")
    return fwhm(summary.psf, *middle(summary))


def _scene(images: Images) -> picture.Scene:
    science, difference = images.science, images.difference
    sky = _seen(images)
    matched = images.matched or difference.replace(image=np.broadcast_to(np.float32("nan"), science.shape))
    north, east, scale = directions(difference)
    return picture.Scene(
        _plane(science, sky, "NO_DATA"),
        _plane(matched, sky, "NO_DATA"),
        _plane(difference, sky, *_UNUSABLE),
        quality.robust_std(sky.of(science.image)),
        quality.robust_std(sky.of(difference.image)),
        north,
        east,
        scale,
        _title(images),
        _captions(images, scale),
    )


def _seen(images: Images) -> quality.Sky:
    """Some of the blank sky, enough to choose greys by; all that can be seen where none of it is blank."""
    sky = images.sky
    thinned = quality.Sky(sky.rows[:, ::_THIN], sky.blank[:, ::_THIN])
    if thinned.blank.any():
        return thinned
    rows = np.arange(images.difference.shape[0])[None, ::_THIN]
    return quality.Sky(rows, np.isfinite(images.difference.image[rows]))


def _plane(exposure: Exposure, sky: quality.Sky, *dark: str) -> picture.Plane:
    values = sky.of(exposure.image)
    values = values[np.isfinite(values)]
    level = float(np.median(values)) if values.size else 0.0
    return picture.Plane(exposure.image, exposure.mask, exposure.bits(*dark), level)


def directions(exposure: Exposure) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Unit vectors of north and east in pixels at the middle of an exposure, and arcseconds a pixel.

    The last is NaN where the coordinates are made up.
    """
    if lacks_wcs(exposure):
        return (0.0, 1.0), (-1.0, 0.0), float("nan")
    x, y = middle(exposure)
    ra, dec = exposure.wcs.pixel_to_sky(np.array([x]), np.array([y]))
    step = 10.0 / 3600.0
    vectors = []
    for da, dd in ((0.0, step), (step / np.cos(np.radians(dec[0])), 0.0)):
        to_x, to_y = exposure.wcs.sky_to_pixel(ra + da, dec + dd)
        vectors.append((float(to_x[0] - x), float(to_y[0] - y)))
    lengths = [float(np.hypot(*vector)) for vector in vectors]
    north, east = ((dx / n, dy / n) for (dx, dy), n in zip(vectors, lengths, strict=True))
    return north, east, 10.0 / float(np.sqrt(lengths[0] * lengths[1]))


def _title(images: Images) -> str:
    science, template = images.science_id, images.template_id
    if images.names and template:
        first, second = images.names
        return f"{first} ({science.filter}) - {second} ({template.filter})"
    sensor = short_name(science.raft, science.sensor)
    minus = f" - visit {template.visit} ({template.filter})" if template else " - template"
    return f"visit {science.visit} ({science.filter}){minus}   {sensor}"


def _captions(images: Images, scale: float) -> tuple[str, str, str]:
    science, difference = images.science, images.difference
    visits = [f" {each.visit}" if each else "" for each in (images.science_id, images.template_id)]
    of_science, of_template = ("", "") if images.names else visits
    first = f"science{of_science}: FWHM {_width(science, scale)}"
    width = images.template_fwhm
    own = f" (its own FWHM {_length(width, scale)})" if np.isfinite(width) else ""
    second = f"matched template{of_template}{own}"
    if images.matched is None:
        second = "matched template: not written"
    return first, second, f"difference: FWHM {_width(difference, scale)}"


def _width(exposure: Exposure, scale: float) -> str:
    return "unknown" if exposure.psf is None else _length(fwhm(exposure.psf, *middle(exposure)), scale)


def _length(pixels: float, scale: float) -> str:
    return f"{pixels * scale:.2f} arcsec" if np.isfinite(scale) else f"{pixels:.2f} pixels"
