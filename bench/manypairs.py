# SPDX-License-Identifier: BSD-3-Clause
"""What a campaign of very many pairs costs its driver: memory, ledger, time to go on after a kill.

    .venv/bin/python bench/manypairs.py                       100,000 pairs, about half an hour
    .venv/bin/python bench/manypairs.py --pairs 2000          half a minute

``diffrun campaign run`` is what users run, in a virtual environment of its own. The task is stubbed at the
process boundary: the Python of that environment is a program that, asked for one pair, takes the time of a
pair (in fast motion), writes a run folder with a record of real size, and says its digest. It is compiled:
a C compiler is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffrun

TEMPLATE = 900_001
DIGEST = "sha256:" + 64 * "5"
#: Bytes of the record of a real run of one sensor.
RECORD = 11_000
STUB = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* The Python of the bench; asked for one pair, it is the task. */
int main(int argc, char **argv)
{
    char *output = NULL, path[4096];
    int pair = 0;
    for (int i = 1; i + 1 < argc; i++) {
        pair |= !strcmp(argv[i], "diffrun.cli") && !strcmp(argv[i + 1], "--science");
        if (!strcmp(argv[i], "--output")) output = argv[i + 1];
    }
    if (!pair || !output) {
        execv(PYTHON, argv);
        return 127;
    }
    usleep(MICROSECONDS);
    snprintf(path, sizeof path, "%s/record.json", output);
    if (mkdir(output, 0777) && errno != EEXIST) return 1;
    FILE *record = fopen(path, "w");
    if (!record || fputs(RECORD, record) < 0 || fclose(record)) return 1;
    return puts("{\"digest\": \"" DIGEST "\"}") < 0;
}
"""


@dataclass
class Bench:
    """One campaign, with a stub for its pairs."""

    place: Path
    pairs: int
    executor: str
    workers: int
    numbers: dict[str, float] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    @property
    def out(self) -> Path:
        """The campaign's folder."""
        return self.place / "campaign"

    @property
    def ledger(self) -> Path:
        """Its ledger."""
        return self.out / "ledger.jsonl"

    def build(self, seconds: float) -> None:
        """The environment, its program, the table of pairs."""
        python = self.place / "venv/bin/python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.place / "venv")], check=True)
        (packages,) = (self.place / "venv").glob("lib/python*/site-packages")
        known = [*site.getsitepackages(), str(Path(diffrun.__file__).parents[1])]
        (packages / "bench.pth").write_text("\n".join(known) + "\n")
        names = {"PYTHON": str(python.resolve()), "RECORD": json.dumps(made_record()), "DIGEST": DIGEST}
        python.unlink()
        words = [f"-D{name}={json.dumps(text)}" for name, text in names.items()]
        words += [f"-DMICROSECONDS={round(1e6 * seconds)}", "-O2", "-static", "-o", str(python), "-xc", "-"]
        subprocess.run(["cc", *words], input=STUB.encode(), check=True)
        lines = (f"{visit},{TEMPLATE}\n" for visit in range(1, self.pairs + 1))
        (self.place / "pairs.csv").write_text("science,template\n" + "".join(lines))
        (self.place / "repo").mkdir()
        (self.out / "runs").mkdir(parents=True)

    def command(self, *words: str) -> subprocess.Popen[bytes]:
        """``diffrun campaign WORDS``."""
        line = [str(self.place / "venv/bin/python"), "-m", "diffrun.cli", "campaign", *words]
        with (self.place / "log.txt").open("ab") as log:
            return subprocess.Popen(line, stdout=log, stderr=log, env={**os.environ, "HOME": str(self.place)})

    def run(self) -> subprocess.Popen[bytes]:
        """The command that users give again and again."""
        words = ["--pairs", str(self.place / "pairs.csv"), "--repo", str(self.place / "repo")]
        words += ["--output", str(self.out), "--executor", self.executor, "--workers", str(self.workers)]
        return self.command("run", *words)

    def written(self) -> int:
        """Bytes of the ledger."""
        return self.ledger.stat().st_size if self.ledger.exists() else 0

    def halfway(self) -> bool:
        """Whether half of the pairs are over."""
        return self.done() >= self.pairs // 2

    def done(self) -> int:
        """Run folders that there are."""
        runs = self.out / "runs"
        return runs.stat().st_nlink - 2 if runs.exists() else 0

    def watch(self, child: subprocess.Popen[bytes], until: Callable[[], bool], name: str) -> None:
        """Wait, and note how much memory the driver has, at a tenth of the pairs and at most."""
        peak, early = f"{name}: most memory, MiB", f"{name}: memory at a tenth, MiB"
        while child.poll() is None and not until():
            memory = resident(child.pid)
            self.numbers[peak] = max(memory, self.numbers.get(peak, 0.0))
            if self.done() < self.pairs // 10:
                self.numbers[early] = memory
            time.sleep(0.2)

    def measure(self) -> None:
        """Half a campaign, a kill, the other half, and the same command when there is nothing to do."""
        begun = time.monotonic()
        child = self.run()
        self.watch(child, self.halfway, "first half")
        child.send_signal(signal.SIGKILL)
        self.ended(child, -signal.SIGKILL)
        self.numbers["pairs a second"] = self.done() / (time.monotonic() - begun)
        self.tell()
        time.sleep(3.0)
        before, begun = self.written(), time.monotonic()
        child = self.run()
        self.watch(child, lambda: self.written() > before, "second half")
        self.numbers["restart halfway until the first pair, s"] = time.monotonic() - begun
        self.watch(child, lambda: False, "second half")
        self.ended(child, 0)
        self.tell()
        for name, start in (("all done, same command", self.run), ("status", self.status)):
            begun = time.monotonic()
            child = start()
            self.watch(child, lambda: False, name)
            self.ended(child, 0)
            self.numbers[f"{name}, s"] = time.monotonic() - begun
        self.numbers["ledger, MiB"] = self.written() / 2**20
        self.numbers["done"] = self.done()
        self.tell()

    def ended(self, child: subprocess.Popen[bytes], status: int) -> None:
        """Wait; `SystemExit` with its last words if it ends in another way."""
        if child.wait() != status:
            raise SystemExit((self.place / "log.txt").read_text()[-1000:])

    def tell(self) -> None:
        """Print what is new."""
        for name in [name for name in self.numbers if name not in self.told]:
            print(f"{name}: {self.numbers[name]:.1f}", flush=True)
            self.told.add(name)

    def status(self) -> subprocess.Popen[bytes]:
        """How it stands."""
        return self.command("status", str(self.out))


def made_record() -> dict[str, Any]:
    """A record with what a campaign reads of it, and filling."""
    place = {"raft": "2,2", "sensor": "1,1", "filter": "r"}
    plan = {"digest": DIGEST, "science": [{"visit": 1, **place}], "template": [{"visit": TEMPLATE, **place}]}
    found: dict[str, Any] = {"schema": "diffrun.record/2", "plan": plan, "summaries": {}, "seconds": {}}
    return found | {"inputs": (RECORD - len(json.dumps(found))) // 100 * [90 * "0"]}


def resident(pid: int) -> float:
    """Memory of a process in MiB."""
    try:
        line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0.0
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--executor", choices=("local", "parsl"), default="local")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--task", type=float, default=60.0, help="seconds of a pair")
    parser.add_argument("--faster", type=float, default=600.0, help="fast motion")
    parser.add_argument("--folder", type=Path, help="on the file system to be tried")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="diffrun-bench-", dir=options.folder) as folder:
        bench = Bench(Path(folder), options.pairs, options.executor, options.workers)
        bench.build(options.task / options.faster)
        bench.measure()


if __name__ == "__main__":
    main()
