# SPDX-License-Identifier: BSD-3-Clause
"""Simulate the Twinkles subset: ``python ci/twinkles/simulate.py --output FOLDER``.

The same seed gives the same files. ``--pack FOLDER`` also stores them as the package ships them
(``src/diffrun/twinkles/packed``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pack
import repository
import scene
import truth
from products import process
from visits import VISITS

SEED = 230


def main() -> None:
    """Parse, simulate each visit, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the repository to make")
    parser.add_argument(
        "--seed", type=int, default=SEED, help="of the scene and the noise (default: %(default)s)"
    )
    parser.add_argument(
        "--visit", type=int, action="append", choices=sorted(VISITS), help="only these visits"
    )
    parser.add_argument("--pack", type=Path, help="also pack all that was made into this folder")
    given = parser.parse_args()
    visits = [VISITS[number] for number in given.visit or sorted(VISITS)]
    sky = scene.build(given.seed)
    repository.start(given.output, visits)
    made = {}
    for visit in visits:
        made[visit.number] = process(sky, visit, given.seed)
        repository.write(given.output, visit, made[visit.number])
        print(f"visit {visit.number} ({visit.band}) done", flush=True)
    for name, table in zip(("truth.ecsv", "static.ecsv"), truth.tables(sky, visits), strict=True):
        truth.write(given.output / name, table)
    if given.pack:
        pack.pack(given.output, given.pack, made)


if __name__ == "__main__":
    main()
