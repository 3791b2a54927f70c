# SPDX-License-Identifier: BSD-3-Clause
"""Compiled kernels are kept where this user may write and no other, whatever of the usual is missing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from diffrun.engine import kernelcache

#: Nobody can make a folder here.
NOWHERE = Path("/proc/diffrun")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of nothing but a home and a folder for temporary files."""
    for name in (kernelcache.VARIABLE, "XDG_CACHE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(kernelcache.tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def kept() -> str | None:
    kernelcache.keep(NOWHERE)
    return os.environ.get(kernelcache.VARIABLE)


def test_beside_the_source_numba_finds_its_place_itself(home: Path) -> None:
    kernelcache.keep(home)
    assert kernelcache.VARIABLE not in os.environ


def test_else_in_the_cache_of_the_user(home: Path) -> None:
    folder = kept()
    assert folder
    assert folder.startswith(str(home / "home"))


def test_a_given_folder_is_taken_if_it_can_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernelcache.VARIABLE, str(home / "given"))
    assert kept() == str(home / "given")
    monkeypatch.setenv(kernelcache.VARIABLE, str(NOWHERE))
    assert str(kept()).startswith(str(home / "home"))


def test_without_a_home_in_a_private_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(NOWHERE))
    folder = home / "tmp" / f"diffrun-{os.geteuid()}"
    assert kept() == str(folder / "kernels")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_no_folder_that_another_could_have_filled(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(NOWHERE))
    monkeypatch.setattr(kernelcache, "_MEMORY", NOWHERE)
    theirs = home / "tmp" / f"diffrun-{os.geteuid()}"
    theirs.mkdir()
    theirs.chmod(0o777)
    folder = kept()
    assert folder
    assert Path(folder).parent == home / "tmp"
    assert theirs not in Path(folder).parents
    monkeypatch.delenv(kernelcache.VARIABLE)
    theirs.rmdir()
    theirs.symlink_to(home)
    assert str(kept()).startswith(str(home / "tmp" / "diffrun-kernels-"))


def test_the_engine_names_it_before_numba_is_loaded(home: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from diffrun.engine import __main__ as door, kernelcache\n"
        f"kernelcache.keep.__defaults__ = (Path({str(NOWHERE)!r}),)\n"
        "assert 'numba' not in sys.modules; door.main(['--help']); print(os.environ['NUMBA_CACHE_DIR'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1].startswith(str(home / "home"))
