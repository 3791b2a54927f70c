# SPDX-License-Identifier: BSD-3-Clause
"""31 hostile ids and 40 hostile folder names through the command line."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
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


def test_hostile_ids(launcher: Launcher, tmp_path: Path) -> None:
    """Each is refused in one line without a control character, and nothing is made."""
    here = tmp_path / "here"
    here.mkdir()
    for number, text in enumerate(IDS):
        side = ("science", "template")[number % 2]
        argv = launcher.argv("--output", str(here / "run"), **{side: text})
        done = subprocess.run(argv, env=launcher.environment(), capture_output=True, text=True, cwd=here)
        assert (done.returncode, done.stdout) == (2, ""), text
        assert done.stderr.startswith(f"diffrun: error: --{side} "), text
        assert done.stderr.rstrip("\n").isprintable(), text
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


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_hostile_folders_in_the_command(standin_source: Path, tmp_path: Path, name: str) -> None:
    """The line that ``--dry-run`` prints, read by a shell, has the very paths as single words."""
    launcher = Launcher(standin_source, make_repository(tmp_path / name / "repo"), tmp_path)
    out = tmp_path / name / "run"
    argv = [os.fsencode(word) for word in launcher.argv("--output", str(out), "--dry-run")]
    done = subprocess.run(argv, env=launcher.environment(), capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = shlex.split(os.fsdecode(done.stdout))
    assert str(launcher.repo) in words
    assert words[words.index("--output") + 1] == str(out)
    assert [path.name for path in tmp_path.iterdir()] == [name]


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
