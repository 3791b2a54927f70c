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


def products(out: Path, way: str) -> None:
    folder = out / "deepDiff/v230-fr/R22"
    folder.mkdir(parents=True)
    (out / "config").mkdir()
    (out / "config/deepDiff.py").write_text("config.doWriteMatchedExp=True\n")
    for name in ("diffexp", "matchexp", "diaSrc"):
        (folder / f"{name}-S11.fits").write_bytes(FITS[:1000] if way == "short" else FITS)
    (folder / "metadata-S11.boost").write_text("no clock\n")
    if way == "missing":
        (folder / "diaSrc-S11.fits").unlink()
    if way == "link":
        (folder / "secret.fits").symlink_to("/etc/passwd")


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
    if way == "data":
        say("imageDifference FATAL: Failed on dataId={'visit': 230}: no \x1b[31mstars\x1b]0;owned\x07")
        return 1
    if way == "usage":
        parser.error("cannot set config.standin=usage: it is not a field")
    if way == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "hang":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (options.output / "pid").write_text(str(os.getpid()))
        time.sleep(600)
    if way == "environment":
        say("imageDifference WARN: " + " ".join(sorted(os.environ)))
    if way != "nothing":
        products(options.output, way)
    return 0


if __name__ == "__main__":
    sys.exit(main())
