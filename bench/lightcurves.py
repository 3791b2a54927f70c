# SPDX-License-Identifier: BSD-3-Clause
"""What a pair costs the light curves of a campaign: CPU time and memory of the program that measures.

    .venv/bin/python bench/lightcurves.py

One simulated sensor is subtracted once, and measured in one process at places known beforehand: as a campaign
of one pair, and as one of three. Half of what the second takes more is the time of a pair.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import engine
import numpy as np
from conditions import CONFIGURATIONS, SCIENCE, TEMPLATE
from simulate import simulate

SEED = 11
SIZES = {1024: (100,), 4000: (1_000, 10_000)}
PLACE = {"raft": "2,2", "sensor": "1,1"}


def listed(output: Path, pairs: int) -> Path:
    """The list of runs that the program is given: the same one, as so many pairs."""
    names = {"diaSrc": "diaSrc", "differenceExp": "diffexp", "matchedExp": "matchexp", "kernel": "kernel"}
    files = {name: str(_product(output, file).relative_to(output)) for name, file in names.items()}
    known = {"visit": SCIENCE, "template": TEMPLATE, "band": "r", "template_band": "r", **PLACE}
    run = {**known, "folder": str(output), "files": files, "convolved": "template"}
    path = output.with_name(f"{output.name}-{pairs}.jsonl")
    path.write_text("".join(json.dumps({"pair": f"{n}-{TEMPLATE}", **run}) + "\n" for n in range(pairs)))
    return path


def _product(output: Path, name: str) -> Path:
    (path,) = output.rglob(f"{name}-S11.*")
    return path


def places(output: Path, count: int) -> Path:
    """So many random places on the sensor, from those of its stars."""
    from diffrun.files.afw.reader import read_summary

    image = read_summary(_product(output, "diffexp"))
    (ny, nx), (x0, y0) = image.shape, image.xy0
    x, y = np.random.default_rng(SEED).uniform((x0, y0), (x0 + nx - 1, y0 + ny - 1), (count, 2)).T
    lines = (f"{ra:.8f},{dec:.8f}\n" for ra, dec in np.transpose(image.wcs.pixel_to_sky(x, y)))
    path = output.with_name(f"{output.name}-places.csv")
    path.write_text("ra,dec\n" + "".join(lines))
    return path


def measured(output: Path, count: int, pairs: int) -> engine.Used:
    """One run of the program."""
    words = [sys.executable, "-m", "diffrun.engine.lightcurves", listed(output, pairs)]
    words += [output.with_name("objects.csv"), output.with_name("lightcurves.csv")]
    words += ["--radius", "0.5", "--processes", "1", "--places", places(output, count)]
    return engine.run(words, output.with_suffix(".curves.log"), environment={"OPENBLAS_NUM_THREADS": "1"})


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="diffrun-bench-") as folder:
        for size, counts in SIZES.items():
            repository, output = Path(folder, f"sky{size}"), Path(folder, f"out{size}")
            simulate(CONFIGURATIONS["default"].of_size(size), SEED, repository)
            engine.subtract(repository, output)
            for count in counts:
                measured(output, count, 1)  # what is compiled once
                one, three = measured(output, count, 1), measured(output, count, 3)
                seconds, memory = (three.cpu - one.cpu) / 2, three.memory / 2**20
                print(f"{size} pixels, {count} places: {seconds:.2f} s a pair, {memory:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
