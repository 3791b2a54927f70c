# SPDX-License-Identifier: BSD-3-Clause
"""The launcher before a program that dies, lies, hangs or attacks: one line, a code, and no remains."""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import Launcher, alive, make_repository, wait_for
from diffrun.record import SCHEMA


def remains(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_good_program_is_published_with_its_record(launcher: Launcher, tmp_path: Path) -> None:
    out = tmp_path / "out/run"
    done = launcher.run("--output", str(out))
    assert done.returncode == 0, done.stderr
    assert remains(out.parent) == ["run"]
    record = json.loads((out / "record.json").read_bytes())
    assert record["schema"] == SCHEMA
    names = {output["name"] for output in record["outputs"]}
    there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert names == there - {"record.json", "ro-crate-metadata.json"}
    assert record["plan"]["science"] == [{"visit": 230, "filter": "r", "raft": "2,2", "sensor": "1,1"}]
    assert record["plan"]["template"][0]["filter"] == "g"
    assert "the bands differ" in done.stdout
    assert "195529" in done.stdout
    assert "1.002" in done.stdout


@pytest.mark.parametrize(
    ("way", "code", "words"),
    [
        ("data", 4, "no \\x1b[31mstars\\x1b]0;owned\\x07"),
        ("usage", 2, "cannot set config.standin=usage"),
        ("killed", 1, "ended by SIGKILL"),
        ("missing", 5, "diaSrc-S11.fits is missing"),
        ("short", 5, "diffexp-S11.fits is cut short"),
        ("link", 5, "secret.fits, which is not a plain file"),
        ("pipe", 5, "pipe, which is not a plain file"),
        ("nothing", 5, "wrote no configuration"),
        ("full", 5, "no room to write"),
        ("absent", 3, "no calexpBackground of"),
    ],
)
def test_a_failure_is_one_line_and_leaves_nothing(
    launcher: Launcher, tmp_path: Path, way: str, code: int, words: str
) -> None:
    done = launcher.run("--output", str(tmp_path / "out/run"), "--config", f"standin={way}", "-q")
    assert done.returncode == code
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert "\x1b" not in done.stderr
    assert remains(tmp_path / "out") == []


def test_no_escape_reaches_the_terminal_or_the_log(launcher: Launcher, tmp_path: Path) -> None:
    done = launcher.run("--output", str(tmp_path / "run"), "--config", "standin=escapes", "-v")
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, done.stderr, (tmp_path / "run/log.txt").read_text()):
        assert "\\x1b]0;owned\\x07" in text or text is done.stderr
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(
    launcher: Launcher, tmp_path: Path, end_at_last: list[int], number: signal.Signals
) -> None:
    running = launcher.start("--output", str(tmp_path / "out/run"), "--config", "standin=hang")
    notes = tmp_path / "out/.run.tmp/pids"
    wait_for(notes.is_file)
    pids = [int(pid) for pid in notes.read_text().split()]
    end_at_last += pids
    running.send_signal(number)
    _, errors = running.communicate(timeout=10)
    assert running.returncode == 128 + number
    assert errors == "diffrun: stopped; nothing was left behind\n"
    wait_for(lambda: not any(alive(pid) for pid in pids), 2)
    assert remains(tmp_path / "out") == []


def test_kill_9_leaves_no_process_and_the_next_run_cleans_up(
    launcher: Launcher, tmp_path: Path, end_at_last: list[int]
) -> None:
    words = ("--output", str(tmp_path / "out/run"))
    running = launcher.start(*words, "--config", "standin=wait")
    notes = tmp_path / "out/.run.tmp/pids"
    wait_for(notes.is_file)
    (engine,) = (int(pid) for pid in notes.read_text().split())
    end_at_last.append(engine)
    running.kill()
    running.communicate()
    wait_for(lambda: not alive(engine), 2)
    assert remains(tmp_path / "out") == [".run.lock", ".run.tmp"]
    done = launcher.run(*words)
    assert done.returncode == 0, done.stderr
    assert remains(tmp_path / "out") == ["run"]
    assert not (tmp_path / "out/run/pids").exists()


def test_the_same_command_again_finds_it_finished(launcher: Launcher, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert launcher.run("--output", str(out)).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = launcher.run("--output", str(out))
    assert again.returncode == 0
    assert "finished before" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    (out / "deepDiff/v230-fr/R22/diffexp-S11.fits").write_bytes(b"changed")
    changed = launcher.run("--output", str(out))
    assert changed.returncode == 5
    assert "diffexp-S11.fits has changed since the run" in changed.stderr


def test_another_plan_is_refused_with_the_differences(launcher: Launcher, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert launcher.run("--output", str(out)).returncode == 0
    other = launcher.run("--output", str(out), "--config", "doMerge=False")
    assert other.returncode == 5
    assert "config.0: none -> doMerge=False" in other.stderr
    assert "give another --output" in other.stderr
    other = launcher.run("--output", str(out), template="195529")
    assert other.returncode == 5
    assert "template.0.visit: 250 -> 195529" in other.stderr
    (launcher.repo / "calexp/v230-fr/R22/S11.fits").write_bytes(b"new pixels")
    other = launcher.run("--output", str(out))
    assert other.returncode == 5
    assert "inputs.calexp/v230-fr/R22/S11.fits" in other.stderr


def test_an_input_that_changes_meanwhile_is_noticed(launcher: Launcher, tmp_path: Path) -> None:
    done = launcher.run("--output", str(tmp_path / "run"), "--config", "standin=touch")
    assert done.returncode == 4
    assert "changed while it was in use" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["file", "folder with a file", "damaged record"])
def test_what_is_not_ours_is_never_replaced(launcher: Launcher, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / ("record.json" if kind == "damaged record" else "thesis.tex")).write_text("mine")
    done = launcher.run("--output", str(out))
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1
    assert (out if kind == "file" else next(out.iterdir())).read_text() == "mine"


def test_an_empty_folder_is_welcome(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert launcher.run("--output", str(tmp_path / "out")).returncode == 0
    assert (tmp_path / "out/record.json").is_file()


def test_an_output_in_the_repository_is_refused(launcher: Launcher) -> None:
    done = launcher.run("--output", str(launcher.repo / "new"))
    assert done.returncode == 2
    assert "lies in the repository" in done.stderr
    assert not (launcher.repo / "new").exists()


def test_an_output_that_cannot_be_written(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = launcher.run("--output", str(tmp_path / "file/run"))
    assert done.returncode == 5
    assert f"{tmp_path / 'file'}: File exists; choose a folder" in done.stderr
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    if os.geteuid() != 0:  # root may write anywhere
        assert launcher.run("--output", str(closed / "run")).returncode == 5
    assert launcher.run("--output", "/proc/run").returncode == 5


def test_no_room_left(launcher: Launcher, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))

    done = subprocess.run(
        launcher.argv("--output", str(tmp_path / "out/run"), "-q"),
        env=launcher.environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True, text=True, timeout=60, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert remains(tmp_path / "out") in ([], [".run.lock"])


def test_the_host_environment_changes_nothing(launcher: Launcher, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / "sitecustomize.py").write_text("raise RuntimeError('hostile')")
    (hostile / "argparse.py").write_text("raise RuntimeError('hostile')")
    words = ("--output", str(tmp_path / "run"), "--config", "standin=environment", "--json")
    more = {
        "PYTHONPATH": f"{launcher.source}:{hostile}",
        "LD_PRELOAD": "/none.so",
        "LD_LIBRARY_PATH": "/none",
        "PYTHONSTARTUP": str(hostile / "sitecustomize.py"),
        "OMP_NUM_THREADS": "7",
        "LANG": "tr_TR.UTF-8",
    }
    done = launcher.run(*words, **more)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "run/log.txt").read_text()
    assert "ENVIRONMENT HOME LC_ALL PATH PYTHONPATH TZ\n" in log.replace("imageDifference INFO: ", "")
    assert "PATH_IS " + str(launcher.source) in log
    assert str(hostile) not in log
    assert "none.so" not in log


HOSTILE = ['a b\'s "c"', "line\nfeed\ttab", "$(touch owned);*", "-rf dé,:"]


@pytest.mark.parametrize("name", HOSTILE)
def test_paths_with_anything_in_them(standin_source: Path, tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    launcher = Launcher(standin_source, make_repository(place / "repo"), tmp_path)
    configfile = place / f"{name}.py"
    configfile.write_text("config.doMerge=True\n")
    words = ("--output", str(place / name), "--configfile", str(configfile))
    done = launcher.run(*words, "-q")
    assert done.returncode == 0, done.stderr
    assert (place / name / "record.json").is_file()
    assert not list(Path.cwd().glob("owned"))


def test_the_dry_run_line_does_the_same_when_it_is_pasted(standin_source: Path, tmp_path: Path) -> None:
    place = tmp_path / "a 'b' \"c\"\n$(d); e"
    launcher = Launcher(standin_source, make_repository(place / "repo"), tmp_path)
    words = ("--output", str(place / "out"), "--config", "standin=it's $HOME `x`")
    dry = launcher.run(*words, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert not (place / "out").exists()
    assert shlex.split(dry.stdout)[:2] == ["env", "-i"]
    pasted = subprocess.run(["bash", "-c", dry.stdout], capture_output=True, text=True, cwd=tmp_path)
    assert pasted.returncode == 0, pasted.stderr
    (place / "out").rename(place / "pasted")
    assert launcher.run(*words).returncode == 0
    for path in (place / "pasted").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (place / "out" / path.relative_to(place / "pasted")).read_bytes()


def test_json_alone_on_standard_output(launcher: Launcher, tmp_path: Path) -> None:
    done = launcher.run("--output", str(tmp_path / "run"), "--json")
    summary = json.loads(done.stdout)
    assert summary["noise_ratio"] == 1.002
    assert summary["finished_before"] is False
    assert Path(summary["files"]["difference"]).is_file()
    assert "advice" in done.stderr
    assert json.loads(launcher.run("--output", str(tmp_path / "run"), "--json").stdout)["finished_before"]
    plan = json.loads(launcher.run("--output", str(tmp_path / "run"), "--dry-run", "--json").stdout)
    assert plan["digest"] == summary["digest"]


def test_two_at_once_make_one(launcher: Launcher, tmp_path: Path) -> None:
    words = ("--output", str(tmp_path / "out/run"))
    both = [launcher.start(*words) for _ in range(2)]
    texts = [run.communicate(timeout=60) for run in both]
    assert [run.returncode for run in both] == [0, 0], texts
    assert remains(tmp_path / "out") == ["run"]
    assert sum("finished before" in out for out, _ in texts) == 1


def test_a_survey_that_refuses_stops_the_run(launcher: Launcher, tmp_path: Path) -> None:
    done = launcher.run("--output", str(tmp_path / "out/run"), "-q", science="195529")
    assert done.returncode == 4
    assert done.stderr == "diffrun: error: calexp of 195529 is damaged; get a whole copy\n"
    assert remains(tmp_path / "out") == []
