# SPDX-License-Identifier: BSD-3-Clause
"""The run folder is a Process Run Crate 0.5, says an independent validator; one record, one crate."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Launcher, make_repository
from diffrun import crate, record

#: What the validator recommends and a run cannot know: an address of the program, who employs its user.
BEYOND_US = (
    "The Application SHOULD have a url",
    "The SoftwareApplication id SHOULD be an absolute URI",
    "The `publisher` property of a `Root Data Entity` SHOULD be an `Organization`",
    "The author SHOULD have an organizational affiliation",
    "The author SHOULD have a Contextual Entity which specifies the organizational `affiliation`",
)


@pytest.fixture(scope="module")
def made(standin_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    launcher = Launcher(standin_source, make_repository(place / "repo"), place)
    done = launcher.run("--output", str(place / "run"), "--config", "note=a 'b'", "--config", "x=y", "-q")
    assert done.returncode == 0, done.stderr
    return place / "run"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run", symlinks=True))


def validate(folder: Path) -> dict[str, list[str]]:
    if importlib.util.find_spec("rocrate_validator") is None:
        pytest.skip("roc-validator is not installed: pip install '.[test]'")
    program = Path(__file__).with_name("validate_crate.py")
    done = subprocess.run(
        [sys.executable, str(program), str(folder)], capture_output=True, text=True, timeout=120, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def entities(content: bytes) -> dict[str, dict[str, Any]]:
    return {entity["@id"]: entity for entity in json.loads(content)["@graph"]}


def test_a_run_folder_is_a_valid_crate(folder: Path) -> None:
    found = validate(folder)
    assert found["required"] == []
    strangers = [text for text in found["recommended"] if not any(known in text for known in BEYOND_US)]
    assert strangers == []


def test_the_validator_would_notice(folder: Path) -> None:
    """A product that the crate names and that is not there is found: the validator does look."""
    (folder / "picture.png").unlink()
    assert any("picture.png" in text for text in validate(folder)["required"])


def test_a_run_in_an_image_is_a_valid_crate(folder: Path) -> None:
    made = json.loads((folder / "record.json").read_bytes())
    container = {"name": "registry.example.org:5000/lsst/diffrun-stack:v12_1", "id": "sha256:" + "0f" * 32}
    made["plan"] |= {"program": "stack", "runtime": "docker", "container": {**container, "digests": []}}
    record.write(folder, {key: value for key, value in made.items() if key != "seal"})
    crate.write(folder, made)
    image = entities((folder / "ro-crate-metadata.json").read_bytes())["#image"]
    assert (image["registry"], image["name"]) == ("registry.example.org:5000", "lsst/diffrun-stack")
    assert (image["tag"], image["sha256"]) == ("v12_1", "0f" * 32)
    found = validate(folder)
    assert found["required"] == []
    assert not any("ContainerImage" in text or "#image" in text for text in found["recommended"])


@pytest.mark.parametrize(
    ("name", "registry", "path", "tag"),
    [
        ("diffrun-engine:latest", "docker.io", "diffrun-engine", "latest"),
        ("lsst/stack@sha256:" + "0" * 64, "docker.io", "lsst/stack", None),
        ("localhost/x", "localhost", "x", None),
        ("localhost:5000/x", "localhost:5000", "x", None),
        ("ghcr.io/a/b:1.2@sha256:" + "0" * 64, "ghcr.io", "a/b", "1.2"),
    ],
)
def test_the_name_of_an_image_is_taken_apart(
    folder: Path, name: str, registry: str, path: str, tag: str | None
) -> None:
    made = json.loads((folder / "record.json").read_bytes())
    made["plan"] |= {"container": {"name": name, "id": "sha256:" + "0" * 64, "digests": []}}
    image = entities(crate.make(made, b""))["#image"]
    assert (image["registry"], image["name"], image.get("tag")) == (registry, path, tag)


def test_the_same_record_gives_the_same_crate(folder: Path, tmp_path: Path) -> None:
    content = (folder / "record.json").read_bytes()
    first = crate.make(json.loads(content), content)
    assert first == (folder / "ro-crate-metadata.json").read_bytes()
    shutil.copytree(folder, tmp_path / "elsewhere")
    crate.write(tmp_path / "elsewhere", json.loads(content))
    assert (tmp_path / "elsewhere/ro-crate-metadata.json").read_bytes() == first
    found = entities(first)
    made = json.loads(content)
    assert found["#run"]["startTime"] == made["started"].replace("Z", "+00:00")
    assert found["./"]["datePublished"] == found["#run"]["endTime"] == made["finished"].replace("Z", "+00:00")
    assert found["#arg-config"]["value"] == "note=a 'b' x=y"
    assert found["deepDiff/v230-fr/R22/diffexp-S11.fits"]["contentSize"] == "2880"
