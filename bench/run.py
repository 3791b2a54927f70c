# SPDX-License-Identifier: BSD-3-Clause
"""The whole bench: every configuration simulated, subtracted and scored; the tables of docs/bench.md.

    .venv/bin/python bench/run.py [CONFIG-SEED ...]

Without names all of `PAIRS` are run and the tables in docs/bench.md are written anew.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import engine
from conditions import CONFIGURATIONS
from score import score
from simulate import simulate

PAIRS = (
    "default-11", "default-12", "default-13", "reversed-11", "equal-11", "crowded-transients-11",
    "moffat-11", "stars3-11", "stars01-11", "clouds-11", "astrometry-11",
)  # fmt: skip
PAGE = Path(__file__).resolve().parents[1] / "docs" / "bench.md"
BEGIN, END = "<!-- written by bench/run.py -->\n", "<!-- end of what bench/run.py writes -->\n"


def measure(pair: str, folder: Path) -> dict[str, float]:
    """Every number of one pair; its files are gone afterwards."""
    name, seed = pair.rsplit("-", 1)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        repository, output = Path(work) / "repository", Path(work) / "output"
        simulate(CONFIGURATIONS[name], int(seed), repository)
        used = engine.subtract(repository, output)
        numbers = score(repository, output)
    numbers |= {"wall": used.wall, "cpu": used.cpu, "memory": used.memory / 2**20}
    print(f"{pair}: {used.wall:.1f} s wall, {used.cpu:.1f} s CPU", flush=True)
    return numbers


def lines(results: dict[str, dict[str, float]]) -> list[str]:
    """The tables in Markdown, one row a pair: noise and use, what was found, fluxes and places."""
    return [
        *_table(results, "pair | wall s | CPU s | MiB | own map (plain) | lag-1 x, y | k | star χ² | "
                "kernel sum",
                lambda n: [f"{n['wall']:.1f}", f"{n['cpu']:.1f}", f"{n['memory']:.0f}",
                           f"{n['noise']:.3f} ({n['noise_plain']:.3f})",
                           f"{n['lag1_x']:.3f}, {n['lag1_y']:.3f}",
                           f"{n['k']:.3f}", f"{n['star_chi2']:.2f}", _percent(n["kernel_sum_error"])]),
        *_table(results, "pair | S/N 5-7 | 7-10 | over 10 | false: blank (by noise) | on sources | "
                "saturated | flagged area",
                lambda n: [*(f"{n[f'found_{b}']:.0f}/{n[f'true_{b}']:.0f}" for b in ("5-7", "7-10", "10+")),
                           f"{n['false_blank']:.0f} ({n['false_expected']:.1f})", f"{n['false_source']:.0f}",
                           f"{n['false_saturated']:.0f}", f"{100 * n['flagged_area']:.2f} %"]),
        *_table(results, "pair | flux bias | pull | on galaxies | near bright stars | PSF predicts flux | "
                "position x, y",
                lambda n: [f"{_percent(n['bias_all'])} ± {100 * n['bias_error_all']:.2f}",
                           f"{n['pull_all']:.2f}",
                           f"{_percent(n['bias_galaxy'])}, {n['pull_galaxy']:.2f}",
                           f"{_percent(n['bias_bright'])}, {n['pull_bright']:.2f}",
                           f"{_percent(n['psf_flux'])} ± {100 * n['psf_flux_error']:.2f}",
                           f"{n['offset_x']:+.3f}, {n['offset_y']:+.3f}"]),
    ]  # fmt: skip


def _percent(value: float) -> str:
    return f"{100 * value:+.2f} %"


def _table(results, head, cells):  # type: ignore[no-untyped-def]
    columns = head.split(" | ")
    yield from (f"| {head} |", "|" + "---|" * len(columns))
    yield from (f"| {' | '.join([pair, *cells(numbers)])} |" for pair, numbers in results.items())
    yield ""


def main() -> None:
    """Run the named pairs, or all and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pair", nargs="*", help=f"of {', '.join(PAIRS)}, or another configuration and seed")
    parser.add_argument("--folder", type=Path, help="where the files lie meanwhile (0.8 GB)")
    given = parser.parse_args()
    results = {pair: measure(pair, given.folder) for pair in given.pair or PAIRS}
    text = "\n".join(lines(results))
    print(text)
    if not given.pair:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
