# SPDX-License-Identifier: BSD-3-Clause
"""A picture and a few telling numbers from the products of a finished run, the engine's or the stack's.

    python -m diffrun.engine.report OUT --science visit=230 --template visit=250

writes ``picture.png`` and ``summary.json`` into the output repository OUT, and the DIA sources as a Parquet
table and as a region file of DS9 beside their catalogue.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from diffrun.engine import boost, cataloguefiles, picture, quality
from diffrun.engine.leave import leave
from diffrun.engine.overlap import lacks_wcs, middle
from diffrun.engine.smoothpsf import fwhm
from diffrun.engine.survey import parse_keys
from diffrun.errors import DiffrunError, UsageError
from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.reader import map_exposure, read_kernel, read_summary
from diffrun.files.atomic import write_bytes
from diffrun.repository import paths
from diffrun.repository.dataid import DataId, short_name
from diffrun.repository.gen2 import Repository

_FILES = ("differenceExp", "matchedExp", "diaSrc", "kernel", "metadata")
#: Planes whose pixels are not shown in the difference.
_UNUSABLE = ("BAD", "SAT", "SAT_TEMPLATE", "EDGE", "NO_DATA")
_THIN = 4
_SUBTRACT = "imageDifference:subtract."


@dataclass(frozen=True)
class Products:
    """What one run has left of one sensor; `None` for what was not written."""

    science_id: DataId
    template_id: DataId | None
    science: Exposure
    difference: Exposure
    matched: Exposure | None
    sources: Catalog | None
    stars: Catalog | None
    kernel: LinearCombinationKernel | None
    metadata: Mapping[str, Any]
    template_fwhm: float
    files: Mapping[str, str]
    names: tuple[str, str] | None = None  # what a person calls both images, where they are no visits

    @cached_property
    def sky(self) -> quality.Sky:
        """Blank sky."""
        return quality.blank_sky(self.difference, self.science)

    @cached_property
    def shown(self) -> quality.Sources | None:
        """What is drawn and counted of the DIA sources."""
        return None if self.sources is None else quality.sources(self.sources, self.difference)


def read_products(
    out: Path, science: dict[str, int | str], template: dict[str, int | str] | None, prefix: str
) -> Products:
    """Read all products of one sensor.

    Parameters
    ----------
    out : `pathlib.Path`
        Root of the output repository; inputs are found through its ``_parent``.
    science, template : `dict`
        What is known of the data ids; the science id must mean one sensor with a difference. The products
        do not say which template they were made with: without it the picture does not say so either.
    prefix : `str`
        First word of the datasets, ``deep`` unless the configuration says otherwise.

    Raises
    ------
    RepositoryError, UsageError, DataError
        If the products are not there, are several, or cannot be read.
    """
    repository = Repository.open(out)
    science_id = _finished(repository, science, prefix)
    place: dict[str, int | str] = {"raft": science_id.raft, "sensor": science_id.sensor}
    template_id = repository.select(**{**place, **template})[0] if template else None
    found = {name: repository.find(f"{prefix}Diff_{name}", science_id) for name in _FILES}
    difference = map_exposure(repository.require(f"{prefix}Diff_differenceExp", science_id))
    stars = repository.find("src", science_id)
    return Products(
        science_id,
        template_id,
        map_exposure(repository.require("calexp", science_id)),
        difference,
        map_exposure(found["matchedExp"]) if found["matchedExp"] else None,
        read_catalog(found["diaSrc"]) if found["diaSrc"] else None,
        read_catalog(stars) if stars else None,
        read_kernel(found["kernel"]) if found["kernel"] else None,
        boost.read(found["metadata"]) if found["metadata"] else {},
        _template_fwhm(repository, template_id),
        {name: str(paths.relative(f"{prefix}Diff_{name}", science_id)) for name in _FILES if found[name]},
    )


def _finished(repository: Repository, known: dict[str, int | str], prefix: str) -> DataId:
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


def summarise(products: Products) -> dict[str, Any]:
    """The numbers of ``summary.json``; `None` where a product that they need was not written."""
    difference, facts = products.difference, products.metadata
    residuals = quality.star_residuals(difference, products.stars) if products.stars else np.array([])
    return {
        "science": products.science_id.as_dict(),
        "template": products.template_id.as_dict() if products.template_id else None,
        "convolved": facts.get(f"{_SUBTRACT}convolved"),
        **quality.noise(difference, products.sky),
        "residual_chi2": round(float(np.median(residuals)), 4) if residuals.size else None,
        "residual_stars": int(residuals.size),
        "kernel": _kernel_facts(products),
        "sources": None if products.shown is None else products.shown.counts(),
        "warnings": quality.warnings(facts),
        "files": dict(products.files),
    }


def _kernel_facts(products: Products) -> dict[str, Any]:
    facts, kernel = products.metadata, products.kernel
    total = facts.get(f"{_SUBTRACT}spatialKernelSum")
    if kernel is not None:
        total = float(kernel.at(*middle(products.difference)).sum())
    candidates, used = facts.get(f"{_SUBTRACT}nCandidates"), facts.get(f"{_SUBTRACT}nCandidatesUsed")
    return {
        "sum": None if total is None else round(total, 5),
        "size": facts.get(f"{_SUBTRACT}ALKernelSize"),
        "order": facts.get(f"{_SUBTRACT}spatialKernelOrder"),
        "candidates": candidates,
        "used": used,
        "rejected": None if candidates is None or used is None else candidates - used,
    }


def scene(products: Products) -> picture.Scene:
    """What is drawn of the products."""
    science, difference = products.science, products.difference
    sky = _seen(products)
    matched = products.matched or difference.replace(image=np.broadcast_to(np.float32("nan"), science.shape))
    (x0, y0), sources = difference.xy0, products.shown or quality.Sources.none()
    north, east, scale = directions(difference)
    return picture.Scene(
        _plane(science, sky, "NO_DATA"),
        _plane(matched, sky, "NO_DATA"),
        _plane(difference, sky, *_UNUSABLE),
        quality.robust_std(sky.of(science.image)),
        quality.robust_std(sky.of(difference.image)),
        quality.Sources(sources.x - x0, sources.y - y0, sources.kind, sources.flagged, sources.snr),
        north,
        east,
        scale,
        _title(products),
        _captions(products, scale),
    )


def _seen(products: Products) -> quality.Sky:
    """Some of the blank sky, enough to choose greys by; all that can be seen where none of it is blank."""
    sky = products.sky
    thinned = quality.Sky(sky.rows[:, ::_THIN], sky.blank[:, ::_THIN])
    if thinned.blank.any():
        return thinned
    rows = np.arange(products.difference.shape[0])[None, ::_THIN]
    return quality.Sky(rows, np.isfinite(products.difference.image[rows]))


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


def _title(products: Products) -> str:
    science, template = products.science_id, products.template_id
    if products.names and template:
        first, second = products.names
        return f"{first} ({science.filter}) - {second} ({template.filter})"
    sensor = short_name(science.raft, science.sensor)
    minus = f" - visit {template.visit} ({template.filter})" if template else " - template"
    return f"visit {science.visit} ({science.filter}){minus}   {sensor}"


def _captions(products: Products, scale: float) -> tuple[str, str, str]:
    science, difference = products.science, products.difference
    visits = [f" {each.visit}" if each else "" for each in (products.science_id, products.template_id)]
    of_science, of_template = ("", "") if products.names else visits
    first = f"science{of_science}: FWHM {_width(science, scale)}"
    width = products.template_fwhm
    own = f" (its own FWHM {_length(width, scale)})" if np.isfinite(width) else ""
    second = f"matched template{of_template}{own}"
    if products.matched is None:
        second = "matched template: not written"
    return first, second, f"difference: FWHM {_width(difference, scale)}"


def _width(exposure: Exposure, scale: float) -> str:
    return "unknown" if exposure.psf is None else _length(fwhm(exposure.psf, *middle(exposure)), scale)


def _length(pixels: float, scale: float) -> str:
    return f"{pixels * scale:.2f} arcsec" if np.isfinite(scale) else f"{pixels:.2f} pixels"


def _footer(summary: Mapping[str, Any]) -> str:
    """The numbers under the picture."""
    parts = [
        ("noise / variance plane", summary["noise_ratio"], "{:.3f}"),
        ("correlation of neighbours", summary["lag1_correlation"], "{:+.3f}"),
        ("reduced chi squared at stars", summary["residual_chi2"], "{:.2f}"),
        ("kernel sum", summary["kernel"]["sum"], "{:.4f}"),
    ]
    shown = [f"{name} {form.format(value)}" for name, value, form in parts if value is not None]
    return "   |   ".join([*shown, "grey: asinh, asinh, linear to 7 sigma"])


def write_tables(out: Path, products: Products) -> dict[str, str]:
    """The DIA sources in the forms of other tools, beside their catalogue: the names of the files."""
    if products.sources is None or products.shown is None:
        return {}
    catalogue = Path(products.files["diaSrc"])
    table, regions = catalogue.with_suffix(".parquet"), catalogue.with_suffix(".reg")
    write_bytes(out / table, cataloguefiles.table(products.sources))
    write_bytes(out / regions, _regions(products).encode())
    return {"diaSrc_table": str(table), "diaSrc_regions": str(regions)}


def _regions(products: Products) -> str:
    """The region file: by the sky, or by pixels where there is no WCS."""
    assert products.sources is not None and products.shown is not None
    origin = products.difference.xy0 if lacks_wcs(products.difference) else None
    return cataloguefiles.regions(products.sources, products.shown, origin)


def _told() -> str:
    """The line that says that all is written, and how it is named; nothing if none comes."""
    picture.rehearse()
    return sys.stdin.readline().strip()


def main(argv: Sequence[str] | None = None) -> int:
    """The program: its files in OUT, or one line on standard error and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m diffrun.engine.report", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--science", nargs="+", required=True, metavar="KEY=VALUE")
    parser.add_argument("--template", nargs="+", metavar="KEY=VALUE")
    words = "first word of the datasets (coaddName); - to wait until standard input tells it"
    parser.add_argument("--prefix", default="deep", help=words)
    parser.add_argument("--suffix", default="", help="put before the ending of both file names")
    parser.add_argument("--names", nargs=2, help="of both images, for the picture, instead of their visits")
    options = parser.parse_args(argv)
    prefix = _told() if options.prefix == "-" else options.prefix
    if not prefix:  # whoever has started us needs no report
        return 0
    try:
        template = parse_keys(options.template) if options.template else None
        products = read_products(options.out, parse_keys(options.science), template, prefix)
        products = replace(products, names=tuple(options.names) if options.names else None)
        image = options.out / f"picture{options.suffix}.png"
        numbers = options.out / f"summary{options.suffix}.json"
        drawn = scene(products)
        with ThreadPoolExecutor(1) as beside:
            found = beside.submit(summarise, products)
            tables = beside.submit(write_tables, options.out, products)
            write_bytes(image, picture.png(drawn, lambda: _footer(found.result())))
            summary = found.result()
            summary["files"] |= {**tables.result(), "picture": image.name}
        write_bytes(numbers, (json.dumps(summary, indent=2) + "\n").encode())
    except DiffrunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(image)
    print(numbers)
    return 0


if __name__ == "__main__":
    leave(main())
