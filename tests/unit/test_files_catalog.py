# SPDX-License-Identifier: BSD-3-Clause
"""Source catalogues against the stack's own dump of one, and against its rules for what it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import ascii as text_tables
from astropy.io import fits
from astropy.table import Table

from diffrun.errors import DataError
from diffrun.files.afw.catalog import Catalog, Field, catalog_to_bytes, read_catalog, write_catalog

KEY = [Field("id", "L"), Field("coord_ra", "Angle"), Field("coord_dec", "Angle"), Field("parent", "L")]


def catalog(rows: int = 5, flags: int = 11) -> Catalog:
    rng = np.random.default_rng(rows)
    fields = [
        *KEY,
        Field("base_PsfFlux_flux", "D", "count", "flux of a fit of the PSF, " * 6 + "in full"),
        Field("base_PsfFlux_fluxSigma", "F", "count"),
        Field("base_SdssCentroid_x", "D", "pixel"),
        Field("nChild", "I"),
        Field("short", "U"),
        Field("byte", "B"),
        Field("array", "F"),
        *(Field(f"flag_{n}", "Flag", "", f"the flag {n}") for n in range(flags)),
    ]  # fmt: skip
    columns: dict[str, np.ndarray] = {f.name: rng.random(rows) for f in fields}
    columns |= {f.name: rng.random(rows) > 0.5 for f in fields if f.type == "Flag"}
    columns |= {"id": (117884 << 23) + np.arange(rows), "parent": np.zeros(rows, np.int64)}
    columns |= {
        "nChild": np.arange(rows) - 3,
        "short": 65535 - np.arange(rows),
        "byte": np.arange(rows) % 256,
    }
    columns |= {
        "array": rng.random((rows, 3), np.float32),
        "base_PsfFlux_fluxSigma": rng.random(rows, np.float32),
    }
    columns["base_PsfFlux_flux"][:1] = np.nan
    return Catalog(
        fields, columns, {"slot_PsfFlux": "base_PsfFlux", "slot_Centroid": "base_SdssCentroid"}, {"RUN": 3}
    )


@pytest.mark.parametrize(("rows", "flags"), [(5, 11), (1, 1), (0, 8), (300, 0)])
def test_a_catalogue_comes_back_as_it_was_written(tmp_path: Path, rows: int, flags: int) -> None:
    sent = catalog(rows, flags)
    write_catalog(tmp_path / "src.fits", sent)
    back = read_catalog(tmp_path / "src.fits")
    assert len(back) == rows
    assert back.fields == [
        Field(f.name, f.type, "rad" if f.type == "Angle" else f.unit, f.doc) for f in sent.fields
    ]
    for name in sent.names:
        assert np.array_equal(back[name], sent[name], equal_nan=back[name].dtype.kind == "f")
    assert (back.aliases, back.metadata) == (sent.aliases, sent.metadata)
    assert catalog_to_bytes(back) == (tmp_path / "src.fits").read_bytes()


def test_astropy_reads_what_is_written(tmp_path: Path) -> None:
    sent = catalog()
    write_catalog(tmp_path / "src.fits", sent)
    table = Table.read(tmp_path / "src.fits", hdu=1)
    assert np.array_equal(table["flags"], np.stack([sent[f"flag_{n}"] for n in range(11)], axis=1))
    for name in ("id", "nChild", "short", "byte", "array"):
        assert np.array_equal(table[name], sent[name])
    assert str(table["coord_ra"].unit) == "rad"


def test_the_cards_stand_in_the_order_afw_demands(tmp_path: Path) -> None:
    """afw.md 4.2: no flag before the key fields, TTYPE first within a column, a type and a version."""
    write_catalog(tmp_path / "src.fits", catalog())
    with fits.open(tmp_path / "src.fits") as hdus:
        assert len(hdus) == 2
        header = hdus[1].header
        cards = list(header)
        assert cards.index("TTYPE5") < cards.index("FLAGCOL") < cards.index("TFLAG1") < cards.index("TFDOC1")
        assert [header[f"TTYPE{n}"] for n in range(1, 6)] == [
            "flags",
            "id",
            "coord_ra",
            "coord_dec",
            "parent",
        ]
        assert [header[f"TFORM{n}"] for n in range(1, 6)] == ["11X", "1K", "1D", "1D", "1K"]
        for number in range(2, header["TFIELDS"] + 1):
            first = cards.index(f"TTYPE{number}")
            assert cards[first + 1] == f"TFORM{number}"
            assert f"TCCLS{number}" in cards[first : first + 6]
        assert (header["TUNIT3"], header["TCCLS3"]) == ("rad", "Angle")
        assert (header["AFW_TYPE"], header["AFW_TABLE_VERSION"], header["FLAGCOL"]) == ("SOURCE", 1, 1)
        assert "AR_HDU" not in header
        aliases = [card.value for card in header.cards if card.keyword == "ALIAS"]
        assert aliases == ["slot_Centroid:base_SdssCentroid", "slot_PsfFlux:base_PsfFlux"]


def test_afws_own_version_1(shared_data: Path) -> None:
    found = read_catalog(shared_data / "afw" / "sourceTable-v1.fits")
    assert found["id"].tolist() == [50, 2, 3]
    assert np.isnan(found["coord_ra"]).all()
    flags = [[bool(found[f"{name}_flag"][row]) for name in "abc"] for row in range(3)]
    assert flags == [[False, False, True], [False, False, True], [False, True, True]]
    assert found["a_flux"].tolist() == [1.6243453636632417, -1.0998912673140309, -0.691660751725309]
    assert found["slot_Centroid_x"].tolist() == [
        -0.5281717522634557,
        -0.8778584179213718,
        -0.6871727001195994,
    ]
    assert found["slot_Shape_xx"].tolist() == [1.74481176421648, 1.1447237098396141, -1.1173103486352778]
    flux, error = found.flux("slot_PsfFlux")
    # The file's maker filled row 0 from this generator, in this order.
    assert flux[0] == np.random.RandomState(1).randn(12)[0]
    assert error[0] == pytest.approx(np.random.RandomState(1).randn(12)[1], rel=1e-7)


def test_the_stacks_own_dump_of_version_3(shared_data: Path) -> None:
    folder = shared_data / "lsst_reference"
    found = read_catalog(folder / "source_catalog.fits")
    said = json.loads((folder / "source_catalog.json").read_text())
    dump = text_tables.read(folder / "source_catalog.ecsv", format="ecsv")
    assert len(found) == said["n"]
    assert found.aliases == said["aliases"]
    variable = {f["name"] for f in said["fields"] if f["size"] == 0}
    assert {f.name for f in found.fields} | variable | {"footprint"} == {
        f["name"] for f in said["fields"]
    } | {"footprint"}
    for f in found.fields:
        if f.name == "footprint":
            continue
        column = dump[f.name]
        if f.name == "ref_arrayF":
            want = np.array([list(value) for value in column], np.float32)
        else:
            want = np.array(column.filled("") if hasattr(column, "filled") else column)
        assert np.array_equal(found[f.name], want, equal_nan=found[f.name].dtype.kind == "f"), f.name
    x, y = np.array(said["slots"]["centroid"]).T
    assert np.array_equal(found["slot_Centroid_x"], x, equal_nan=True)
    assert np.array_equal(found["slot_Centroid_y"], y, equal_nan=True)


@pytest.mark.parametrize(("visit", "rows", "primary"), [(4192, 299, 284), (6377, 344, 330)])
def test_stripe_82(shared_data: Path, visit: int, rows: int, primary: int) -> None:
    found = read_catalog(shared_data / "stripe82_repo" / "src" / f"v{visit}-fr" / "R22" / "S11.fits")
    assert (len(found), int(found["detect_isPrimary"].sum())) == (rows, primary)
    assert ((found["id"] >> 23) == (visit << 9) + 124).all()
    stars = text_tables.read(shared_data / "stripe82_repo" / "matched_stars.ecsv", format="ecsv")
    flux, error = found.flux("slot_PsfFlux")
    assert np.isfinite(flux).any()
    assert (error[np.isfinite(error)] > 0).all()
    column = next(
        name for name in stars.colnames if str(visit) in name and name.lower().endswith("x" + f"_{visit}")
    )
    x = found["slot_Centroid_x"]
    for star in np.array(stars[column], float):
        assert np.nanmin(np.abs(x - star)) < 0.01


def test_an_empty_schema_is_read(shared_data: Path) -> None:
    found = read_catalog(shared_data / "stripe82_repo" / "schema" / "src.fits")
    assert len(found) == 0
    assert "slot_PsfFlux_flag" in found


def test_version_0_is_refused(shared_data: Path) -> None:
    with pytest.raises(DataError, match="catalogue of version 0; give one of version 1, 2 or 3"):
        read_catalog(shared_data / "afw" / "old-footprint-persistence.fits")


def test_an_image_is_no_catalogue(shared_data: Path) -> None:
    with pytest.raises(DataError, match=r"small\.fits: there is no table in HDU 1"):
        read_catalog(shared_data / "afw" / "small.fits")


def test_aliases_match_prefixes_as_in_afw() -> None:
    fields = [*KEY, Field("base_X"), Field("base_X_flag", "Flag"), Field("other")]
    columns: dict[str, Any] = {f.name: np.arange(2) for f in fields}
    found = Catalog(
        fields, columns, {"slot_A": "slot_B", "slot_B": "base_X", "slot_C": "other", "slot_CA": "id"}
    )
    assert found.resolve("slot_A") == "base_X"
    assert found.resolve("slot_A_flag") == "base_X_flag"
    assert found.resolve("slot_CA") == "id"
    # The alias that sorts directly before is slot_CA, which is no prefix; slot_C is not tried any more.
    assert found.resolve("slot_C_flag") == "slot_C_flag"
    assert found.resolve("slot") == "slot"
    with pytest.raises(KeyError, match=r"no column 'slot_A_err' \(base_X_err\)"):
        found["slot_A_err"]
    with pytest.raises(DataError, match="circle"):
        Catalog(fields, columns, {"a": "b", "b": "a"}).resolve("a")


def test_rows_can_be_chosen() -> None:
    some = catalog().where(np.array([True, False, True, False, False]))
    assert len(some) == 2
    assert some["byte"].tolist() == [0, 2]


def test_what_afw_could_not_read_is_not_written() -> None:
    good = catalog()
    with pytest.raises(ValueError, match="begins with"):
        catalog_to_bytes(Catalog(good.fields[1:], good.columns))
    with pytest.raises(ValueError, match="type 'Z'"):
        catalog_to_bytes(Catalog([*KEY, Field("nChild", "Z")], good.columns))
    with pytest.raises(ValueError, match="byte of type 'B' cannot hold its values"):
        catalog_to_bytes(Catalog(good.fields, {**good.columns, "byte": np.arange(5) + 255}))
    with pytest.raises(ValueError, match="lacks the columns"):
        Catalog([Field("x")], {})
