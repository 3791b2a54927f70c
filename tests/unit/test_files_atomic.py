# SPDX-License-Identifier: BSD-3-Clause
"""A product appears whole or not at all, and nothing else stays behind."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffrun.errors import DiskFullError, OutputError
from diffrun.files.atomic import publish_folder, write_bytes


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def file_limit() -> Iterator[int]:
    """A limit on the size of files, which fails a write as a full disk does, without root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    yield 50_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_file_holds_the_bytes_and_nothing_else_is_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "S11.fits"
    write_bytes(path, b"old")
    write_bytes(path, memoryview(bytearray(b"x" * 3_000_000)))
    assert path.read_bytes() == b"x" * 3_000_000
    assert names(path.parent) == ["S11.fits"]


def test_the_mode_is_what_the_umask_says(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_no_room_leaves_the_old_file_and_no_other(tmp_path: Path, file_limit: int) -> None:
    path = tmp_path / "S11.fits"
    write_bytes(path, b"old")
    for size in (file_limit + 1, file_limit + 4096, 10 * file_limit):
        with pytest.raises(
            DiskFullError, match=rf"S11.fits: {size} bytes needed, \d+ free .*; free some space"
        ):
            write_bytes(path, b"x" * size)
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["S11.fits"]
    write_bytes(path, b"y" * file_limit)
    assert path.stat().st_size == file_limit


def test_a_real_full_disk(tmp_path: Path) -> None:
    """A file system of 1 MB, where one may be mounted; the limit on files above stands for it elsewhere."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        return
    try:
        path = disk / "S11.fits"
        write_bytes(path, b"old")
        for size in (1 << 20, (1 << 20) + 4096, 1 << 22):
            with pytest.raises(DiskFullError, match="No space left"):
                write_bytes(path, b"x" * size)
            assert path.read_bytes() == b"old"
            assert names(disk) == ["S11.fits"]
        write_bytes(path, b"y" * (1 << 19))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"cannot write .*S11\.fits: .*; check that") as caught:
        write_bytes(tmp_path / "file" / "S11.fits", b"x")
    assert "\n" not in str(caught.value)
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path, b"x")
    assert names(tmp_path) == ["file"]


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a", b"x")
    assert names(tmp_path) == []


def test_an_error_of_fsync_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="Disk quota exceeded"):
        write_bytes(tmp_path / "a", b"x")
    assert names(tmp_path) == []


def test_a_folder_gets_its_name_once(tmp_path: Path) -> None:
    final = tmp_path / "230-250"
    for attempt in ("first", "second"):
        temporary = tmp_path / f".{attempt}"
        write_bytes(temporary / "deepDiff" / "record.json", attempt.encode())
    publish_folder(tmp_path / ".first", final)
    with pytest.raises(OutputError, match="230-250 exists already; remove it"):
        publish_folder(tmp_path / ".second", final)
    assert (final / "deepDiff" / "record.json").read_bytes() == b"first"
    assert names(tmp_path) == [".second", "230-250"]


def test_a_folder_does_not_replace_a_file_or_a_link(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(OutputError, match="exists already"):
            publish_folder(tmp_path / "new", tmp_path / name)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_the_writer_loads_no_numpy() -> None:
    """The launcher uses it, and starts without NumPy."""
    code = "import sys, diffrun.files.atomic; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
