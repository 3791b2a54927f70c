# SPDX-License-Identifier: BSD-3-Clause
"""Score runs of ``imageDifference.py`` or ``diffrun`` on simulated pairs.

python bench/score.py REPOSITORY OUTPUT [REPOSITORY OUTPUT ...]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measures import BINS, judge
from rich.console import Console
from rich.table import Table
from subject import read_output, read_truth


def score(repository: Path, output: Path) -> dict[str, float]:
    """Every number of `measures.judge` for one run."""
    return judge(read_output(output), read_truth(repository))


def show(results: dict[str, dict[str, float]]) -> Table:
    """One row a number, one column a run; completeness as found of true."""
    grid = Table("number", *results, title="found: of the true changes by S/N; false: a sensor")
    for name in next(iter(results.values())):
        if name.startswith("true_"):
            continue
        grid.add_row(name, *(_cell(name, numbers) for numbers in results.values()))
    return grid


def _cell(name: str, numbers: dict[str, float]) -> str:
    value: Any = numbers[name]
    if name.removeprefix("found_") in BINS:
        true = numbers[name.replace("found", "true")]
        return f"{value:.0f}/{true:.0f} {100 * value / max(true, 1):.1f}%"
    if name.startswith(("false_", "flagged_sources")):
        return f"{value:.1f}" if name == "false_expected" else f"{value:.0f}"
    if name.startswith(("bias", "psf_flux", "kernel_sum", "flagged_area")):
        return f"{100 * value:+.2f}%"
    return f"{value:.4f}"


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="+", type=Path, help="repository and output, in pairs")
    parser.add_argument("--json", action="store_true", help="print for machines")
    given = parser.parse_args()
    if len(given.folder) % 2:
        parser.error("give a repository and an output each time")
    pairs = zip(given.folder[::2], given.folder[1::2], strict=True)
    results = {f"{r.name} {o.name}": score(r, o) for r, o in pairs}
    if given.json:
        print(json.dumps(results, indent=1))
    else:
        Console(width=40 + 26 * len(results)).print(show(results))


if __name__ == "__main__":
    main()
