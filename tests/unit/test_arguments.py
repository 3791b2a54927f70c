# SPDX-License-Identifier: BSD-3-Clause
"""The command line against the rules of pipe_base 12.1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffrun.engine.arguments import Help, TypedId, parse
from diffrun.errors import UsageError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("INPUT", "OUTPUT", "CALIB"):
        monkeypatch.delenv(f"PIPE_{name}_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "repo").mkdir()
    return tmp_path / "repo"


def ids(*argv: str) -> list[dict[str, int | str]]:
    return [typed.keys for typed in parse(["repo", "--id", *argv]).ids]


def test_the_recipe(root: Path) -> None:
    found = parse(
        [
            "repo",
            "--id",
            "visit=230",
            "--templateId",
            "visit=250",
            "--output",
            "out",
            "--configfile",
            "diffimconfig.py",
        ]
    )
    assert (found.input, found.output) == (root, root.parent / "out")
    assert found.ids == (TypedId({"visit": 230}),)
    assert found.template_ids == (TypedId({"visit": 250}),)
    assert found.overrides == (("file", "diffimconfig.py"),)
    assert (found.processes, found.timeout, found.do_raise, found.backup_config) == (1, 9999.0, False, True)


def test_cross_product_first_key_slowest(root: Path) -> None:
    assert ids("visit=1^2", "sensor=1,1^2,2") == [
        {"visit": 1, "sensor": "1,1"},
        {"visit": 1, "sensor": "2,2"},
        {"visit": 2, "sensor": "1,1"},
        {"visit": 2, "sensor": "2,2"},
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1..3", [1, 2, 3]), ("1..5:2", [1, 3, 5]), ("0^2..4^7..9", [0, 2, 3, 4, 7, 8, 9]), ("5..5", [5])],
)
def test_ranges(root: Path, text: str, expected: list[int]) -> None:
    assert [keys["visit"] for keys in ids(f"visit={text}")] == expected


def test_ids_of_ranges_are_known_as_such(root: Path) -> None:
    assert [typed.ranged for typed in parse(["repo", "--id", "visit=1..2^9"]).ids] == [True, True, False]


def test_ids_add_up_and_an_empty_one_is_everything(root: Path) -> None:
    found = parse(["repo", "--id", "visit=1", "--id", "--id", "raft=R22", "sensor=S11"])
    assert [typed.keys for typed in found.ids] == [{"visit": 1}, {}, {"raft": "2,2", "sensor": "1,1"}]
    assert parse(["repo"]).ids == ()


def test_overrides_keep_their_order(root: Path) -> None:
    found = parse(["repo", "-c", "a=1", "b=2", "-C", "f.py", "--config", "c=3", "--configf", "g.py"])
    assert found.overrides == (
        ("-c", "a=1"),
        ("-c", "b=2"),
        ("file", "f.py"),
        ("--config", "c=3"),
        ("file", "g.py"),
    )


def test_files_of_arguments(root: Path) -> None:
    Path("r.ids").write_text("--id visit=1 # the first\n\n# a comment\n  --id visit=2 'raft=2,2'\n")
    Path("all.args").write_text("@r.ids --output 'a b'\n")
    found = parse(["repo", "@all.args"])
    assert [typed.keys for typed in found.ids] == [{"visit": 1}, {"visit": 2, "raft": "2,2"}]
    assert found.output == root.parent / "a b"


@pytest.mark.parametrize("text", ["--id 'visit=1", "@loop.args", "\udcff"])
def test_files_of_arguments_that_cannot_be_read(root: Path, text: str) -> None:
    Path("loop.args").write_bytes(os.fsencode(text))
    with pytest.raises(UsageError):
        parse(["repo", "@loop.args"])
    with pytest.raises(UsageError, match=r"missing\.args"):
        parse(["repo", "@missing.args"])


def test_roots_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPE_INPUT_ROOT", str(root.parent))
    monkeypatch.setenv("PIPE_OUTPUT_ROOT", "/somewhere")
    monkeypatch.chdir("/")
    found = parse(["repo", "--output", "out"])
    assert (found.input, found.output) == (root, Path("/somewhere/out"))
    assert parse(["repo", "--output", "/else/out"]).output == Path("/else/out")
    assert parse(["repo"]).output is None


def test_reruns(root: Path) -> None:
    assert parse(["repo", "--rerun", "new"]).output == root / "rerun" / "new"
    (root / "rerun" / "first").mkdir(parents=True)
    found = parse(["repo", "--rerun", "first:second"])
    assert (found.input, found.output) == (root / "rerun" / "first", root / "rerun" / "second")
    (root / "rerun" / "first" / "_parent").symlink_to(root)
    assert parse(["repo", "--rerun", "first"]).input == root


def test_levels_and_prefixes(root: Path) -> None:
    found = parse(
        ["repo", "--loglevel", "Debug", "imageDifference.subtract=warn", "--longl", "--clobber-c", "--dor"]
    )
    assert found.log_levels == (("", "DEBUG"), ("imageDifference.subtract", "WARN"))
    assert (found.long_log, found.clobber_config, found.do_raise) == (True, True, True)


def test_show(root: Path) -> None:
    assert parse(["repo", "--show", "config=*a=b*", "data"]).only_shows
    assert not parse(["repo", "--show", "tasks", "run"]).only_shows
    assert not parse(["repo"]).only_shows


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--id visit=1 visit=2", "visit appears multiple times in one ID argument: --id"),
        ("--id ccd=1,1 sensor=1,2", "sensor is given twice"),
        ("--id visit=abc", "Cannot cast value 'abc' to int for ID key 'visit'"),
        ("--id visit=", "Cannot cast value '' to int"),
        ("--id visit=1^", "Cannot cast value ''"),
        ("--id visit", "--id visit must be in form KEY=VALUE"),
        (
            "--id visit=230 tract=0",
            r"Unrecognized ID key 'tract'; valid keys are: \['filter', 'raft', 'sensor', 'visit'\]",
        ),
        ("--templateId patch=0,0", "Unrecognized ID key 'patch'"),
        ("--id raft=22", "Invalid raft identifier: '22'; write it as raft=2,2 or raft=R22"),
        ("--id visit=5..1", "the range 5..1"),
        ("--id visit=0..99999999", "the range"),
        ("--id visit=1..9999 raft=0,0^0,1^0,2 sensor=0..99", "more than 1000000 data ids|Invalid sensor"),
        ("--show history", "Unknown value for show: history"),
        ("--loglevel loud", "loglevel='loud' not one of"),
        ("--logdest file", "unrecognized arguments: --logdest file"),
        ("--clobber", "ambiguous option: --clobber"),
        ("--debug", "--debug is not implemented"),
        ("-j 0", "0 is not a number of processes"),
        ("-j two", "invalid int value: 'two'"),
        ("--output a --rerun b", "cannot specify both --output and --rerun"),
        ("--rerun a:b:c", "invalid argument for --rerun: a:b:c"),
        ("--rerun a:b", "rerun/a' not found"),
        ("--clobber-output", "only valid with --output or --rerun"),
        ("--output repo --clobber-output", "not valid when the output and input repos are the same"),
    ],
)
def test_refusals(root: Path, argv: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(["repo", *argv.split()])


def test_the_first_argument_is_the_input(root: Path) -> None:
    with pytest.raises(UsageError, match=r"Error: input='.*/gone' not found"):
        parse(["gone"])
    for argv in ([], ["--id", "visit=1"], ["@file"], ["-h", "repo"]):
        with pytest.raises(Help) as caught:
            parse(argv)
        assert caught.value.error == "imageDifference.py: error: Must specify input as first argument"
    for argv in (["-h"], ["--help"], ["repo", "--help"]):
        with pytest.raises(Help) as caught:
            parse(argv)
        assert caught.value.error == ""


def test_help_has_every_option_of_the_stack(root: Path) -> None:
    with pytest.raises(Help) as caught:
        parse(["--help"])
    for option in (
        *(
            "--calib",
            "--output",
            "--rerun",
            "-c",
            "--config",
            "-C",
            "--configfile",
            "-L",
            "--loglevel",
            "--longlog",
        ),
        *(
            "--debug",
            "--doraise",
            "--profile",
            "--show",
            "-j",
            "--processes",
            "-t",
            "--timeout",
            "--clobber-output",
        ),
        *(
            "--clobber-config",
            "--no-backup-config",
            "--clobber-versions",
            "--no-versions",
            "--id",
            "--templateId",
        ),
    ):
        assert f"{option} " in caught.value.text or f"{option}\n" in caught.value.text


def test_arguments_are_judged_before_numpy_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from diffrun.engine.__main__ import main; status = main(sys.argv[1:]); "
        "sys.exit(status * 10 + ('numpy' in sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "--id", "visit=x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 20, ended.stderr
    assert ended.stderr.splitlines()[0] == "usage: imageDifference.py input [options]"
    assert len(ended.stderr.splitlines()) == 2
