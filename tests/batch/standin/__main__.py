# SPDX-License-Identifier: BSD-3-Clause
"""The stand-in for ``imageDifference.py``; with ``--config standin=slow`` it works for a second, with
``standin=gate`` until the gate is open.

Each start leaves a line in ``starts`` beside the repository; the gate is the file ``gate`` there.
"""

import argparse
import contextlib
import hashlib
import os
import sys
import time
from pathlib import Path

CARDS = ("SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0")


def fits(comment: str) -> bytes:
    cards = "".join(f"{card:<80}" for card in (*CARDS, f"COMMENT {comment}", "END"))
    return f"{cards:<2880}".encode()


def calexp(repo: Path, keys: dict[str, str], place: dict[str, str]) -> bytes:
    folder = repo / f"calexp/v{keys['visit']}-f{keys['filter']}/R{place['raft'].replace(',', '')}"
    return (folder / f"S{place['sensor'].replace(',', '')}.fits").read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(prog="imageDifference.py")
    parser.add_argument("repo", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--config", default="standin=well")
    parser.add_argument("--id", nargs="*")
    parser.add_argument("--templateId", nargs="*")
    parser.add_argument("--configfile", action="append")
    options = parser.parse_args()
    science, template = (dict(word.split("=") for word in each) for each in (options.id, options.templateId))
    print(f"imageDifference INFO: Processing {science}", file=sys.stderr, flush=True)
    with (
        contextlib.suppress(OSError),
        (options.repo.parent / "starts").open("a") as starts,
    ):  # not in an image
        starts.write(f"{science['visit']} {template['visit']} {os.environ.get('SLURM_RESTART_COUNT')}\n")
    way = options.config.partition("=")[2]
    while way == "gate" and not (options.repo.parent / "gate").exists():
        time.sleep(0.05)
    if way == "slow":
        time.sleep(1.0)
    if way == "bad":
        print(f"imageDifference FATAL: Failed on dataId={science}: no stars", file=sys.stderr)
        return 1
    both = calexp(options.repo, science, science) + b"-" + calexp(options.repo, template, science)
    word = hashlib.sha256(both).hexdigest()
    raft, sensor = (science[key].replace(",", "") for key in ("raft", "sensor"))
    folder = options.output / f"deepDiff/v{science['visit']}-f{science['filter']}/R{raft}"
    folder.mkdir(parents=True)
    (options.output / "config").mkdir()
    (options.output / "config/deepDiff.py").write_text("config.doWriteMatchedExp=True\n")
    for name in ("diffexp", "matchexp", "diaSrc"):
        (folder / f"{name}-S{sensor}.fits").write_bytes(fits(f"{name} {word[:40]}"))
    (folder / f"metadata-S{sensor}.boost").write_text("no clock\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
