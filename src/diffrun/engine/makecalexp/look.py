# SPDX-License-Identifier: BSD-3-Clause
"""A look at plain images before the work: is there an image, and in which filter?

    python -m diffrun.engine.makecalexp.look --image FILE HDU [--image FILE HDU]

prints a JSON list, the filter of each image; an empty HDU is the one that `plain.choose` takes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from diffrun.engine.makecalexp import plain
from diffrun.errors import DataError, DiffrunError
from diffrun.files import fitsread
from diffrun.files.afw.reader import read_summary

_FILTER_CARDS = ("FILTER", "FILTNAM", "BAND", "FILTER1", "FILTER2", "FILTERS", "INSFILTE")
_NOT_IN_BEAM = re.compile(r"((clear|open|none|empty|air|blank)\d*|_unknown_)?", re.IGNORECASE)
_BAND = re.compile(r"[ugrizyUBVRIYJHK]")


def main(argv: Sequence[str] | None = None) -> int:
    """The program; the exit status is that of the error, 0 for none."""
    parser = argparse.ArgumentParser(prog="python -m diffrun.engine.makecalexp.look", description=__doc__)
    parser.add_argument("--image", nargs=2, action="append", required=True, metavar=("FILE", "HDU"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pairs = parser.parse_args(argv).image
            print(json.dumps([filter_name(Path(path), hdu or None) for path, hdu in pairs]))
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


def _of_stack(path: Path) -> str:
    """The filter as the stack's archive has it."""
    with fitsread.opened(path, pixels=False) as hdus:
        if not any("AR_HDU" in hdu.header for hdu in hdus[:2]):
            return "_unknown_"
    try:
        return read_summary(path).filter
    except DataError:
        return "_unknown_"  # it is a plain image then, with cards


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_+~.-]", "", name).lstrip("+~.-")


if __name__ == "__main__":
    sys.exit(main())
