# SPDX-License-Identifier: BSD-3-Clause
"""The Apptainer runtime: its argv, its images, and whole runs through Apptainer or its stand-in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from containerprobe import (
    COPY,
    HOSTILE,
    job,
    launcher,
    left,
    products,
    run,
    stop_and_count,
    wait_until,
    whole_run,
)
from hostimage import standin, tree

from diffrun.errors import UsageError
from diffrun.runtimes import ENGINE, Job
from diffrun.runtimes.apptainer import Container, place, resolve, words
from diffrun.runtimes.image import Image

needs_bubblewrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="apt-get install bubblewrap")
WAIT = "echo 'the program waits'; exec sleep {}"
BREAKS = {name for name in HOSTILE if any(ord(letter) < 32 for letter in name)}


def test_argv() -> None:
    config, repository = Path("/home/u/my config.py"), Path('/data/a,"b:c')
    output = Path("/data/out/.run.tmp")
    arguments = ("--id", "visit=230", "--output", str(output), "--configfile", str(config))
    wanted = Job(ENGINE, (str(repository), *arguments), (repository,), output, (config,))
    assert words(wanted, Path("/images/engine.sif")) == (
        "--quiet", "exec", "--containall", "--cleanenv", "--no-home", "--no-privs",
        "--net", "--network", "none", "--pwd", "/tmp", "--env", "DIFFRUN_LIFELINE=1",
        "--mount", "type=bind,source=/home/u/my config.py,target=/config/0-my_config.py,readonly",
        "--mount", 'type=bind,"source=/data/a,""b:c","target=/data/a,""b:c",readonly',
        "--mount", "type=bind,source=/data/out/.run.tmp,target=/output",
        "/images/engine.sif", "/usr/local/bin/diffrun-entry", "imageDifference.py",
        '/data/a,"b:c', "--id", "visit=230", "--output", "/output", "--configfile", "/config/0-my_config.py",
    )  # fmt: skip


def test_the_hosts_variables_stay_out() -> None:
    host = {"PATH": "/none", "HOME": "/home/u", "APPTAINER_BIND": "/a", "SINGULARITYENV_A": "1"}
    host |= {"LD_PRELOAD": "x", "PYTHONPATH": "/p"}
    command = Container(Image("a.sif", "sha256:0")).command(Job(ENGINE, ("/data",), (Path("/data"),)), host)
    assert set(dict(command.environment)) == {"HOME", "LC_ALL", "PATH", "TZ"}
    assert command.argv[0] == "apptainer"
    assert command.lifeline


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in on PATH under both names, with one image in its registry."""
    image = {"standin": "sif", "tree": {}, "labels": {"org.diffrun.program": "engine"}}
    for name in ("apptainer", "singularity"):
        standin(tmp_path / "bin", name, {"registry": {"docker://registry.org/diffrun-engine:1": image}})
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return image


def test_fetched_once_and_known_by_its_sum(registry: dict[str, Any], tmp_path: Path) -> None:
    found = resolve("registry.org/diffrun-engine:1")
    kept = tmp_path / "data" / "diffrun" / "apptainer" / "registry.org_diffrun-engine_1.sif"
    assert place("registry.org/diffrun-engine:1") == kept
    assert json.loads(kept.read_text()) == registry
    assert found.id == "sha256:" + hashlib.sha256(kept.read_bytes()).hexdigest()
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    standin(tmp_path / "bin", "singularity", {"registry": {}})
    assert resolve("registry.org/diffrun-engine:1") == found


def test_a_changed_file_is_another_image(
    registry: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "engine.sif"
    path.write_text(json.dumps(registry))
    monkeypatch.chdir(tmp_path)
    before = resolve("engine.sif")
    assert before == resolve(str(path))
    assert before.name == str(path)
    path.write_text(json.dumps(registry | {"env": {"A": "1"}}))
    assert resolve(str(path)).id != before.id


def test_what_cannot_be_fetched(registry: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot fetch docker://registry\.org/none:1"):
        resolve("registry.org/none:1")
    assert list((tmp_path / "data" / "diffrun" / "apptainer").iterdir()) == []


def test_what_is_no_image(registry: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no image"):
        resolve(str(tmp_path / "none.sif"))
    (tmp_path / "text.sif").write_text("text")
    with pytest.raises(UsageError, match="cannot read"):
        resolve(str(tmp_path / "text.sif"))


def test_no_apptainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")
    with pytest.raises(UsageError, match="no command singularity"):
        resolve("diffrun-engine:1")


def install(folder: Path, image: dict[str, str]) -> dict[str, str]:
    """An environment with the stand-in on PATH, an image ``engine.sif``, and what could leak into it."""
    for name in ("apptainer", "singularity"):
        standin(folder, name, {})
    (folder / "engine.sif").write_text(json.dumps({"standin": "sif", "tree": image}))
    leaks = {"APPTAINER_BIND": "/etc:/none", "SINGULARITYENV_LEAK": "1", "LANG": "de_DE", "PYTHONHOME": ""}
    return {**os.environ, **leaks, "PATH": f"{folder}:{os.environ['PATH']}"}


@needs_bubblewrap
@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in BREAKS])
def test_hostile_names_are_mounted_right(name: str, tmp_path: Path) -> None:
    env = install(tmp_path / "bin", tree(tmp_path / "image", COPY))
    image = Image(str(tmp_path / "bin" / "engine.sif"), "sha256:0")
    status, said = run(Container(image).command(job(tmp_path, name), env))
    assert (status, said[0]) == (0, "diffrun-entry: imageDifference.py")
    assert {"CapEff: 0000000000000000", "CapPrm: 0000000000000000", "NoNewPrivs: 1"} <= set(said)
    assert not [line for line in said if line.startswith("wrote")]
    assert (tmp_path / "out" / name / "copy").read_text() == name
    seen = next(line for line in said if line.startswith("variables:")).split()
    assert not {"APPTAINER_BIND", "LEAK", "LANG", "PYTHONHOME", "PYTHONPATH"} & set(seen)


@pytest.mark.parametrize("name", sorted(BREAKS))
def test_line_breaks_and_control_characters_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be mounted by Apptainer"):
        words(job(tmp_path, name), Path("engine.sif"))


@needs_bubblewrap
def test_the_same_bytes_as_native(tmp_path: Path, subset: Path) -> None:
    if shutil.which("apptainer"):
        if "DIFFRUN_TEST_APPTAINER_IMAGE" not in os.environ:
            pytest.skip("Apptainer is here: name an image of the engine in DIFFRUN_TEST_APPTAINER_IMAGE")
        env, image = dict(os.environ), os.environ["DIFFRUN_TEST_APPTAINER_IMAGE"]
    else:
        env, image = install(tmp_path / "bin", tree(tmp_path / "image")), str(tmp_path / "bin" / "engine.sif")
    native = whole_run(os.environ, tmp_path / "native", subset)
    apptainer = whole_run(env, tmp_path / "apptainer", subset, "--runtime", "apptainer", "--image", image)
    assert native.endswith("status 0"), native
    assert apptainer.endswith("status 0"), apptainer
    assert products(tmp_path / "apptainer") == products(tmp_path / "native")
    assert len(products(tmp_path / "native")) >= 8


@needs_bubblewrap
@pytest.mark.parametrize(
    ("number", "seconds"),
    [(signal.SIGKILL, 2), (signal.SIGTERM, 12), (signal.SIGINT, 12), (signal.SIGHUP, 12)],
)
def test_nothing_outlives_the_launcher(tmp_path: Path, subset: Path, number: int, seconds: float) -> None:
    mark = f"62.{os.getpid()}{number:02d}"
    env = install(tmp_path / "bin", tree(tmp_path / "image", WAIT.format(mark)))
    child = launcher(
        "--repo", str(subset), "--science", "230", "--template", "195529", "--output", str(tmp_path / "run"),
        "--runtime", "apptainer", "--image", str(tmp_path / "bin" / "engine.sif"), "-v", env=env,
    )  # fmt: skip
    assert stop_and_count(child, mark, number, seconds) == []
    assert wait_until(lambda: not left(str(tmp_path / "bin")), 2)
    assert not (tmp_path / "run").exists()
