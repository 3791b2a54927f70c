# SPDX-License-Identifier: BSD-3-Clause
"""A tiny repository without images, and the real launcher before a program that fails as it is told to."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import diffrun
from diffrun.sites import config_folder

VISITS = ((230, "r"), (250, "g"), (195529, "r"))


def make_repository(root: Path) -> Path:
    """A Gen2 repository of obs_lsstSim with three visits; its calexps are no images."""
    root.mkdir(parents=True)
    (root / "_mapper").write_text("lsst.obs.lsstSim.LsstSimMapper\n")
    registry = sqlite3.connect(root / "registry.sqlite3")
    registry.execute("create table raw (id integer, visit int, filter text, raft text, sensor text)")
    registry.executemany("insert into raw values (1, ?, ?, '2,2', '1,1')", VISITS)
    registry.commit()
    registry.close()
    for visit, band in VISITS:
        folder = root / f"calexp/v{visit}-f{band}/R22"
        folder.mkdir(parents=True)
        (folder / "S11.fits").write_bytes(b"calexp of %d" % visit)
    return root


@dataclass(frozen=True)
class Launcher:
    """Runs the command ``diffrun`` of a copy of the package in which the engine is the stand-in."""

    source: Path
    repo: Path
    home: Path

    def argv(self, *words: str, science: str = "230", template: str = "250") -> list[str]:
        visits = ["--science", science, "--template", template, "--repo", str(self.repo)]
        return [sys.executable, "-m", "diffrun.cli", *visits, *words]

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("DIFFRUN_", "XDG_"))
        }
        return {**kept, "PYTHONPATH": str(self.source), "HOME": str(self.home), **more}

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        ids = {key: more.pop(key) for key in ("science", "template") if key in more}
        return subprocess.run(
            self.argv(*words, **ids), env=self.environment(**more), capture_output=True, text=True, timeout=60
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*words),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo")


@pytest.fixture(scope="session")
def standin_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with the stand-in for its engine."""
    source = tmp_path_factory.mktemp("standin")
    package = source / "diffrun"
    ignored = shutil.ignore_patterns("engine", "packed", "configs", "__pycache__")
    shutil.copytree(Path(diffrun.__file__).parent, package, ignore=ignored)
    shutil.copytree(config_folder(), package / "configs")
    shutil.copytree(Path(__file__).parent / "standin", package / "engine")
    return source


@pytest.fixture
def launcher(standin_source: Path, repository: Path, tmp_path: Path) -> Launcher:
    return Launcher(standin_source, repository, tmp_path)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something holds; an assertion fails if it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def end_at_last() -> list[int]:
    """Processes that a test has seen; what is still there when it is over is killed."""
    return []


@pytest.fixture(autouse=True)
def _clean(end_at_last: list[int]) -> object:
    yield
    for pid in end_at_last:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
