# SPDX-License-Identifier: BSD-3-Clause
"""The bench's way with other programs: what a process used, the detection for all, the page."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))

import detection
import engine
import goals
import page
import peers
import stages
import stripe82
import subject as subjects

SIDE, SIGMA = 300, 2.0
PYTHON = [sys.executable, "-S", "-c"]


def test_a_small_process_is_not_charged_its_parents_memory(tmp_path):
    held = np.ones(30_000_000)  # 240 MB
    used = engine.run([*PYTHON, "print(sum(range(10**6)))"], tmp_path / "log")
    assert used.memory < 60e6 < held.nbytes
    assert 0 < used.cpu <= used.wall + 0.05


def test_a_failure_is_its_last_error(tmp_path):
    with pytest.raises(engine.Failed, match="ended with 1: ValueError: no such star"):
        engine.run([*PYTHON, "raise ValueError('no such star')"], tmp_path / "log")
    with pytest.raises(engine.Failed, match="no-such-program"):
        engine.run(["no-such-program"], tmp_path / "log")


def test_an_endless_program_is_ended(tmp_path):
    with pytest.raises(engine.Failed, match=r"not done after \d s"):
        engine.run([*PYTHON, "while True: pass"], tmp_path / "log", limit=1)


def test_a_program_is_named_by_its_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DIFFRUN_BENCH_HOTPANTS", raising=False)
    with pytest.raises(engine.Failed, match="DIFFRUN_BENCH_HOTPANTS"):
        peers.program("hotpants")
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("DIFFRUN_BENCH_HOTPANTS", str(mine))
    assert peers.program("hotpants") == str(mine)


def test_a_program_that_needs_more_memory_than_is_free_is_left_out(monkeypatch):
    monkeypatch.setattr(peers, "free_memory", lambda: 2.0**30)
    pair = SimpleNamespace(science=SimpleNamespace(image=np.empty((4000, 4000), np.int8)))
    with pytest.raises(engine.Failed, match="needs 9 GiB of memory, 1 GiB are free"):
        peers.from_pip("stdpipe", pair)


def test_growth_on_a_line_is_told_as_one():
    sizes = [{"pixels": m * 2**20, "cpu": 2 + m, "memory": 300 + 50 * m, "bare_cpu": 1, "bare_memory": 200}
             for m in (0.25, 1, 4, 16)]  # fmt: skip
    assert page._straight(sizes).startswith(
        "Without imports: 1.00 + 1.000 s of CPU time a megapixel, within 0 %"
    )


def star(x, y):
    row, column = np.mgrid[:SIDE, :SIDE]
    return np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * SIGMA**2)) / (2 * np.pi * SIGMA**2)


def test_the_common_detection_measures_what_was_put_in():
    rng = np.random.default_rng(3)
    places = [(60.3, 70.8), (150.0, 80.5), (220.6, 200.2)]
    fluxes = [400.0, -300.0, 800.0]
    image = rng.standard_normal((SIDE, SIDE))
    for flux, place in zip(fluxes, places, strict=True):
        image += flux * star(*place)
    none = np.zeros(0)
    psf = gaussian_filter(np.pad([[1.0]], 16), SIGMA)
    subject = subjects.Subject(
        image.astype("f4"), np.ones((SIDE, SIDE), "f4"), np.zeros((SIDE, SIDE), bool), lambda x, y: psf,
        subjects.Sources(none, none, none, none, np.zeros(0, bool), none),
    )  # fmt: skip
    found = detection.detect(subject)
    assert len(found.x) == 3
    order = np.argsort(found.x)
    np.testing.assert_allclose(np.column_stack([found.x, found.y])[order], places, atol=0.2)
    # sqrt(4 pi) sigma is the error of a flux in noise of 1
    np.testing.assert_allclose(found.error, np.sqrt(4 * np.pi) * SIGMA, rtol=0.02)
    assert np.all(np.abs(found.flux[order] - fluxes) < 3 * found.error)


def test_the_stopwatch_charges_each_stage_for_itself_alone():
    watch = stages.Stopwatch()
    inner = watch.on("warp", lambda: sum(range(3_000_000)))
    watch.on("measure", lambda: (inner(), sum(range(1_000_000))))()
    assert watch.seconds["warp"][1] > watch.seconds["measure"][1] > 0


def test_every_stage_is_a_function_of_the_engine():
    for _, module, function in stages.STAGES:
        assert callable(getattr(import_module(f"diffrun.engine.{module}"), function))


def numbers(**changed):
    names = (
        "wall cpu memory noise noise_plain lag1_x lag1_y k star_chi2 kernel_sum_error flagged_area "
        "false_blank false_expected false_source false_saturated bias_all bias_error_all bias_galaxy "
        "bias_error_galaxy pull_galaxy bias_bright bias_error_bright pull_bright pull_all psf_flux "
        "psf_flux_error offset_x offset_y found_5-7 true_5-7 found_7-10 true_7-10 found_10+ true_10+"
    )
    good = dict.fromkeys(names.split(), 0.0)
    good |= {"noise": 1.0, "k": 1.0, "pull_all": 1.0, "bias_error_all": 0.002, "wall": 3.0, "cpu": 5.0}
    good |= {"memory": 500.0, "bias_error_galaxy": 0.01, "bias_error_bright": 0.01, "psf_flux_error": 0.005}
    good |= {f"{word}_{b}": 40.0 for word in ("found", "true") for b in ("5-7", "7-10", "10+")}
    return good | changed


def test_the_page_compares_and_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "bench.md")
    page.PAGE.write_text(f"before\n{page.BEGIN}old\n{page.END}after\n")
    one = {"diffrun": numbers(), "chain": numbers(cpu=20.0, k=1.2), "stdpipe": {"trouble": "no stdpipe"}}
    two = {"diffrun": numbers(k=1.03, cpu=7.5)}
    parts = {"default-1": one, "moffat-1": two, "growth-512": {"trouble": "Failed: too big"}}
    page.write({name: part | {"took": [90.0, 60.0]} for name, part in parts.items()})
    text = page.PAGE.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| SWarp, HOTPANTS, Source Extractor | x 1.0 | x 4.0 |" in text
    assert "no stdpipe" in text
    assert "- k, goal 0.980 to 1.020: moffat-1 1.030" in text
    assert "- CPU seconds, goal 0.0 to 7.0: moffat-1 7.5" in text
    assert "not measured: growth-512" in text
    assert "took 4.5 minutes, and 3.0 of CPU time" in text


def test_the_real_pair_is_skipped_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFRUN_SHARED_DATA", str(tmp_path))
    found = stripe82.measure(tmp_path)
    assert "DIFFRUN_SHARED_DATA" in found["skipped"]
    assert any(found["skipped"] in line for line in page.lines({"stripe82": found | {"took": [0.0, 0.0]}}))


def test_nothing_falls_short_of_good_numbers():
    assert not list(goals.shortfalls({"default-1": numbers()}, {}))
