# SPDX-License-Identifier: BSD-3-Clause
"""One command, several places: the whole way through each, and the same bytes at its end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hostimage import shifter_site, standin

from diffrun.twinkles import cutout

LOCK = Path(__file__).resolve().parents[2] / "containers" / "requirements.lock"
LIBRARIES = ("astropy", "llvmlite", "lsst-pex-config", "numba", "numpy", "scipy", "sep")


def products(folder):
    """Every dataset by its name, with its sum."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.parent != folder)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


VISITS = ("--science", "230", "--template", "195529")


def diffrun(environment, *words, pair=VISITS):
    argv = [sys.executable, "-m", "diffrun.cli", *pair, *words]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def same_libraries():
    """Bytes are promised for the same libraries only: those of the image must be installed here."""
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))
    for name in LIBRARIES:
        if metadata.version(name) != locked[name]:
            pytest.skip(f"{name} is {metadata.version(name)} here, and {locked[name]} in the image")


@pytest.fixture(scope="module")
def native(tmp_path_factory, subset):
    folder = tmp_path_factory.mktemp("native") / "run"
    diffrun(dict(os.environ), "--repo", str(subset), "--output", str(folder))
    return products(folder)


def container(folder):
    return json.loads((folder / "record.json").read_text())["plan"]["container"]


@pytest.mark.parametrize("program", ["engine", "stack"])
def test_docker(docker, data, program, native, same_libraries, subset, tmp_path, request):
    image = request.getfixturevalue(f"{program}_image")
    words = ("--program", program, "--runtime", "docker", "--repo", str(subset))
    diffrun(docker.environment | {"XDG_DATA_HOME": str(data)}, *words, "--output", str(tmp_path / "run"))
    assert products(tmp_path / "run") == native
    assert container(tmp_path / "run")["id"] == image


def test_podman(podman_environment, podman_engine_image, native, same_libraries, subset, tmp_path):
    words = ("--runtime", "podman", "--image", podman_engine_image, "--repo", str(subset))
    diffrun(podman_environment, *words, "--output", str(tmp_path / "run"))
    assert products(tmp_path / "run") == native
    assert container(tmp_path / "run")["name"] == podman_engine_image


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two small plain images, as the words that give them."""
    folder, root = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("calexps") / "repo"
    cutout.write(root, tmp_path_factory.mktemp("cache"))
    words = []
    for side, visit in (("science", cutout.SCIENCE), ("template", cutout.TEMPLATE)):
        pixels, cards = fits.getdata(root / "calexp" / visit / "R22" / "S11.fits", header=True)
        fits.writeto(folder / f"{side}.fits", pixels, WCS(cards).to_header())
        words += [f"--{side}", str(folder / f"{side}.fits")]
    return tuple(words)


def subtracted(images, folder, environment, *words):
    """The products of two plain images and the sums of the calexps that were made of them, in their order."""
    environment = environment | {"DIFFRUN_CACHE": str(folder / "cache")}
    diffrun(environment, *words, "--output", str(folder / "run"), pair=images)
    made = json.loads((folder / "run" / "record.json").read_bytes())["prepared"]
    calexps = [{item["name"]: item["sha256"] for item in made[side]["files"]} for side in sorted(made)]
    return products(folder / "run"), calexps


@pytest.fixture(scope="module")
def native_images(tmp_path_factory, images):
    return subtracted(images, tmp_path_factory.mktemp("native-images"), dict(os.environ))


def test_plain_images_in_docker(docker, data, engine_image, images, native_images, same_libraries, tmp_path):
    environment = docker.environment | {"XDG_DATA_HOME": str(data)}
    assert subtracted(images, tmp_path, environment, "--runtime", "docker") == native_images
    shown = diffrun(environment, "--runtime", "docker", "--dry-run", pair=images).splitlines()
    assert [line.startswith("docker run ") for line in shown] == [True] * 3
    programs = ("makeCalexp.py", "makeCalexp.py", "imageDifference.py")
    assert all(f" {engine_image} {name} " in line for line, name in zip(shown, programs, strict=True))


def test_plain_images_in_podman(
    podman_environment, podman_engine_image, images, native_images, same_libraries, tmp_path
):
    words = ("--runtime", "podman", "--image", podman_engine_image)
    assert subtracted(images, tmp_path, podman_environment, *words) == native_images


@pytest.fixture(scope="module")
def unpacked(docker, tmp_path_factory, request):
    """The image of a program as a folder, and its PATH."""
    found = {}

    def unpack(program):
        if program not in found:
            image = request.getfixturevalue(f"{program}_image")
            folder = tmp_path_factory.mktemp(f"unpacked-{program}")
            docker.run("create", f"--name=unpacked-{program}", image)
            export = ["/usr/bin/docker", "export", f"unpacked-{program}"]
            with subprocess.Popen(export, env=docker.environment, stdout=subprocess.PIPE) as exported:
                subprocess.run(["tar", "-xf", "-", "-C", str(folder)], stdin=exported.stdout, check=True)
            docker.run("rm", f"unpacked-{program}")
            variables = docker.run("inspect", "--format={{json .Config.Env}}", image).stdout
            found[program] = folder, dict(each.split("=", 1) for each in json.loads(variables))["PATH"]
        return found[program]

    yield unpack
    for folder, _ in found.values():
        shutil.rmtree(folder)


@pytest.mark.parametrize("program", ["engine", "stack"])
def test_standin_for_shifter(program, unpacked, native, same_libraries, subset, tmp_path):
    image, path = unpacked(program)
    for name in ("shifter", "shifterimg"):
        standin(tmp_path / "bin", name, shifter_site(str(image), [subset, tmp_path], path))
    words = ("--program", program, "--runtime", "shifter", "--image", "diffrun-engine:1")
    environment = dict(os.environ) | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    diffrun(environment, *words, "--repo", str(subset), "--output", str(tmp_path / "run"))
    assert products(tmp_path / "run") == native


def test_plain_images_by_the_standin_for_shifter(unpacked, images, native_images, same_libraries, tmp_path):
    image, path = unpacked("engine")
    seen = [Path(images[1]).parent, tmp_path]
    for name in ("shifter", "shifterimg"):
        standin(tmp_path / "bin", name, shifter_site(str(image), seen, path))
    environment = dict(os.environ) | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    words = ("--runtime", "shifter", "--image", "diffrun-engine:1")
    assert subtracted(images, tmp_path, environment, *words) == native_images


def test_standin_for_apptainer(unpacked, native, same_libraries, subset, tmp_path):
    image, path = unpacked("engine")
    for name in ("apptainer", "singularity"):
        standin(tmp_path / "bin", name, {})
    sif = tmp_path / "engine.sif"
    sif.write_text(json.dumps({"standin": "sif", "tree": str(image), "env": {"PATH": path}}))
    environment = dict(os.environ) | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    words = ("--runtime", "apptainer", "--image", str(sif), "--repo", str(subset))
    diffrun(environment, *words, "--output", str(tmp_path / "run"))
    assert products(tmp_path / "run") == native
