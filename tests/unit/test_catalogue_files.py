# SPDX-License-Identifier: BSD-3-Clause
"""The DIA sources as Parquet, read by pyarrow and astropy, and as regions."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as arrow
import pytest
from astropy.table.meta import get_header_from_yaml
from astropy.units import Unit

from diffrun.engine import cataloguefiles, diasrc, quality
from diffrun.files import parquet
from diffrun.files.afw.catalog import Catalog, read_catalog


def catalog(rows: int) -> Catalog:
    rng = np.random.default_rng(rows)
    columns = diasrc.empty(rows)
    for values in columns.values():
        if values.dtype.kind == "b":
            values[:] = rng.random(rows) > 0.5
        elif values.dtype.kind == "f":
            values[:] = rng.normal(size=rows)
        else:
            values[:] = rng.integers(np.iinfo(values.dtype).min, np.iinfo(values.dtype).max, rows)
        if values.dtype.kind == "f":
            values[:1] = np.nan
    return diasrc.catalogue(columns)


@pytest.mark.parametrize("rows", [0, 1, 8, 1001])
def test_pyarrow_reads_every_value(rows: int) -> None:
    sent = catalog(rows)
    content = cataloguefiles.table(sent)
    assert content == cataloguefiles.table(sent)
    found = arrow.read_table(io.BytesIO(content))
    assert found.column_names == sent.names
    assert found.num_rows == rows
    for name in sent.names:
        got = found[name].to_numpy()
        assert got.dtype == sent[name].dtype or not rows, name
        assert np.array_equal(got, sent[name], equal_nan=got.dtype.kind == "f"), name
        assert not found.schema.field(name).nullable


def test_units_and_descriptions_as_astropy_reads_them() -> None:
    """By the function with which ``Table.read`` does it; that itself also wants pandas."""
    sent = catalog(5)
    notes = arrow.read_schema(io.BytesIO(cataloguefiles.table(sent))).metadata
    header = get_header_from_yaml(notes[b"table_meta_yaml"].decode().split("\n"))
    for field, entry in zip(sent.fields, header["datatype"], strict=True):
        assert entry["name"] == field.name
        assert entry["datatype"] == sent[field.name].dtype.name
        assert entry.get("description", "") == field.doc
        assert entry.get("unit", "") == field.unit
        Unit(entry.get("unit", ""))  # raises what astropy does not know


def test_small_integers_and_notes() -> None:
    values = [0, 1, 100]
    columns = {f"c{dtype}": np.array(values, dtype) for dtype in ("i1", "u1", "i2", "u2", "i4", "i8", "f4")}
    found = arrow.read_table(io.BytesIO(parquet.table_to_bytes(columns, {"note": "x" * 300, "é": "ü"})))
    assert found.column_names == list(columns)
    assert all(found[name].to_pylist() == values for name in columns)
    assert found.schema.metadata == {b"note": b"x" * 300, "é".encode(): "ü".encode()}
    with pytest.raises(ValueError, match="the column a has the type uint64"):
        parquet.table_to_bytes({"a": np.zeros(2, np.uint64)}, {})
    with pytest.raises(ValueError, match=r"lengths \[1, 2\]"):
        parquet.table_to_bytes({"a": np.zeros(2), "b": np.zeros(1)}, {})


def test_a_catalogue_of_the_stack(shared_data: Path) -> None:
    sent = read_catalog(shared_data / "lsst_reference" / "source_catalog.fits")
    found = arrow.read_table(io.BytesIO(cataloguefiles.table(sent)))
    assert np.array_equal(found["id"].to_numpy(), sent["id"])
    assert np.array_equal(found["ref_arrayF_2"].to_numpy(), sent["ref_arrayF"][:, 2])
    kinds = {f.name: f.type for f in sent.fields}
    assert not {name for name, kind in kinds.items() if kind == "String"} & set(found.column_names)


def test_regions() -> None:
    sent = catalog(4)
    sent["coord_ra"][:], sent["coord_dec"][:] = np.radians([53.0, 53.1, 53.2, np.nan]), np.radians(-27.5)
    kinds = np.array([quality.POSITIVE, quality.NEGATIVE, quality.DIPOLE, quality.POSITIVE], np.int8)
    shown = quality.Sources(
        np.zeros(4), np.zeros(4), kinds, np.array([False, True, False, False]), np.array([5.5, -7.25, 9, 6])
    )
    lines = cataloguefiles.regions(sent, shown).splitlines()
    assert lines[0] == "# Region file format: DS9 version 4.1"
    assert lines[2] == "icrs"
    form = re.compile(
        r"point\(([\d.]+),(-[\d.]+)\) # point=(\w+ \d+) color=(\w+) tag=\{(\w+)\}"
        r"( tag=\{flagged\})? text=\{(-?\d+): ([-+][\d.]+)\}"
    )
    found = [form.fullmatch(line) for line in lines[3:]]
    assert len(found) == 3  # one has no place
    assert [match and match.groups() for match in found] == [
        ("53.00000000", "-27.50000000", "circle 15", "green", "positive", None, str(sent["id"][0]), "+5.5"),
        ("53.10000000", "-27.50000000", "box 9", "magenta", "negative", " tag={flagged}",
         str(sent["id"][1]), "-7.2"),
        ("53.20000000", "-27.50000000", "diamond 15", "cyan", "dipole", None, str(sent["id"][2]), "+9.0"),
    ]  # fmt: skip
