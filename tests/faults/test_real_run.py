# SPDX-License-Identifier: BSD-3-Clause
"""The whole way with the real engine: the same bytes whatever the host, and after a kill as before."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import diffrun
from conftest import wait_for
from diffrun.runtimes.native import is_installed

PAIR = ("--science", "230", "--template", "195529")
#: What a run folder holds beside products: the clock, the host and paths live there alone.
NOT_PRODUCTS = {"record.json", "log.txt", "ro-crate-metadata.json"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from diffrun.cli import main; main()", *PAIR, *words]


def environment(**more: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if not name.startswith("DIFFRUN_")}, **more}


def products(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in NOT_PRODUCTS]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def first(subset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain run of the subset's good pair."""
    out = tmp_path_factory.mktemp("first") / "run"
    done = subprocess.run(
        command("--repo", str(subset), "--output", str(out)),
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for word in ("noise", "kernel", "sources", "picture", "match and subtract"):
        assert word in done.stdout
    return out


def test_the_record_tells_what_is_there(first: Path) -> None:
    record = json.loads((first / "record.json").read_bytes())
    assert {output["name"]: output["sha256"] for output in record["outputs"]} == {
        **products(first),
        "log.txt": hashlib.sha256((first / "log.txt").read_bytes()).hexdigest(),
    }
    summary = record["summaries"]["R22 S11"]
    assert 0.97 < summary["noise_ratio"] < 1.03
    assert abs(summary["lag1_correlation"]) < 0.03
    assert summary["sources"]["total"] > 20
    assert record["survey"]["template"]["visit"] == 195529


def test_the_same_bytes_from_a_hostile_host(first: Path, subset: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in ("numpy", "yaml", "typer") if is_installed() else ("sitecustomize",):
        (hostile / f"{name}.py").write_text("raise RuntimeError('hostile')")
    more = {
        "PYTHONPATH": f"{hostile}:{Path(diffrun.__file__).parents[1]}",
        "LD_PRELOAD": "/none.so",
        "TZ": "Pacific/Chatham",
        "LANG": "tr_TR.UTF-8",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "PYTHONHASHSEED": "7",
    }
    out = tmp_path / "run"
    done = subprocess.run(
        command("--repo", str(subset), "--output", "run", "-j", "2", "-q"),
        env=environment(**more), cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert products(out) == products(first)


def test_the_same_bytes_after_a_kill(first: Path, subset: Path, tmp_path: Path) -> None:
    words = command("--repo", str(subset), "--output", str(tmp_path / "run"), "-q")
    running = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for((tmp_path / ".run.tmp/config/deepDiff.py").is_file, 60)
    running.kill()
    running.wait()
    done = subprocess.run(words, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert products(tmp_path / "run") == products(first)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--config", "doMegre=True"), 2, "doMegre"),
        (("--config", "doMerge=perhaps"), 2, "doMerge"),
        (("--config", "__class__=1"), 2, "__class__"),
    ],
)
def test_the_engine_refuses_a_configuration(
    subset: Path, tmp_path: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    argv = command("--repo", str(subset), "--output", str(tmp_path / "out/run"), "-q", *words)
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_configfile_with_code_in_it(subset: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"import os\nos.mkdir({str(tmp_path / 'owned')!r})\n")
    argv = command(
        "--repo", str(subset), "--output", str(tmp_path / "out/run"), "-q", "--configfile", str(evil)
    )
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "evil.py" in done.stderr
    assert not (tmp_path / "owned").exists()
