# SPDX-License-Identifier: BSD-3-Clause
"""The whole command against the truth of simulations: the subset, other seeds, the visits exchanged."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from astropy.table import Table

from diffrun.files.afw.catalog import read_catalog
from diffrun.files.afw.reader import read_exposure

ROOT = Path(__file__).resolve().parents[2]
DIFFRUN = [sys.executable, "-c", "from diffrun.cli import main; main()"]
SEEDS = (230, 231, 232, 233)
PAIRS = ((230, 195529), (195529, 230))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


regression = load(ROOT / "ci" / "regression.py")


@dataclass(frozen=True)
class Judged:
    """The numbers of one run, and the pulls of its fluxes."""

    numbers: dict[str, float]
    pulls: np.ndarray


@pytest.fixture(scope="module")
def judge(subset, tmp_path_factory):
    """Runs a pair of a seed, once, and judges it."""
    roots, done = {230: subset}, {}

    def repository(seed):
        if seed not in roots:
            roots[seed] = tmp_path_factory.mktemp(f"seed{seed}") / "repo"
            visits = [word for visit in PAIRS[0] for word in ("--visit", str(visit))]
            words = ["ci/twinkles/simulate.py", "--seed", str(seed), "--output", str(roots[seed]), *visits]
            subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return roots[seed]

    def once(seed, science, template):
        key = (seed, science, template)
        if key not in done:
            root = repository(seed)
            truth = Table.read(root / "truth.ecsv", format="ascii.ecsv")
            folder = tmp_path_factory.mktemp("run") / "run"
            summary, seconds = regression.run([*DIFFRUN, "--repo", str(root)], science, template, folder)
            difference = read_exposure(Path(summary["files"]["difference"]))
            sources = read_catalog(Path(summary["files"]["catalogue"]))
            true = regression.changes(summary, difference, root, truth)
            found = regression.detections(true, sources)
            flux, error, expected = regression.matched_fluxes(true, found, sources)
            done[key] = Judged(regression.measure(summary, seconds, root, truth), (flux - expected) / error)
        return done[key]

    return once


EACH = pytest.mark.parametrize(
    ("seed", "science", "template"),
    [(seed, *pair) for seed in SEEDS for pair in PAIRS],
    ids=lambda value: str(value),
)


@EACH
def test_what_changed_is_found(judge, seed, science, template):
    numbers = judge(seed, science, template).numbers
    assert numbers["complete_8"] >= 0.98
    assert numbers["unmatched"] <= 3


def test_faint_changes_are_found(judge):
    """Each pair has a few changes of S/N 6 to 8 only: they are counted together."""
    counts = np.array([judge(seed, *pair).numbers["found_6_8"] for seed in SEEDS for pair in PAIRS])
    total = np.array([judge(seed, *pair).numbers["true_6_8"] for seed in SEEDS for pair in PAIRS])
    assert total.sum() >= 20
    assert counts.sum() / total.sum() >= 0.90


@EACH
def test_the_noise_is_white_and_as_the_variance_plane_says(judge, seed, science, template):
    numbers = judge(seed, science, template).numbers
    assert numbers["noise_ratio"] == pytest.approx(1, abs=0.03)
    assert abs(numbers["lag1"]) < 0.03


@EACH
def test_constant_stars_leave_noise(judge, seed, science, template):
    assert 0.9 <= judge(seed, science, template).numbers["chi2"] <= 1.25


@EACH
def test_fluxes_are_unbiased(judge, seed, science, template):
    assert abs(judge(seed, science, template).numbers["flux_bias"]) < 0.01


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_flux_errors_are_true(judge, pair):
    pulls = np.concatenate([judge(seed, *pair).pulls for seed in SEEDS])
    assert len(pulls) > 100
    assert 0.9 < pulls.std() < 1.15
    assert 0.9 < judge(230, *pair).pulls.std() < 1.15
