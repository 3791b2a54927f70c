# SPDX-License-Identifier: BSD-3-Clause
"""The tables of docs/bench.md from what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from goals import shortfalls
from measures import BINS
from peers import TITLES
from stripe82 import RATIO, STACK

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bench.md"
BEGIN, END = "<!-- written by bench/run.py -->\n", "<!-- end of what bench/run.py writes -->\n"
NAMES = {"diffrun": "**diffrun**", "common": "diffrun, common detection", **TITLES}

Numbers = dict[str, Any]
Results = dict[str, Any]
Lines = Iterator[str]


def write(results: Results) -> None:
    """Put the tables between the marks of the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = "\n".join(lines(results))
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def lines(results: Results) -> Lines:
    """All tables in Markdown, each with a heading; parts that failed say why."""
    sensors = {name: part for name, part in results.items() if "diffrun" in part}
    whole = {name: part for name, part in sensors.items() if not name.startswith("small")}
    small = [part for name, part in sensors.items() if name.startswith("small")]
    yield from _side_by_side(whole, small)
    yield from _robust(whole)
    yield from _growth(
        [results[name] for name in results if name.startswith("growth") and "cpu" in results[name]]
    )
    if "alone" in results.get("sensor", {}):
        yield from _sensor(results["sensor"])
    if "stripe82" in results:
        yield from _stripe82(results["stripe82"])
    yield from _short(whole, results)


def _side_by_side(whole: dict[str, Numbers], small: list[Numbers]) -> Lines:
    groups: dict[str, list[Numbers]] = {}
    for name, part in whole.items():
        if "chain" in part:
            groups.setdefault(name.rsplit("-", 1)[0], []).append(part)
    yield "### Side by side, whole sensors\n"
    for name, members in groups.items():
        yield from _compared(f"{name}, {_number(len(members), 'sensor')}", members)
    yield "### Side by side, 1024 x 1024 pixels\n"
    if small:
        yield from _compared(f"default, {_number(len(small), 'frame')}", small)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}s" if count > 1 else f"one {noun}"


def _compared(title: str, members: list[Numbers]) -> Lines:
    """One row a program: its cost over ours in the same run, and how good its difference is."""
    head = (
        f"{title} | wall | CPU | memory | own map | lag-1 x, y | k | S/N 5-7 | 7-10 | over 10 | "
        "false: blank | on sources | saturated | flux bias | pull"
    )
    rows = []
    for program in NAMES:
        of_it = [part[program] for part in members if program in part]
        good = [numbers for numbers in of_it if "trouble" not in numbers]
        if of_it and not good:
            rows.append([NAMES[program], *_trouble(of_it[0]["trouble"])])
        if good:
            ours = together([part["diffrun"] for part in members if "cpu" in part.get(program, {})] or good)
            rows.append([NAMES[program], *_cost(program, together(good), ours), *_quality(together(good))])
    yield from _table(head, rows)


def _trouble(text: str) -> list[str]:
    return [text.replace("|", "/"), *[""] * 13]


def _cost(program: str, numbers: Numbers, ours: Numbers) -> list[str]:
    if program == "common":
        return ["", "", ""]
    if program == "diffrun":
        return [f"{numbers['wall']:.1f} s", f"{numbers['cpu']:.1f} s", f"{numbers['memory']:.0f} MiB"]
    return [f"x {numbers[key] / ours[key]:.1f}" for key in ("wall", "cpu", "memory")]


def _quality(numbers: Numbers) -> list[str]:
    return [
        f"{numbers['noise']:.3f}",
        f"{numbers['lag1_x']:.3f}, {numbers['lag1_y']:.3f}",
        f"{numbers['k']:.3f}",
        *_found(numbers),
        f"{numbers['false_blank']:.1f} ({numbers['false_expected']:.1f})",
        f"{numbers['false_source']:.1f}",
        f"{numbers['false_saturated']:.1f}",
        f"{_percent(numbers['bias_all'])} ± {100 * numbers['bias_error_all']:.2f}",
        f"{numbers['pull_all']:.2f}",
    ]


def _found(numbers: Numbers) -> list[str]:
    return [f"{numbers[f'found_{b}']:.0f}/{numbers[f'true_{b}']:.0f}" for b in BINS]


def together(members: list[Numbers]) -> Numbers:
    """Several sensors as one: found and true added, biases by their errors, all else the mean."""
    result: Numbers = {}
    for key in members[0]:
        if key == "parts":
            continue
        values = np.array([numbers[key] for numbers in members])
        if key.startswith(("found_", "true_")):
            result[key] = values.sum()
        elif f"{key.partition('_')[0]}_error" in key:
            result[key] = 1 / math.sqrt((1 / values**2).sum())
        else:
            result[key] = values.mean()
    errors = np.array([numbers["bias_error_all"] for numbers in members])
    result["bias_all"] = np.average([numbers["bias_all"] for numbers in members], weights=errors**-2)
    return result


def _robust(whole: dict[str, Numbers]) -> Lines:
    yield "### Every configuration\n"
    own = {name: part["diffrun"] for name, part in whole.items()}
    yield from _rows(
        own,
        "pair | wall s | CPU s | MiB | own map (plain) | lag-1 x, y | k | star χ² | kernel sum",
        lambda n: [
            f"{n['wall']:.1f}", f"{n['cpu']:.1f}", f"{n['memory']:.0f}",
            f"{n['noise']:.3f} ({n['noise_plain']:.3f})", f"{n['lag1_x']:.3f}, {n['lag1_y']:.3f}",
            f"{n['k']:.3f}", f"{n['star_chi2']:.2f}", _percent(n["kernel_sum_error"]),
        ],
    )  # fmt: skip
    yield from _rows(
        own,
        "pair | S/N 5-7 | 7-10 | over 10 | false: blank (by noise) | on sources | saturated | flagged area",
        lambda n: [
            *_found(n), f"{n['false_blank']:.0f} ({n['false_expected']:.1f})", f"{n['false_source']:.0f}",
            f"{n['false_saturated']:.0f}", f"{100 * n['flagged_area']:.2f} %",
        ],
    )  # fmt: skip
    yield from _rows(
        own,
        "pair | flux bias | pull | on galaxies | near bright stars | PSF predicts flux | position x, y",
        lambda n: [
            f"{_percent(n['bias_all'])} ± {100 * n['bias_error_all']:.2f}", f"{n['pull_all']:.2f}",
            f"{_percent(n['bias_galaxy'])}, {n['pull_galaxy']:.2f}",
            f"{_percent(n['bias_bright'])}, {n['pull_bright']:.2f}",
            f"{_percent(n['psf_flux'])} ± {100 * n['psf_flux_error']:.2f}",
            f"{n['offset_x']:+.3f}, {n['offset_y']:+.3f}",
        ],
    )  # fmt: skip


def _growth(sizes: list[Numbers]) -> Lines:
    if not sizes:
        return
    yield "### Growth with the frame\n"
    rows = []
    for n in sizes:
        mega = n["pixels"] / 2**20
        wall, cpu, memory = ((n[key] - n[f"bare_{key}"]) / mega for key in ("wall", "cpu", "memory"))
        seconds = (f"{value:.2f}" for value in (n["wall"], n["cpu"], wall, cpu))
        rows.append([f"{mega:g}", *seconds, f"{n['memory']:.0f}", f"{memory:.0f}"])
    yield from _table(
        "megapixels | wall s | CPU s | wall s a megapixel, less imports | CPU s | MiB | bytes a pixel", rows
    )
    if len(sizes) > 2:
        yield _straight(sizes) + "\n"


def _straight(sizes: list[Numbers]) -> str:
    """How near CPU time and memory come to a straight line in the pixels, by relative errors."""
    mega = np.array([n["pixels"] for n in sizes]) / 2**20
    words = []
    for key, unit in (("cpu", "s of CPU time"), ("memory", "MiB")):
        values = np.array([n[key] - n[f"bare_{key}"] for n in sizes])
        terms = np.stack([np.ones_like(mega), mega], axis=1) / values[:, None]
        fixed, slope = np.linalg.lstsq(terms, np.ones_like(mega), rcond=None)[0]
        worst = np.abs((fixed + slope * mega) / values - 1).max()
        words.append(f"{fixed:.2f} + {slope:.3f} {unit} a megapixel, within {100 * worst:.0f} %")
    return f"Without imports: {'; '.join(words)}."


def _sensor(n: Numbers) -> Lines:
    yield "### First run, launcher, two at a time\n"
    alone, first, launcher = (n[name] for name in ("alone", "first", "launcher"))
    two, one, every = (n[name]["wall"] for name in ("at_once", "one_core", "all_cores"))
    cores = n["cores"]
    longer = [f"{launcher[key] - alone[key]:.2f} s {key}" for key in ("wall", "cpu")]
    rows = [
        ["a run with nothing compiled yet takes longer by", f"{first['wall'] - alone['wall']:.1f} s"],
        ["`diffrun` around the engine takes longer by", ", ".join(longer)],
        [f"throughput of `-j 2` on {cores} cores over runs held to one core", f"x {one / two:.2f}"],
        ["the same over runs that have all cores, one after the other", f"x {every / two:.2f}"],
        ["what the cores could give at most over these", f"x {every * cores / n['all_cores']['cpu']:.2f}"],
    ]
    yield from _table("what | number", rows)
    yield "### Where the time goes\n"
    total = [sum(spent[k] for spent in n["stages"].values()) for k in range(2)]
    rows = [
        [name, *(f"{spent[k]:.2f} s, {100 * spent[k] / total[k]:.0f} %" for k in range(2))]
        for name, spent in n["stages"].items()
    ]
    yield from _table("stage | wall | CPU", rows)
    steps = [
        [name, *(f"{second:.3f} s" for second in spent)] for name, spent in n.get("primitives", {}).items()
    ]
    yield from _table("the machine's own steps, on one sensor | wall | CPU", steps)


def _stripe82(n: Numbers) -> Lines:
    yield "### A real pair\n"
    if "found" not in n:
        yield f"Not measured: {n.get('skipped') or n.get('trouble')}\n"
        return
    yield from _table(
        "SDSS Stripe 82, r, runs 4192 - 6377 | diffrun | LSST stack (July 2026)",
        [
            ["own map", f"{n['noise']:.3f}", f"{STACK['noise']:.3f}"],
            ["lag-1 x, y", *(f"{of['lag1_x']:.4f}, {of['lag1_y']:.4f}" for of in (n, STACK))],
            ["χ² at kernel stars", *(f"{of['star_chi2']:.3f}" for of in (n, STACK))],
            [f"kernel sum (stars: {RATIO})", *(f"{of['kernel_sum']:.4f}" for of in (n, STACK))],
            ["sources that are no dipole and touch no defect", *(f"{of['clean']:.0f}" for of in (n, STACK))],
            [f"planted sources found, of {n['planted']:.0f}", *(f"{of['found']:.0f}" for of in (n, STACK))],
            ["their fluxes", *(f"{_percent(of['flux'])} ± {100 * n['flux_error']:.1f}" for of in (n, STACK))],
        ],
    )  # fmt: skip


def _short(whole: dict[str, Numbers], results: Results) -> Lines:
    yield "### What falls short\n"
    own = {name: part["diffrun"] for name, part in whole.items()}
    yield from (f"- {line}" for line in shortfalls(own, results))
    for name, part in results.items():
        if "trouble" in part:
            yield f"- not measured: {name}: {part['trouble']}"
    wall, cpu = (sum(part["took"][k] for part in results.values()) / 60 for k in range(2))
    yield f"\nAll this took {wall:.1f} minutes, and {cpu:.1f} of CPU time.\n"


def _percent(value: float) -> str:
    return f"{100 * value:+.2f} %"


def _rows(own: dict[str, Numbers], head: str, cells: Callable[[Numbers], list[str]]) -> Lines:
    return _table(head, [[name, *cells(numbers)] for name, numbers in own.items()])


def _table(head: str, rows: Iterable[list[str]]) -> Lines:
    yield f"| {head} |"
    yield "|" + "---|" * (head.count(" | ") + 1)
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""
