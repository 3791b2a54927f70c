# SPDX-License-Identifier: BSD-3-Clause
"""The real engine made again: the same bytes here; other linear algebra is told by size and by name."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: A kernel that no processor of today chooses. No user can give it: the launcher passes no such variable.
OTHER_KERNEL = "from diffrun.runtimes import native; native.FIXED['OPENBLAS_CORETYPE'] = 'Prescott'"
PAIR = ("--science", "230", "--template", "195529", "-q")


def diffrun(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIFFRUN_")}
    program = f"{before}\nfrom diffrun.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *words], env=kept, capture_output=True, text=True, timeout=300
    )


def test_the_record_is_enough_to_make_the_same_bytes(subset: Path, tmp_path: Path) -> None:
    """All products are deleted first; what is left is the record and the inputs."""
    out = tmp_path / "run"
    done = diffrun(*PAIR, "--repo", str(subset), "--output", str(out), "--config", "doMerge=False")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(out / "deepDiff")
    shutil.rmtree(out / "schema")
    done = diffrun("verify", str(out), "--rerun", "--json")
    answer = json.loads(done.stdout)
    assert answer["rerun"] == {"products": 11, "differences": [], "causes": []}
    assert len(answer["findings"]) == 8
    assert done.returncode == 6
    assert not (out / "deepDiff").exists()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="this kernel is of x86-64")
def test_another_kernel_of_the_same_library_is_the_cause(subset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = (*PAIR, "--repo", str(subset), "--output", str(out))
    done = diffrun(*words, before=OTHER_KERNEL)
    assert done.returncode == 0, done.stderr
    assert diffrun("verify", str(out)).returncode == 0
    done = diffrun("verify", str(out), "--rerun", "--json")
    assert done.returncode == 6
    rerun = json.loads(done.stdout)["rerun"]
    assert len(rerun["causes"]) == 1
    assert rerun["causes"][0].startswith("linear algebra: OpenBLAS ")
    largest = {each["name"].rpartition("/")[2]: each["largest"] for each in rerun["differences"]}
    assert 0 < largest["diffexp-S11.fits"] < 0.01
    assert 0 < largest["kernel-S11.fits"] < 1e-6
    assert 0 < largest["diaSrc-S11.fits"] < 0.1
    assert "likely cause: linear algebra: OpenBLAS" in done.stderr
