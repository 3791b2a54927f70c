# SPDX-License-Identifier: BSD-3-Clause
"""What this process computes with is told by the library itself."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import diffrun
from diffrun.engine.blas import describe


def asked(kernel: str) -> list[str]:
    environment = {
        **os.environ,
        "OPENBLAS_CORETYPE": kernel,
        "PYTHONPATH": str(Path(diffrun.__file__).parents[1]),
    }
    program = "from diffrun.engine.blas import describe; print(describe())"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    return done.stdout.strip().split(", ")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these kernels are of x86-64")
@pytest.mark.parametrize("kernel", ["Haswell", "Nehalem"])
def test_it_names_the_kernel_in_use(kernel: str) -> None:
    """OpenBLAS itself was told which kernel to use; each library of the process answers."""
    for text in asked(kernel):
        assert text.startswith("OpenBLAS ")
        assert text.endswith(f" {kernel}")


def test_without_the_library_it_is_unknown(tmp_path: Path) -> None:
    assert describe(tmp_path / "absent") == "unknown"
    maps = tmp_path / "maps"
    maps.write_text("7f00-7f01 r-xp 00000000 08:01 12  /none/libopenblas.so.0\n7f00-7f01 rw-p 0 0 0\n")
    assert describe(maps) == "unknown"
