# SPDX-License-Identifier: BSD-3-Clause
"""``diffrun image`` before any engine is asked: the command that builds, the lock file, the refusals."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import diffrun
from diffrun import images
from diffrun.errors import DiffrunError, UsageError
from diffrun.runtimes.image import default, locks

CONTAINERS = locks()[-1].parent
DIGEST = "sha256:" + "5b" * 32


def test_argv() -> None:
    recipe = images.Recipe("stack", "lsst:v12_1", ("A=b c",), "none")
    assert recipe.argv("podman", Path("/context"), Path("/context/id")) == [
        "podman",
        "build",
        "--file",
        "/context/containers/Dockerfile",
        "--build-arg",
        f"VERSION={diffrun.__version__}",
        "--build-arg",
        "STACK_IMAGE=lsst:v12_1",
        "--build-arg",
        "A=b c",
        "--network",
        "none",
        "--tag",
        f"diffrun-stack:{diffrun.__version__}",
        "--iidfile",
        "/context/id",
        "/context",
    ]


def engine(folder: Path, script: str) -> str:
    """A program that stands for docker in the folder that is then first in PATH."""
    folder.mkdir()
    (folder / "docker").write_text(f"#!/bin/bash\n{script}\n")
    (folder / "docker").chmod(0o755)
    return str(folder / "docker")


def test_what_is_built_is_found_and_the_newest_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    words = "while [ $# -gt 1 ]; do [ $1 = --iidfile ] && answer=$2; shift; done"
    seen = "cd $1 && cp -r --parents containers src configs " + str(tmp_path / "seen")
    (tmp_path / "seen").mkdir()
    for number in ("1", "2", "1"):
        made = f'{words}; {seen}; printf "sha256:%064d" {number} > $answer'
        program = engine(tmp_path / f"bin{number}{len(list(tmp_path.iterdir()))}", made)
        reference = images.build(images.Recipe("engine"), program)
        assert reference == f"diffrun-engine@sha256:{int(number):064d}" == default("engine")
    assert len((tmp_path / "data/diffrun/images.lock").read_text().splitlines()) == 2
    for copied in re.findall(r"^COPY (\S+) ", (CONTAINERS / "engine.Dockerfile").read_text(), re.MULTILINE):
        assert copied.startswith("--") or (tmp_path / "seen" / copied).exists()


def test_a_build_that_fails_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with pytest.raises(DiffrunError, match="ended with status 7"):
        images.build(images.Recipe("engine"), engine(tmp_path / "bin", "exit 7"))
    assert not (tmp_path / "data").exists()


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no default base"):
        images.build(images.Recipe("stack"), "docker")
    with pytest.raises(UsageError, match="--engine 'lxc' is unknown"):
        images.find_engine("lxc")
    engine(tmp_path / "bin", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    with pytest.raises(UsageError, match="docker answers here"):
        images.find_engine("docker")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="neither docker nor podman"):
        images.find_engine(None)


def test_unknown_program_is_one_line() -> None:
    argv = [sys.executable, "-m", "diffrun.cli", "image", "build", "docker"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "diffrun: error: unknown program 'docker'; use engine or stack\n"


def test_every_library_is_pinned_by_its_sums() -> None:
    """Each requirement of the package is in the lock, and each line of the lock has a sum."""
    text = (CONTAINERS / "requirements.lock").read_text()
    blocks = re.findall(r"^([a-z0-9-]+)==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M)
    names = {name for name, _ in blocks}
    assert len(blocks) == len(re.findall(r"^[a-z]", text, re.MULTILINE))
    source = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    wanted = source.partition("dependencies = [")[2].partition("]")[0]
    assert {name.lower() for name in re.findall(r'"([\w-]+)', wanted)} - names == {"docker"}  # the launcher's
