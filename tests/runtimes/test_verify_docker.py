# SPDX-License-Identifier: BSD-3-Clause
"""A run in a container verified, made again in its image, and refused when the image's name has moved."""

from __future__ import annotations

import json
import subprocess
import sys

NAME = "diffrun-verified:latest"


def diffrun(docker, *words):
    argv = [sys.executable, "-m", "diffrun.cli", *words]
    return subprocess.run(argv, env=docker.environment, capture_output=True, text=True, timeout=300)


def test_a_run_in_an_image(docker, engine_image, subset, tmp_path):
    docker.run("tag", engine_image, NAME)
    words = ("--science", "230", "--template", "195529", "--repo", str(subset), "-q")
    out = tmp_path / "run"
    done = diffrun(docker, *words, "--runtime", "docker", "--image", NAME, "--output", str(out))
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "record.json").read_bytes())
    assert record["plan"]["image"] == engine_image
    assert record["platform"]["blas"].startswith("OpenBLAS ")
    crate = json.loads((out / "ro-crate-metadata.json").read_bytes())["@graph"]
    (image,) = (entity for entity in crate if entity["@id"] == "#image")
    assert image["sha256"] == engine_image.removeprefix("sha256:")
    done = diffrun(docker, "verify", str(out), "--rerun", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rerun"] == {"products": 11, "differences": [], "causes": []}
    docker.run("create", "--name=other", NAME)
    docker.run("commit", "--message=other", "other", NAME)
    docker.run("rm", "other")
    assert diffrun(docker, "verify", str(out)).returncode == 0
    done = diffrun(docker, "verify", str(out), "--rerun", "-q")
    assert done.returncode == 6
    assert f"cannot be made again: image was {engine_image}, is sha256:" in done.stderr
