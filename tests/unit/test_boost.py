# SPDX-License-Identifier: BSD-3-Clause
"""Task metadata in Boost archives: the layout that the stack's own reader accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffrun.engine.boost import parse, read
from diffrun.engine.metadata import to_boost
from diffrun.errors import DataError

#: Laid out by the rules of PropertySetFormatter; Boost itself reads it back.
SAMPLE = (
    b"22 serialization::archive 14 0 0 1 0\n"
    b"0 3 27 imageDifference.runStartUtc 115 0 0 1 0 26 2016-11-12T01:02:03.456789 "
    b"31 imageDifference.runStartCpuTime 100 1 0 1.23399999999999999e+01 "
    b"42 imageDifference.runStartMaxResidentSetSize 105 1 0 123456\n"
)


def test_reads_what_the_stack_writes() -> None:
    assert parse(SAMPLE) == {
        "imageDifference.runStartUtc": "2016-11-12T01:02:03.456789",
        "imageDifference.runStartCpuTime": 12.34,
        "imageDifference.runStartMaxResidentSetSize": 123456,
    }


def test_reads_what_the_engine_writes() -> None:
    items = {
        "task:subtract.ALKernelSize": 21,
        "task:subtract.ALBasisSigGauss": [0.7, 1.4, 2.8],
        "task:subtract.convolved": "science",
        "task.words with spaces": ["a b", "", "c"],
        "task.done": True,
        "task.sum": -1.25e-3,
    }
    assert parse(to_boost(items)) == items


@pytest.mark.parametrize("length", [0, 10, 37, 60, 100, len(SAMPLE) - 8])
def test_refuses_a_cut_file(tmp_path: Path, length: int) -> None:
    path = tmp_path / "metadata.boost"
    path.write_bytes(SAMPLE[:length])
    with pytest.raises(DataError, match="not task metadata"):
        read(path)


@pytest.mark.parametrize(
    "change", [(b" 115 0", b" 999 0"), (b"27 image", b"99999 image"), (b"100 1 0", b"100 -5 0")]
)
def test_refuses_a_damaged_file(tmp_path: Path, change: tuple[bytes, bytes]) -> None:
    path = tmp_path / "metadata.boost"
    path.write_bytes(SAMPLE.replace(*change))
    with pytest.raises(DataError, match="not task metadata"):
        read(path)
