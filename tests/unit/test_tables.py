# SPDX-License-Identifier: BSD-3-Clause
"""Long tables as CSV and Parquet: pyarrow and the csv module read what was sent."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pyarrow.parquet as arrow
import pytest

from diffrun.errors import OutputError
from diffrun.files import tables
from diffrun.files.tables import Column, written

COLUMNS = (
    Column("pair"),
    Column("object", "i8"),
    Column("flux", "f8", ".7g"),
    Column("count", "i8", optional=True),
    Column("dipole", "b1", optional=True),
)
BLOCK = {
    "pair": ["230-195529", None, 'Σ "a,b"\n'],
    "object": [1, 2, 2**40],
    "flux": [1.23456789, math.nan, None],
    "count": [7, None, 0],
    "dipole": [True, False, None],
}


def write(path: Path, blocks: int) -> list[dict[str, object]]:
    with written(path, COLUMNS) as table:
        for _ in range(blocks):
            table.add(BLOCK)
    return arrow.read_table(path.with_suffix(".parquet")).to_pylist()


@pytest.mark.parametrize("blocks", [0, 1, 7])
def test_what_is_sent_is_read(tmp_path: Path, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_GROUP", 5)
    found = write(tmp_path / "all.csv", blocks)
    names = [column.name for column in COLUMNS]
    assert len(found) == 3 * blocks
    assert arrow.read_schema(tmp_path / "all.parquet").names == names
    assert arrow.ParquetFile(tmp_path / "all.parquet").num_row_groups == math.ceil(blocks / 2)
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == names and len(rows) == 3 * blocks + 1
    for n in range(blocks):
        first, second, third = found[3 * n : 3 * n + 3]
        assert list(first.values()) == ["230-195529", 1, 1.23456789, 7, True]
        assert second["pair"] == "" and math.isnan(second["flux"])
        assert (second["count"], second["dipole"]) == (None, False)
        assert (third["pair"], third["object"], third["count"]) == ('Σ "a,b"\n', 2**40, 0)
        assert math.isnan(third["flux"]) and third["dipole"] is None
        assert rows[1 + 3 * n :][:3] == [
            ["230-195529", "1", "1.234568", "7", "1"],
            ["", "2", "", "", "0"],
            ['Σ "a,b"\n', str(2**40), "", "0", ""],
        ]


def test_pieces_make_the_same_bytes(tmp_path: Path) -> None:
    whole = {name: list(values) * 2 for name, values in BLOCK.items()}
    write(tmp_path / "pieces.csv", 2)
    with written(tmp_path / "whole.csv", COLUMNS) as table:
        table.add(whole)
    for end in ("csv", "parquet"):
        assert (tmp_path / f"pieces.{end}").read_bytes() == (tmp_path / f"whole.{end}").read_bytes()


def test_both_or_neither(tmp_path: Path) -> None:
    with pytest.raises(KeyError), written(tmp_path / "all.csv", COLUMNS) as table:
        table.add(BLOCK)
        table.add({"pair": ["x"]})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "all.parquet").mkdir()
    with pytest.raises(OutputError):
        write(tmp_path / "all.csv", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["all.parquet"]
