# SPDX-License-Identifier: BSD-3-Clause
"""A look at plain images before the work: is there an image, and in which filter?

    python -m diffrun.engine.makecalexp.look --image FILE HDU [--image FILE HDU]

prints a JSON list, the filter of each image; an empty HDU is the one that `plain.choose` takes. With
``--beneath`` it prints the part of the second that lies beneath the first, as ``makeCalexp.py --section``
takes it, or null where most of it is needed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun.engine.makecalexp import plain, projection
from diffrun.engine.overlap import beneath
from diffrun.errors import DataError, DiffrunError, NoOverlapError
from diffrun.files import fitsread
from diffrun.files.afw import lsstimages
from diffrun.files.afw.reader import read_summary

_FILTER_CARDS = ("FILTER", "FILTNAM", "BAND", "FILTER1", "FILTER2", "FILTERS", "INSFILTE")
_NOT_IN_BEAM = re.compile(r"((clear|open|none|empty|air|blank)\d*|_unknown_)?", re.IGNORECASE)
#: How far beyond the science image a template is looked at, pixels; steps of the ends of what is taken of it.
_REACH, _STEP = 32.0, 256
_BAND = re.compile(r"[ugrizyUBVRIYJHK]")


def main(argv: Sequence[str] | None = None) -> int:
    """The program; the exit status is that of the error, 0 for none."""
    parser = argparse.ArgumentParser(prog="python -m diffrun.engine.makecalexp.look", description=__doc__)
    parser.add_argument("--image", nargs=2, action="append", required=True, metavar=("FILE", "HDU"))
    parser.add_argument("--beneath", action="store_true")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = parser.parse_args(argv)
            images = [(Path(path), hdu or None) for path, hdu in options.image]
            found = section(*images[:2]) if options.beneath else [filter_name(*image) for image in images]
            print(json.dumps(found))
        return 0
    except DiffrunError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def filter_name(path: Path, hdu: str | None) -> str:
    """The filter as the header has it, in a form that a path can hold; ``unknown`` if there is none."""
    if (told := _of_stack(path)) != "_unknown_":
        return _plain(told)
    with plain.open_file(path) as hdus:
        header = plain.cards(hdus, plain.choose(hdus, hdu, path)[0])
    for card in _FILTER_CARDS:
        words = str(header.get(card, "")).split()
        band = next((word for word in words if _BAND.fullmatch(word)), None)
        name = band or _plain("_".join(words))
        if not _NOT_IN_BEAM.fullmatch(name):
            return name
    return "unknown"


@dataclass(frozen=True)
class _Placed:
    """Where an image is: a frame, and whether that is known."""

    shape: tuple[int, int]
    xy0: tuple[int, int]
    wcs: Any
    metadata: Mapping[str, Any]


def section(science: tuple[Path, str | None], template: tuple[Path, str | None]) -> str | None:
    """The part of a template that lies beneath a science image, in steps that many visits share."""
    below, above = _placed(*template), _placed(*science)
    try:
        part = beneath(below, above, _REACH)
    except NoOverlapError:  # the advice before the work will say so
        return None
    if part is None:
        return None
    ends = []
    for along, most in ((part[1], below.shape[1]), (part[0], below.shape[0])):
        ends += [along.start // _STEP * _STEP, min(-(-along.stop // _STEP) * _STEP, most)]
    return ",".join(map(str, ends))


def _placed(path: Path, hdu: str | None) -> _Placed:
    try:
        summary = read_summary(path)
        if summary.wcs is not None and hdu is None:
            return _Placed(summary.shape, summary.xy0, summary.wcs, summary.metadata)
    except DataError:
        pass  # no exposure of the stack
    with plain.open_file(path, pixels=False) as hdus:
        image = hdus[plain.choose(hdus, hdu, path)[0]]
        shape = (int(image.shape[-2]), int(image.shape[-1]))
        return _Placed(shape, (0, 0), projection.read(image.header, shape)[0], {})


def _of_stack(path: Path) -> str:
    """The filter as the stack's archive has it."""
    with fitsread.opened(path, pixels=False) as hdus:
        if not any("AR_HDU" in hdu.header for hdu in hdus[:2]) and not lsstimages.is_one(hdus):
            return "_unknown_"
    try:
        return read_summary(path).filter
    except DataError:
        return "_unknown_"  # it is a plain image then, with cards


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_+~.-]", "", name).lstrip("+~.-")


if __name__ == "__main__":
    sys.exit(main())
