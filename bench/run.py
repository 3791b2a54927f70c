# SPDX-License-Identifier: BSD-3-Clause
"""The whole bench: simulated sensors, other programs, growth, a real pair; the tables and plots in docs/.

    .venv/bin/python bench/run.py [--resume] [PART ...]

Parts are measured one after the other and kept as they come, so that a run that was cut off goes on with
--resume, which also tries again what failed. The page is written anew from all that is known.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import growth
import page
import peers
import sensors
import stripe82
from engine import Failed
from platformdirs import user_cache_path

from diffrun.files.atomic import write_bytes

STORE = user_cache_path("diffrun-bench") / "results"
#: Which other programs see a pair: the chain where something is learnt, the slow ones small frames only.
SENSORS: dict[str, tuple[str, ...]] = {
    "default-11": ("chain", "stdpipe"),
    "default-12": ("chain",),
    "default-13": ("chain",),
    "reversed-11": ("chain",),
    "crowded-transients-11": ("chain",),
    "moffat-11": (),
    "equal-11": (),
    "stars3-11": (),
    "stars01-11": (),
    "clouds-11": (),
    "astrometry-11": (),
}
SMALL = ("small-11", "small-12")
ALL = ("chain", "stdpipe", "properimage", "sfft", "ois")

Work = Callable[[Path], Any]


def parts() -> dict[str, Work]:
    """Every part of the bench by its name, in the order in which they are measured."""
    found: dict[str, Work] = {"sensor": growth.of_a_sensor}
    for name, others in SENSORS.items():
        found[name] = partial(sensors.pair, name, others=others)
    for name in SMALL:
        cutouts = STORE / f"{name}.npz" if name == SMALL[0] else None
        found[name] = partial(sensors.pair, name, others=ALL, cutouts=cutouts)
    for side in growth.SIDES:
        found[f"growth-{side}"] = partial(growth.of_side, side)
    found["stripe82"] = stripe82.measure
    return found


def measure(work: Work, folder: Path | None) -> dict[str, Any]:
    """What a part gives, its files gone afterwards; what went wrong as ``trouble``."""
    began = clocks()
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix="diffrun-bench-") as place:
            result = work(Path(place))
    except Exception as trouble:  # one part is no reason to lose the others
        result = {"trouble": f"{type(trouble).__name__}: {trouble}"}
    return {**result, "took": [after - before for after, before in zip(clocks(), began, strict=True)]}


def clocks() -> tuple[float, float]:
    """Wall seconds, and CPU seconds of this process and of those that it ran."""
    times = os.times()
    return times.elapsed, sum(times[:4])


def main() -> int:
    """Measure, write the page; the status is the number of parts that failed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # ends what runs, too
    known = parts()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--resume", action="store_true", help="go on with what was measured before")
    parser.add_argument("--folder", type=Path, help="where the files lie meanwhile (up to 6 GB)")
    given = parser.parse_args()
    wrong = set(given.part) - set(known)
    if wrong:
        parser.error(f"no such part: {', '.join(sorted(wrong))}")
    STORE.mkdir(parents=True, exist_ok=True)
    store = STORE / "results.json"
    results: dict[str, Any] = {}
    if (given.resume or given.part) and store.exists():
        results = json.loads(store.read_text(encoding="utf-8"))
    measure(growth.warm, given.folder)
    for name in given.part or known:
        if given.resume and "trouble" not in results.get(name, {"trouble": "not done"}):
            continue
        results[name] = measure(known[name], given.folder)
        write_bytes(store, json.dumps(results, indent=1).encode())
        wall, cpu = results[name]["took"]
        print(f"{name}: {results[name].get('trouble', 'done')} ({wall:.0f} s, CPU {cpu:.0f} s)", flush=True)
    page.write({name: results[name] for name in known if name in results})
    draw(store)
    return sum("trouble" in results[name] for name in known if name in results)


def draw(store: Path) -> None:
    """The plots, by matplotlib in an environment of its own."""
    try:
        python = peers.python_of("matplotlib")
        plots = Path(__file__).with_name("plots.py")
        images = page.PAGE.with_name("images")
        peers.engine.run([python, plots, store, STORE / f"{SMALL[0]}.npz", images], STORE / "plots.log")
    except Failed as trouble:
        print(f"no plots: {trouble}")


if __name__ == "__main__":
    sys.exit(main())
