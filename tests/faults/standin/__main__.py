# SPDX-License-Identifier: BSD-3-Clause
"""The stand-in for ``imageDifference.py``; ``--config standin=WAY`` chooses the way in which it ends."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FITS = b"".join(
    f"{card:<80}".encode()
    for card in (
        "SIMPLE  =                    T",
        "BITPIX  =                    8",
        "NAXIS   =                    0",
        "END",
    )
)
FITS += b" " * (2880 - len(FITS))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def products(out: Path) -> None:
    folder = out / "deepDiff/v230-fr/R22"
    folder.mkdir(parents=True)
    (out / "config").mkdir()
    (out / "config/deepDiff.py").write_text("config.doWriteMatchedExp=True\n")
    for name in ("diffexp", "matchexp", "diaSrc"):
        (folder / f"{name}-S11.fits").write_bytes(FITS)
    (folder / "metadata-S11.boost").write_text("no clock\n")


def spoil(out: Path, way: str) -> None:
    """What a bad program does to its products."""
    folder = out / "deepDiff/v230-fr/R22"
    if way == "missing":
        (folder / "diaSrc-S11.fits").unlink()
    elif way == "short":
        (folder / "diffexp-S11.fits").write_bytes(FITS[:1000])
    elif way == "link":
        (folder / "secret.fits").symlink_to("/etc/passwd")
    elif way == "pipe":
        os.mkfifo(folder / "pipe")
    elif way == "moody":
        (folder / "metadata-S11.boost").write_text(os.urandom(8).hex())


def fail(way: str, parser: argparse.ArgumentParser) -> None:
    """End as a bad program does."""
    if way == "data":
        say("imageDifference FATAL: Failed on dataId={'visit': 230}: no \x1b[31mstars\x1b]0;owned\x07")
        sys.exit(1)
    reasons = {
        "full": "no room to write x: 9 bytes needed",
        "absent": "no calexpBackground of {'visit': 230}: x",
    }
    if way in reasons:
        say(f"imageDifference FATAL: Failed on dataId={{'visit': 230}}: {reasons[way]}")
        sys.exit(1)
    if way == "usage":
        parser.error("cannot set config.standin=usage: it is not a field")
    if way == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


def stay(out: Path, way: str) -> None:
    """Work for ever, with a worker or alone."""
    if way == "hang":
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        write_at_once(out / "pids", f"{os.getpid()} {worker.pid}")
        time.sleep(600)
    if way == "wait":
        write_at_once(out / "pids", str(os.getpid()))
        time.sleep(600)


def write_at_once(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def talk(repo: Path, way: str) -> None:
    if way == "escapes":
        say("imageDifference WARN: \x1b]0;owned\x07 \u202e \x9b2J")
    if way == "environment":
        say("imageDifference INFO: ENVIRONMENT " + " ".join(sorted(os.environ)))
        say("imageDifference INFO: PATH_IS " + " ".join(sys.path))
    if way == "touch":
        (repo / "calexp/v230-fr/R22/S11.fits").write_bytes(b"other pixels")


def main() -> int:
    parser = argparse.ArgumentParser(prog="imageDifference.py")
    parser.add_argument("repo", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--config", default="standin=well")
    parser.add_argument("--id", nargs="*")
    parser.add_argument("--templateId", nargs="*")
    parser.add_argument("--configfile", action="append")
    options = parser.parse_args()
    way = options.config.partition("=")[2]
    say("imageDifference INFO: Processing {'visit': 230}")
    say("imageDifference INFO: Subtracting images")
    fail(way, parser)
    stay(options.output, way)
    talk(options.repo, way)
    if way != "nothing":
        products(options.output)
        spoil(options.output, way)
    return 0


if __name__ == "__main__":
    sys.exit(main())
