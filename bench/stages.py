# SPDX-License-Identifier: BSD-3-Clause
"""Where the time of a run goes: the engine with a stopwatch on its stages.

    python bench/stages.py TIMES.json [words of imageDifference.py ...]

Each stage is a function that the engine calls by this name, charged without what it calls of the others.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import engine

#: Stage, module in which the function is called, its name there.
STAGES = (
    ("read and check", "products", "read_exposure"),
    ("read and check", "products", "read_summary"),
    ("read and check", "products", "read_catalog"),
    ("fill, take the sky off", "task", "prepare"),
    ("warp", "task", "warp"),
    ("PSFs, orientation", "task", "align"),
    ("choose stars", "task", "choose"),
    ("fit the kernel", "task", "match"),
    ("subtract and whiten", "task", "subtract"),
    ("filter and detect", "task", "find"),
    ("measure", "find", "measure"),
)
REST = "start, imports, the end of writing"


class Stopwatch:
    """Wall and CPU seconds of each stage in the main thread; CPU is that of all threads meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {name: [0.0, 0.0] for name, _, _ in STAGES}
        self._open: list[str] = []
        self._last = (0.0, 0.0)

    def _charge(self) -> None:
        now = (time.perf_counter(), time.process_time())
        if self._open:
            for k in range(2):
                self.seconds[self._open[-1]][k] += now[k] - self._last[k]
        self._last = now

    def on(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The function with this stopwatch on it."""

        def timed(*words: Any, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return work(*words, **options)
            self._charge()
            self._open.append(name)
            try:
                return work(*words, **options)
            finally:
                self._charge()
                self._open.pop()

        return timed


def times(repository: Path, output: Path) -> dict[str, list[float]]:
    """Wall and CPU seconds of each stage of a run, the rest of the process as `REST`."""
    found = output.with_suffix(".json")
    command = [sys.executable, __file__, found, *engine.words(repository, output)]
    used = engine.run(command, output.with_suffix(".log"))
    seconds: dict[str, list[float]] = json.loads(found.read_text(encoding="ascii"))
    rest = [used.wall, used.cpu]
    for spent in seconds.values():
        rest = [whole - part for whole, part in zip(rest, spent, strict=True)]
    return seconds | {REST: rest}


def main() -> int:
    """Run the engine and write what each stage took."""
    from diffrun.engine.__main__ import main as run
    from diffrun.threads import hold_algebra

    hold_algebra()  # before the stages are imported, as the program does
    watch = Stopwatch()
    for name, module, function in STAGES:
        place = import_module(f"diffrun.engine.{module}")
        setattr(place, function, watch.on(name, getattr(place, function)))
    status = run(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps(watch.seconds), encoding="ascii")
    return status


if __name__ == "__main__":
    sys.exit(main())
