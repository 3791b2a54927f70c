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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from diffrun.engine import boost, cataloguefiles, picture, quality
from diffrun.engine.leave import leave
from diffrun.engine.overlap import lacks_wcs, middle
from diffrun.engine.survey import parse_keys
from diffrun.engine.view import Images, read_images
from diffrun.errors import DiffrunError
from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.reader import read_kernel
from diffrun.files.atomic import write_bytes
from diffrun.repository import paths
from diffrun.repository.gen2 import Repository
from diffrun.threads import give_way

_FILES = ("differenceExp", "matchedExp", "diaSrc", "kernel", "metadata")
_SUBTRACT = "imageDifference:subtract."


@dataclass(frozen=True)
class Products:
    """What one run has left of one sensor; `None` for what was not written."""

    images: Images
    sources: Catalog | None
    kernel: LinearCombinationKernel | None
    metadata: Mapping[str, Any]
    files: Mapping[str, str]

    @cached_property
    def shown(self) -> quality.Sources | None:
        """What is drawn and counted of the DIA sources."""
        return None if self.sources is None else quality.sources(self.sources, self.images.difference)


def read_products(out: Path, images: Images, prefix: str) -> Products:
    """Read what belongs to the images of one sensor.

    Raises
    ------
    RepositoryError, DataError
        If it cannot be read.
    """
    repository, science_id = Repository.open(out), images.science_id
    found = {name: repository.find(f"{prefix}Diff_{name}", science_id) for name in _FILES}
    return Products(
        images,
        read_catalog(found["diaSrc"]) if found["diaSrc"] else None,
        read_kernel(found["kernel"]) if found["kernel"] else None,
        boost.read(found["metadata"]) if found["metadata"] else {},
        {name: str(paths.relative(f"{prefix}Diff_{name}", science_id)) for name in _FILES if found[name]},
    )


def summarise(products: Products) -> dict[str, Any]:
    """The numbers of ``summary.json``; `None` where a product that they need was not written."""
    images, facts = products.images, products.metadata
    residuals = images.residuals
    return {
        "science": images.science_id.as_dict(),
        "template": images.template_id.as_dict() if images.template_id else None,
        "convolved": facts.get(f"{_SUBTRACT}convolved"),
        **images.noise,
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
        total = float(kernel.at(*middle(products.images.difference)).sum())
    candidates, used = facts.get(f"{_SUBTRACT}nCandidates"), facts.get(f"{_SUBTRACT}nCandidatesUsed")
    return {
        "sum": None if total is None else round(total, 5),
        "size": facts.get(f"{_SUBTRACT}ALKernelSize"),
        "order": facts.get(f"{_SUBTRACT}spatialKernelOrder"),
        "candidates": candidates,
        "used": used,
        "rejected": None if candidates is None or used is None else candidates - used,
    }


def _drawn(products: Products) -> quality.Sources:
    """The sources in pixels of the arrays."""
    (x0, y0), sources = products.images.difference.xy0, products.shown or quality.Sources.none()
    return replace(sources, x=sources.x - x0, y=sources.y - y0)


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
    difference = products.images.difference
    origin = difference.xy0 if lacks_wcs(difference) else None
    return cataloguefiles.regions(products.sources, products.shown, origin)


def watched(open_images: Callable[[str], Images]) -> tuple[Images, str] | None:
    """The images of a run, and their prefix, when standard input tells ``written PREFIX``.

    A line ``images PREFIX`` before it tells that these are there already: they are looked at meanwhile, with
    the time that the run leaves. Without a line whoever has started us needs no report.
    """
    images = None
    with ThreadPoolExecutor(1, initializer=give_way) as aside:
        aside.submit(picture.rehearse).result()
        what, _, prefix = sys.stdin.readline().strip().partition(" ")
        if what == "images":
            images = open_images(prefix)
            aside.submit(images.look).result()
            what, _, prefix = sys.stdin.readline().strip().partition(" ")
    return (images or open_images(prefix), prefix) if prefix else None


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
    try:
        template = parse_keys(options.template) if options.template else None
        names = tuple(options.names) if options.names else None
        opened = partial(read_images, options.out, parse_keys(options.science), template, names)
        found = watched(opened) if options.prefix == "-" else (opened(options.prefix), options.prefix)
        if found is None:
            return 0
        images, prefix = found
        products = read_products(options.out, images, prefix)
        image = options.out / f"picture{options.suffix}.png"
        numbers = options.out / f"summary{options.suffix}.json"
        with ThreadPoolExecutor(1) as beside:
            tables = beside.submit(write_tables, options.out, products)
            images.look()
            summary = summarise(products)
            write_bytes(image, picture.png(images.scene, _drawn(products), _footer(summary)))
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
