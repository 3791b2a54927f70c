# SPDX-License-Identifier: BSD-3-Clause
"""The package with a stand-in for its engine, where everybody can read it, and a running Slurm."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from slurmcluster import Cluster
from slurmdesk import Desk, desk, started

import diffrun
from diffrun.sites import config_folder


@pytest.fixture(scope="session")
def open_place() -> Iterator[Path]:
    """A folder that everybody can read."""
    folder = Path(tempfile.mkdtemp(prefix="diffrun-batch-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def batch_source(open_place: Path) -> Path:
    """The package with the stand-in for its engine."""
    source = open_place / "source"
    package = source / "diffrun"
    ignored = shutil.ignore_patterns("engine", "packed", "configs", "__pycache__")
    shutil.copytree(Path(diffrun.__file__).parent, package, ignore=ignored)
    shutil.copytree(config_folder(), package / "configs")
    shutil.copytree(Path(__file__).parent / "standin", package / "engine")
    if not (package / "containers").exists():
        shutil.copytree(config_folder().parent / "containers", package / "containers")
    shutil.copytree(Path(__file__).parents[1] / "standins", open_place / "standins")
    subprocess.run(["chmod", "-R", "a+rX", str(package), str(open_place / "standins")], check=True)
    for path in Path(yaml.__file__).parents[1].iterdir():  # what it stands on, for another interpreter too
        if path.name not in ("diffrun", "__pycache__") and path.suffix != ".pth":
            (source / path.name).symlink_to(path)
    return source


@pytest.fixture(scope="session")
def cluster(open_place: Path) -> Iterator[Cluster]:
    """A running Slurm without accounting."""
    yield from started(open_place / "slurm", accounting=False)


@pytest.fixture
def at_slurm(cluster: Cluster, batch_source: Path, open_place: Path) -> Desk:
    """The user's desk at the cluster."""
    return desk(Path(tempfile.mkdtemp(dir=open_place)), batch_source, cluster)
