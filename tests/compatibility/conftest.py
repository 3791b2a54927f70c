# SPDX-License-Identifier: BSD-3-Clause
"""A small run whose products other people's programs are given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from diffrun.twinkles import cutout


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the products of two cutouts of the subset, which have no background models."""
    folder = tmp_path_factory.mktemp("products")
    cutout.write(folder / "pair", folder / "cache")
    options = ["--science", "230", "--template", "195529", "--repo", str(folder / "pair"), "-q"]
    options += ["--config", "doAddCalexpBackground=False"]
    options += ["--config", "getTemplate.doAddCalexpBackground=False"]
    argv = [sys.executable, "-m", "diffrun.cli", *options, "--output", str(folder / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "run" / "deepDiff" / "v230-fr" / "R22"
