# SPDX-License-Identifier: BSD-3-Clause
"""The files that a run reads: they are looked at when it is planned, and summed when it is time for that."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from diffrun.errors import RepositoryError
from diffrun.inputs import Input, planned, summed, summing


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for k in range(7):
        (tmp_path / f"{k}.fits").write_bytes(b"%d" % k * 100_000)
    return sorted(tmp_path.iterdir())


def test_sums_are_taken_meanwhile(files: list[Path]) -> None:
    found = [planned(path, path.name) for path in files]
    with summing(found, 2):
        seen = [item.name for item in found]
    for path in files:
        path.unlink()  # each has been read
    assert [item.sha256 for item in found] == [
        hashlib.sha256(b"%d" % k * 100_000).hexdigest() for k in range(7)
    ]
    assert seen == [f"{k}.fits" for k in range(7)]
    with summing(found):
        pass


def test_a_sum_is_taken_once(files: list[Path]) -> None:
    later, now = planned(files[0], "a"), summed(files[1], "b")
    for path in files[:2]:
        path.write_bytes(b"other")
    assert later.sha256 == hashlib.sha256(b"other").hexdigest()
    assert now.sha256 == hashlib.sha256(b"1" * 100_000).hexdigest()
    assert not later.unchanged()
    assert not now.unchanged()


def test_what_is_gone_is_named(files: list[Path]) -> None:
    found = [planned(path, path.name) for path in files]
    files[3].unlink()
    with pytest.raises(RepositoryError, match=r"cannot read .*3\.fits"), summing(found):
        pass
    with pytest.raises(RepositoryError, match=r"cannot read .*3\.fits"):
        planned(files[3], "3")


def test_a_failure_meanwhile_comes_first(files: list[Path]) -> None:
    found = [Input(Path(os.devnull, "nothing"), "nothing", 0, 0), *(planned(path, "x") for path in files)]
    with pytest.raises(KeyError), summing(found):
        raise KeyError
