# SPDX-License-Identifier: BSD-3-Clause
"""What tests of several runtimes need: hostile folder names, a small program, a launcher that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from diffrun.runtimes import ENGINE, Command, Job, supervise

#: Copies what it is shown into its output, and tries what it must not be able to do.
COPY = """\
while read -r name value; do case $name in Cap[EP]*|NoNew*) echo "$name $value"; esac; done </proc/self/status
touch "$1/written" 2>/dev/null && echo "wrote into the repository"
touch /written /usr/written 2>/dev/null && echo "wrote into the image"
echo "variables:" $(env | cut -d= -f1 | sort)
cp "$1/file" /output/copy"""
#: 40 names of folders, after those that cwltool, submitit and nextflow test with.
HOSTILE = (
    "a b", " a", "a ", "a:b", ":a", "a,b", "a;b", 'a"b', "a'b", "a`b`", "$(id)", "$HOME", "${IFS}", "a&b",
    "a|b", "a>b", "a<b", "a*b", "a?b", "[ab]", "{a,b}", "!a", "#a", "%41", "~a", "a=b", "a\\b", "a\\,b",
    "a\tb", "a\nb", "a\rb", "\x1b[31m", "é", "ü b", "日本", "🔭", "-rf", "--help", "a:b:ro", 'type=bind,"a',
)  # fmt: skip
assert len(set(HOSTILE)) == 40


def job(top: Path, name: str) -> Job:
    """A job whose repository and output have that name; the repository holds one file."""
    repository, output = top / "repo" / name, top / "out" / name
    for folder in (repository, output):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "file").write_text(name)
    return Job(ENGINE, (str(repository), "--output", str(output)), (repository,), output)


def run(command: Command) -> tuple[int, list[str]]:
    """Status and lines."""
    said: list[str] = []
    return supervise.follow(command, said.append), said


def launcher(*words: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """The command ``diffrun`` as a child."""
    argv = [sys.executable, "-c", "from diffrun.cli import main; main()", *words]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def whole_run(env: Mapping[str, str], folder: Path, subset: Path, *more: str) -> str:
    """One run of 230 - 195529; what was said."""
    child = launcher(
        "--repo", str(subset), "--science", "230", "--template", "195529", "--output", str(folder), *more,
        env=dict(env),
    )  # fmt: skip
    said, _ = child.communicate(timeout=300)
    return f"{said}\nstatus {child.returncode}"


def products(folder: Path) -> dict[str, bytes]:
    """The files that the program itself makes."""
    own = ("log.txt", "record.json", "ro-crate-metadata.json")
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in own)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def left(mark: str) -> list[str]:
    """Command lines of the living processes in which a text occurs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if mark in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


def stop_and_count(child: subprocess.Popen[str], mark: str, number: int, seconds: float) -> list[str]:
    """Wait until the program runs, send a signal to the launcher, and say what is left after a while."""
    assert child.stdout is not None
    with child, child.stdout as said:
        lines = []
        for line in said:
            lines.append(line)
            if "the program waits" in line:
                break
        running = wait_until(lambda: bool(left(mark)), 5)
        child.send_signal(signal.Signals(number) if running else signal.SIGKILL)
        wait_until(lambda: not left(mark), seconds)
        found = left(mark)
    assert running, lines
    return found


def wait_until(is_so: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so, or the time is over; whether it was so in the end."""
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()
