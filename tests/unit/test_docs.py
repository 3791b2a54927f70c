# SPDX-License-Identifier: BSD-3-Clause
"""What the documentation says must be there, and its commands must be understood."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from astropy.io import fits

import diffrun
from diffrun.commands import app

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted(CHECKOUT.glob("*.md")) + sorted((CHECKOUT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
CODE = re.compile(r"^(?:    |\t)(?:\$ )?(.*\bdiffrun --science.*)$", re.MULTILINE)

IMAGE = re.compile(r"\.fits?(\.gz)?$")
#: Any other command of ours, with the lines that it goes on over.
LINE = re.compile(r"^(?:    |\t)(?:\$ )?(?:srun [^\n]*?)?(diffrun [a-z](?:.*\\\n)*.*)$", re.MULTILINE)

WANTING = re.compile(r"cannot reach a Docker server|there is no command|has no image|no image is known")


def name(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_speak_of_the_project_alone(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"/(?:root|tmp|work)/|/home/\w", text)


def commands() -> list[str]:
    """Every ``diffrun --science`` command of the pages, without what installs it."""
    found = {line for page in PAGES for line in CODE.findall(page.read_text(encoding="utf-8"))}
    return sorted({line.split("&&")[-1].split("#")[0].strip() for line in found})


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    for number, word in enumerate(words):
        if IMAGE.search(word):
            fits.writeto(tmp_path / word, np.full((64, 64), number, np.int16))
    assert Path(words[0]).name == "diffrun"
    program = "import sys, diffrun.cli; sys.argv[0] = 'diffrun'; diffrun.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words[1:], "--dry-run"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={
            **os.environ,
            "XDG_CACHE_HOME": str(tmp_path),
            "PYTHONPATH": str(Path(diffrun.__file__).parents[1]),
        },
    )
    if "--runtime" in words and done.returncode == 2:  # all was understood up to what this machine lacks
        assert WANTING.search(done.stderr), done.stderr
    else:
        assert done.returncode == 0, done.stderr


def lines() -> list[str]:
    """Every ``diffrun WORD ...`` of the pages."""
    found = {line for page in PAGES for line in LINE.findall(page.read_text(encoding="utf-8"))}
    return sorted(" ".join(line.replace("\\\n", " ").split("#")[0].split()) for line in found)


@pytest.mark.parametrize("line", lines())
def test_commands_and_options_are_there(line: str) -> None:
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert given <= known | {"-h", "--help"}, line
