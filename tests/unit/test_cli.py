# SPDX-License-Identifier: BSD-3-Clause
"""The command ``diffrun`` as it is typed, in a process of its own, and completed in each shell of here."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import diffrun
from diffrun.errors import DiffrunError, OutputError, RepositoryError, UsageError

#: bash is everywhere; the others are tested where they are installed.
SHELLS = ["bash", *(shell for shell in ("zsh", "fish") if shutil.which(shell))]


def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIFFRUN_")}
    return subprocess.run(
        [sys.executable, "-m", "diffrun.cli", *words],
        env={**environment, "COLUMNS": "100", **more}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_version() -> None:
    assert run("--version").stdout == f"diffrun {diffrun.__version__}\n"


def test_help_names_every_option_and_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    what = "--science --template --repo --raft --sensor --filter --template-filter check doctor visits"
    how = "--output --config --configfile --site --program --runtime -j"
    limits = "--min-coverage --min-stars --max-offset --max-noise --max-memory"
    for word in f"{what} {how} {limits} -v -q --dry-run --json --version".split():
        assert word in done.stdout


def test_help_is_fast() -> None:
    """0.4 s of processor time is the limit; the best of three, since the machine has other work."""
    used = []
    for _ in range(3):
        before = os.times()
        run("--help")
        after = os.times()
        used.append(sum(after[2:4]) - sum(before[2:4]))
    assert min(used) < 0.4


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "--science is missing"),
        (("--science", "230"), 2, "--template is missing"),
        (("--science",), 2, "requires an argument"),
        (("--science", "1", "--template", "2", "--sceince", "3"), 2, "No such option"),
        (("--science", "1", "--template", "2", "extra"), 2, "No such command"),
        (("--science", "a\x1b[31m", "--template", "2"), 2, "is not a visit"),
        (("--science", "1", "--template", "2", "--site", "lapptop"), 2, "did you mean 'laptop'?"),
        (("--science", "1", "--template", "2", "--program", "enginee"), 2, "did you mean 'engine'?"),
        (("--science", "1", "--template", "2", "--program", "stack"), 2, "runs in an image only"),
        (("--science", "1", "--template", "2", "-v", "-q"), 2, "exclude each other"),
        (("--science", "1", "--template", "2", "--repo", "/none"), 3, "/none is not a folder"),
        (("--science", "1", "--template", "2", "-j", "0"), 2, "not a number of jobs"),
    ],
)
def test_a_refusal_is_one_line_with_its_code(words: tuple[str, ...], code: int, told: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("diffrun: error: ")
    assert told in done.stderr
    assert "\x1b" not in done.stderr


def test_each_kind_of_error_has_its_documented_code() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "exit-codes.md"
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", page.read_text(), re.MULTILINE)}
    kinds = {kind.exit_code for kind in (DiffrunError, UsageError, RepositoryError, OutputError)} | {4}
    assert kinds | {0, 130, 143} <= codes


def test_doctor() -> None:
    done = run("doctor")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ok +engine +starts$", done.stdout, re.MULTILINE)
    assert "all is well" in done.stdout
    found = json.loads(run("doctor", "--json").stdout)
    assert found["well"] is True
    assert found["runtime"]["seen"].startswith("native")


def test_doctor_names_what_is_not_well() -> None:
    done = run(
        "doctor",
        DIFFRUN_RUNTIME="docker",
        DIFFRUN_IMAGE="a:b",
        DOCKER_HOST="unix:///none",
        DIFFRUN_OTPUT="/x",
    )
    assert done.returncode == 1
    assert re.search(r"^BAD +settings +cannot reach a Docker server", done.stdout, re.MULTILINE)
    assert "did you mean 'DIFFRUN_OUTPUT'?" in done.stdout


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A folder for PATH with the command ``diffrun``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "diffrun"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m diffrun.cli "$@"\n')
    script.chmod(0o755)
    return folder


def completion(shell: str, command: Path) -> str:
    done = run(_DIFFRUN_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    return done.stdout


def complete(shell: str, command: Path, line: str) -> str:
    """What the shell makes of a line when the user asks it to complete the last word."""
    script = command / f"completion.{shell}"
    script.write_text(completion(shell, command))
    path = f"{command}:{os.environ['PATH']}"
    if shell == "bash":
        ask = (
            f"source {script}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1));"
            ' _diffrun_completion diffrun; echo "${COMPREPLY[@]}"'
        )
        words = ["bash", "--norc", "-c", ask]
    elif shell == "fish":
        words = ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"]
    else:
        return press_tab(script, path, line)
    done = subprocess.run(words, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def press_tab(script: Path, path: str, line: str) -> str:
    """Type into an interactive zsh on a terminal of its own."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(
            "zsh",
            ["zsh", "-f", "-i"],
            {**os.environ, "PATH": path, "TERM": "dumb", "HOME": str(script.parent)},
        )
    try:
        for text, until in (
            ("PS1='>'; autoload -Uz compinit; compinit -u -D; echo rea''dy\n", "ready"),
            (f"source {script}; echo sour''ced\n", "sourced"),
            (f"{line}\t", line + "e"),
        ):
            os.write(terminal, text.encode())
            seen = read_until(terminal, until)
        return seen
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def read_until(terminal: int, words: str) -> str:
    seen = ""
    end = time.monotonic() + 30
    while words not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536).decode("utf-8", "replace")
    return seen


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_completes_options(shell: str, command: Path) -> None:
    assert "--site" in complete(shell, command, "diffrun --sit").replace("--sit\t", "")


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != "zsh"])
def test_the_shell_completes_values_and_commands(shell: str, command: Path) -> None:
    assert "perlmutter" in complete(shell, command, "diffrun --site per")
    assert "engine" in complete(shell, command, "diffrun --program e")
    assert "doctor" in complete(shell, command, "diffrun doc")
