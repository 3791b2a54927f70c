# SPDX-License-Identifier: BSD-3-Clause
"""The stand-in for Shifter on the user's desk, with an image of this machine."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from slurmdesk import Desk, interpreter

IDENTITY = "5b" * 32


def image_of_this_machine(desk: Desk) -> dict[str, Any]:
    """A site of the stand-in for Shifter; its image holds this machine's programs and the stand-in engine."""
    programs = desk.place / "programs"
    programs.mkdir()
    shutil.copy2(desk.source / "diffrun" / "containers" / "diffrun-entry", programs)
    engine = f'PYTHONPATH={desk.source} exec {interpreter()} -s -P -m diffrun.engine "$@"'
    (programs / "imageDifference.py").write_text(f"#!/bin/sh\n{engine}\n")
    for path in programs.iterdir():
        path.chmod(0o755)
    top = [f"/{name}" for name in ("bin", "etc", "lib", "lib64", "usr", "var") if Path("/", name).exists()]
    image = {name: name for name in top} | {"/usr/local/bin": str(programs)}
    known = {IDENTITY: {"tree": image, "env": {"PATH": "/usr/local/bin:/usr/bin:/bin"}}}
    images = {"tags": {"docker:diffrun-engine:1": IDENTITY}, "ids": known}
    return {"images": images, "site_fs": [str(desk.source.parent)], "allow_root": False, "setup_seconds": 0.1}


def put_shifter(desk: Desk) -> str:
    """The stand-in for Shifter in a folder for `PATH`, which is returned."""
    if not shutil.which("bwrap"):
        pytest.skip("no bwrap: apt-get install bubblewrap")
    folder = desk.place / "bin"
    folder.mkdir()
    (folder / "site.json").write_text(json.dumps(image_of_this_machine(desk)))
    for name in ("shifter", "shifterimg"):
        words = [
            interpreter(),
            "-E",
            "-s",
            str(desk.source.parent / "standins" / f"{name}.py"),
            f"{folder}/site.json",
        ]
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def at_shifter(desk: Desk) -> tuple[list[str], dict[str, str]]:
    """Options and variables of a command whose program runs under the stand-in."""
    path = put_shifter(desk)
    site = desk.place / "site.yaml"
    site.write_text("program: engine\nruntime: shifter\nbatch:\n  shifter_plugin: true\n")
    return ["--site", str(site), "--image", "diffrun-engine:1"], {"PATH": path}
