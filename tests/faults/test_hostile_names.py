# SPDX-License-Identifier: BSD-3-Clause
"""31 hostile ids and 40 hostile folder names through the command line."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Launcher, make_repository
from diffrun.errors import UsageError
from diffrun.integrity import examine
from diffrun.request import Request

IDS = (
    "", " ", "230 ", " 230", "+230", "-230", "0230", "0x10", "1e3", "2_30", "230.0", "230..", "..",
    "../../etc/passwd", "/etc/passwd", "230;touch owned", "$(touch owned)", "`touch owned`",
    "230|touch owned", "230&&touch owned", "230\ntouch owned", "230\r", "\u202e032", "٢٣٠", "２３０", "²³⁰",
    "4294967296", "9" * 400, "%s%n", "\x1b[31m230", "nan",
)  # fmt: skip
NAMES = (
    "a b", "a,b", "a:b", "a;b", "a'b", 'a"b', "a\nb", "a\tb", "a\rb", "a\\b", "$HOME", "$(touch owned)",
    "`touch owned`", "a&touch owned&", "a|b", "a>owned", "a<b", "a*b", "a?b", "[ab]", "{a,b}", "~", "~root",
    "-rf", "--output", "a=b", "a%sb", "a#b", "!a", "é", "日本語", "\u202eabc", "\x1b[31mred", "\x7f",
    " leading", "trailing ", "...", ".hidden", "a" * 200, os.fsdecode(b"\xff\xfe"),
)  # fmt: skip
#: Those that are truly run: each of another kind.
RUN = (
    "a,b", "a:b", "a'b", 'a"b', "a\nb", "$(touch owned)", "~", "--output", "{a,b}", "\x1b[31mred", " leading",
    os.fsdecode(b"\xff\xfe"),
)  # fmt: skip


def test_there_are_as_many_as_were_set() -> None:
    assert (len(set(IDS)), len(set(NAMES)), len(set(RUN) & set(NAMES))) == (31, 40, 12)


#: Calls the command's own entry point with each list of words, and tells how each ended and what it said.
PROGRAM = """
import contextlib, io, json, sys
from diffrun.cli import main
def call(words):
    sys.argv = ["diffrun", *words]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as stop:
            return [stop.code, out.getvalue(), err.getvalue()]
json.dump([call(words) for words in json.load(sys.stdin)], sys.stdout)
"""


def call(launcher: Launcher, commands: list[list[str]], here: Path) -> list[tuple[int, str, str]]:
    """Each command in turn, in one process: 71 of them would take a minute to start."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(commands), cwd=here,
        env=launcher.environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(found) for found in json.loads(done.stdout)]


@pytest.mark.parametrize("runtime", ["native", "docker", "podman", "apptainer", "shifter"])
def test_hostile_ids(launcher: Launcher, tmp_path: Path, runtime: str) -> None:
    """Each is refused in one line without a control character, and nothing is made or started."""
    here = tmp_path / "here"
    here.mkdir()
    where = ["--runtime", runtime, *([] if runtime == "native" else ["--image", "diffrun-engine"])]
    sides = [("science", "template")[number % 2] for number in range(len(IDS))]
    pairs = list(zip(sides, IDS, strict=True))
    commands = [
        launcher.argv("--output", str(here / "run"), *where, **{side: text})[3:] for side, text in pairs
    ]
    for (side, text), (code, out, err) in zip(pairs, call(launcher, commands, here), strict=True):
        assert (code, out) == (2, ""), text
        assert err.startswith(f"diffrun: error: --{side} "), text
        assert err.rstrip("\n").isprintable(), text
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("key", ["science", "template", "raft", "sensor", "filter", "template_filter"])
def test_hostile_ids_as_any_key(key: str) -> None:
    """A filter may have many names, but none that leaves its folder or hides in it."""
    for text in IDS:
        typed = {"science": "230", "template": "250", key: text}
        try:
            found = getattr(Request.parse(typed), key)
        except UsageError:
            continue
        assert key.endswith("filter"), text
        assert found == text
        assert text.isascii()
        assert "/" not in text
        assert text[0] not in ".-"


def test_hostile_folders_in_the_command(launcher: Launcher, tmp_path: Path) -> None:
    """The line that ``--dry-run`` prints, read by a shell, has the very paths as single words."""
    place = tmp_path / "place"
    repositories = [make_repository(place / name / "repo") for name in NAMES]
    words = [("--output", str(repo.with_name("run")), "--dry-run") for repo in repositories]
    commands = [
        replace(launcher, repo=repo).argv(*more)[3:] for repo, more in zip(repositories, words, strict=True)
    ]
    for repo, (code, out, err) in zip(repositories, call(launcher, commands, place), strict=True):
        assert code == 0, err
        told = shlex.split(out)
        assert str(repo) in told
        assert told[told.index("--output") + 1] == str(repo.with_name("run"))
    assert sorted(path.name for path in place.iterdir()) == sorted(NAMES)
    assert all([path.name for path in (place / name).iterdir()] == ["repo"] for name in NAMES)


@pytest.mark.parametrize("name", RUN, ids=ascii)
def test_hostile_folders_in_a_run(standin_source: Path, tmp_path: Path, name: str) -> None:
    """Run, found again by its record, and verified; nothing else appears anywhere."""
    launcher = Launcher(standin_source, make_repository(tmp_path / name / "repo"), tmp_path)
    out = tmp_path / name / "run"
    argv = [os.fsencode(word) for word in launcher.argv("--output", str(out), "-q")]
    done = subprocess.run(argv, env=launcher.environment(), capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert examine(out).findings == ()
    made = json.loads((out / "record.json").read_bytes())
    assert made["plan"]["output"] == str(out)
    assert shlex.split(made["datalad_run"]["cmd"].replace("{{", "{").replace("}}", "}"))[-1] == "run"
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["repo", "run"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_path_that_is_not_text_is_printed_as_it_is(standin_source: Path, tmp_path: Path) -> None:
    """Whatever the terminal's own handling of such bytes is: ``strict`` is that of most locales."""
    launcher = Launcher(standin_source, make_repository(tmp_path / NAMES[-1] / "repo"), tmp_path)
    argv = [os.fsencode(word) for word in launcher.argv("--output", str(tmp_path / "run"), "--dry-run")]
    strict = launcher.environment(PYTHONIOENCODING="utf-8:strict")
    done = subprocess.run(argv, env=strict, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert os.fsencode(launcher.repo) in done.stdout
