# SPDX-License-Identifier: BSD-3-Clause
"""The program ``makeCalexp.py``: a plain FITS image into a small Gen2 repository.

    python -m diffrun.engine.makecalexp IMAGE --output REPO --visit 1

prints one JSON object with what was measured and assumed; notes go to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffrun.errors import DiffrunError, UsageError
from diffrun.repository.dataid import DataId, parse_filter, parse_visit
from diffrun.repository.register import refuse_other_filter
from diffrun.threads import hold_algebra


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit status is that of the error, 0 for none."""
    hold_algebra()
    try:
        print(json.dumps(_run(_parser().parse_args(argv)), indent=2))
        return 0
    except DiffrunError as error:
        print(f"makeCalexp: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="makeCalexp.py",
        description="Make a plain FITS image what processCcd would have left: calexp, background and src.",
    )
    parser.add_argument("image", type=Path, help="FITS file: plain, .gz, tile-compressed, any image HDU")
    parser.add_argument("--output", type=Path, required=True, help="Gen2 repository, made if missing")
    parser.add_argument("--visit", required=True, help="visit number that the image gets")
    parser.add_argument("--filter", help="band (default: from the header)")
    parser.add_argument("--hdu", help="number or name of the image's HDU")
    parser.add_argument("--mask", type=Path, help="file with a mask: planes by MP_ cards, else not 0 is bad")
    parser.add_argument("--variance", type=Path, help="file with a variance, sigma or inverse variance")
    parser.add_argument("--gain", type=float, help="electrons per unit of the image")
    parser.add_argument("--saturation", type=float, help="level from which pixels are saturated")
    parser.add_argument(
        "--section", metavar="X0,X1,Y0,Y1", help="columns and rows to take, from 0, without X1 and Y1"
    )
    parser.add_argument("--psf-fwhm", type=float, help="FWHM in pixels, instead of the PSF of the stars")
    return parser


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from diffrun.engine.makecalexp import deposit, look, ready
    from diffrun.engine.makecalexp.make import Ask, make

    numbers = {name: _positive(name, getattr(options, name)) for name in ("gain", "saturation", "psf_fwhm")}
    ask = Ask(
        options.image, options.hdu, options.mask, options.variance, part=_part(options.section), **numbers
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = options.filter or look.filter_name(ask.path, ask.hdu)
        data_id = DataId(parse_visit(options.visit), parse_filter(name), "2,2", "1,1")
        refuse_other_filter(options.output, data_id)
        exposure, why = ready.of_stack(ask)
        made = make(ask, data_id) if exposure is None else ready.make(exposure, ask, data_id)
        made.facts["notes"][:0] = why
    written = deposit.write(options.output, data_id, made)
    for note in made.facts["notes"]:
        print(f"makeCalexp: {note}", file=sys.stderr)
    return {"data_id": data_id.as_dict(), "files": [str(path) for path in written], **made.facts}


def _part(text: str | None) -> tuple[slice, slice] | None:
    if text is None:
        return None
    try:
        x0, x1, y0, y1 = (int(word) for word in text.split(","))
    except ValueError:
        x0 = x1 = y0 = y1 = 0
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise UsageError(f"--section {text!r} is not a part of an image", "write X0,X1,Y0,Y1")
    return slice(y0, y1), slice(x0, x1)


def _positive(name: str, value: float | None) -> float:
    if value is None:
        return float("nan")
    if not 0 < value < float("inf"):
        raise UsageError(f"--{name.replace('_', '-')} {value:g} is not above 0", "give a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
