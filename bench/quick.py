# SPDX-License-Identifier: BSD-3-Clause
"""The quick form of the bench: two small pairs, held to the bounds of ``bounds.yaml``.

    .venv/bin/python bench/quick.py

Counts, ratios and noise only, never seconds. The exit status is the number of pairs out of bounds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import engine
import numpy as np
import yaml
from conditions import CONFIGURATIONS
from measures import BINS
from rich.console import Console
from rich.table import Table
from scipy.fft import rfft2
from score import score
from simulate import simulate

BOUNDS = Path(__file__).with_name("bounds.yaml")
SIZE, SEED = 1024, 11
#: The yardstick of CPU time: so many real FFTs of the frame in one thread.
TRANSFORMS = 50


def yardstick() -> float:
    """CPU seconds of `TRANSFORMS` FFTs here and now."""
    frame = np.random.default_rng(0).standard_normal((SIZE, SIZE))
    rfft2(frame, workers=1)
    before = time.process_time()
    for _ in range(TRANSFORMS):
        rfft2(frame, workers=1)
    return time.process_time() - before


def measure(name: str, folder: Path) -> dict[str, float]:
    """Every number of one pair."""
    repository, output = folder / name, folder / f"{name}-out"
    simulate(CONFIGURATIONS[name].of_size(SIZE), SEED, repository)
    runs = [engine.subtract(repository, folder / f"{name}-first"), engine.subtract(repository, output)]
    units = min(yardstick() for _ in range(3))
    bare = engine.imports(folder / "imports.log")
    numbers = score(repository, output)
    numbers["cpu_above_imports"] = (min(r.cpu for r in runs) - bare.cpu) / units
    numbers["bytes_a_pixel"] = (runs[1].memory - bare.memory) / SIZE**2
    for name in BINS:
        numbers[f"lost_{name}"] = numbers[f"true_{name}"] - numbers[f"found_{name}"]
    return numbers


def show(results: dict[str, dict[str, float]], bounds: dict[str, dict[str, list[float]]]) -> int:
    """One table of what is bounded; the count of pairs with a number out of bounds."""
    grid = Table("number", *results, title="quick bench: value (bounds)")
    wrong = set()
    for name in dict.fromkeys(key for each in bounds.values() for key in each):
        cells = []
        for pair, numbers in results.items():
            low, high = bounds[pair][name]
            good = low <= numbers[name] <= high
            wrong |= set() if good else {pair}
            text = f"{numbers[name]:.4g} ({low:g} to {high:g})"
            cells.append(text if good else f"[bold red]{text} WRONG[/]")
        grid.add_row(name, *cells)
    Console(width=100).print(grid)
    return len(wrong)


def main() -> int:
    """Run both pairs."""
    bounds = yaml.safe_load(BOUNDS.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="diffrun-bench-") as folder:
        results = {name: measure(name, Path(folder)) for name in bounds}
    return show(results, bounds)


if __name__ == "__main__":
    sys.exit(main())
