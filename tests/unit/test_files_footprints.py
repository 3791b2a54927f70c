# SPDX-License-Identifier: BSD-3-Clause
"""Footprints against the stack's own dump of them, and against the layout that the stack wrote."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from diffrun.errors import DataError
from diffrun.files import fitsread
from diffrun.files.afw.archive import Archive
from diffrun.files.afw.catalog import Catalog, Field, read_catalog, write_catalog
from diffrun.files.afw.footprints import Footprint, read, read_footprints

KEY = [Field("id", "L"), Field("coord_ra", "Angle"), Field("coord_dec", "Angle"), Field("parent", "L")]


def test_the_stacks_own_dump(shared_data: Path) -> None:
    folder = shared_data / "lsst_reference"
    found = read_footprints(folder / "source_catalog.fits")
    with gzip.open(folder / "source_catalog.footprints.json.gz") as stream:
        said = json.load(stream)
    assert len(found) == len(said)
    assert read_catalog(folder / "source_catalog.fits")["id"].tolist() == [row["id"] for row in said]
    assert sum(one is not None and one.heavy is not None for one in found) == 29
    for one, row in zip(found, said, strict=True):
        assert one is not None
        assert one.spans.tolist() == row["spans"]
        assert list(
            zip(one.peaks_x.tolist(), one.peaks_y.tolist(), one.peak_values.tolist(), strict=True)
        ) == [(peak["ix"], peak["iy"], peak["value"]) for peak in row["peaks"]]
        assert (one.heavy is not None) == row["class_"].startswith("Heavy")
        for name, values in (one.heavy or {}).items():
            assert values.tolist() == row[name]


def test_a_footprint_of_old(shared_data: Path) -> None:
    """What the stack's own test says of this file: spans, peaks, box, area, centroid."""
    with fitsread.opened(shared_data / "afw" / "preSpanSetsFootprint.fits") as hdus:
        found = read(Archive.read(hdus, 1), 1)
    y, x0, x1 = found.spans.T
    assert (len(found.spans), len(found.peaks_x), int((x1 - x0 + 1).sum())) == (303, 48, 15738)
    assert (x0.min(), y.min(), x1.max() - x0.min() + 1, y.max() - y.min() + 1) == (32676, 27387, 175, 153)
    centre = ((x1 - x0 + 1) * (x0 + x1) / 2).sum() / 15738, ((x1 - x0 + 1) * y).sum() / 15738
    assert centre == pytest.approx((32775.476108781295, 27456.707332570848), rel=1e-14)
    assert (found.peaks_x[0], found.peaks_y[0], found.peak_values[0]) == (32783, 27448, np.float32(11.517975))


def test_footprints_of_version_0(shared_data: Path) -> None:
    """Numbers of spans, areas and boxes as in the stack's own test of this file."""
    plain, heavy = read_footprints(shared_data / "afw" / "old-footprint-persistence.fits")
    assert plain is not None
    assert heavy is not None
    for one, spans, area, box in ((plain, 29, 495, (129, 2, 25, 29)), (heavy, 44, 767, (1184, 2, 78, 38))):
        y, x0, x1 = one.spans.T
        assert (len(y), int((x1 - x0 + 1).sum())) == (spans, area)
        assert (x0.min(), y.min(), x1.max() - x0.min() + 1, y.max() - y.min() + 1) == box
    for one, peak in ((plain, (138, 22, np.float32(34.336323))), (heavy, (1203, 30, np.float32(49.927147)))):
        assert (one.peaks_x.tolist(), one.peaks_y.tolist()) == ([peak[0]], [peak[1]])
        assert one.peak_values.tolist() == [peak[2]]
    assert plain.heavy is None
    assert heavy.heavy is not None
    assert heavy.heavy["image"].sum(dtype=float) == pytest.approx(6910.3796688639995, rel=1e-14)
    assert heavy.heavy["variance"].sum(dtype=float) == pytest.approx(552918.7163085938, rel=1e-14)
    assert heavy.heavy["mask"][0] == 1072


def catalog(rows: int) -> Catalog:
    columns = {"id": np.arange(1, rows + 1), "coord_ra": np.zeros(rows), "coord_dec": np.zeros(rows)}
    footprints = [
        Footprint(
            np.array([[11 + n, 5, 7], [10 + n, 2, 9], [11 + n, 1, 3]], np.int32),
            np.array([3, 6][: 1 + n % 2], np.int32),
            np.array([10, 11][: 1 + n % 2], np.int32),
            np.array([25.5, -31.25][: 1 + n % 2], np.float32),
        )
        for n in range(rows)
    ]
    return Catalog(KEY, {**columns, "parent": np.zeros(rows, int)}, {}, {}, footprints)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_they_come_back_as_they_were_written(tmp_path: Path, rows: int) -> None:
    sent = catalog(rows)
    write_catalog(tmp_path / "diaSrc.fits", sent)
    back = read_footprints(tmp_path / "diaSrc.fits")
    assert sent.footprints is not None
    for one, other in zip(back, sent.footprints, strict=True):
        assert one is not None
        # afw wants its spans sorted by y, then x
        assert one.spans.tolist() == sorted(other.spans.tolist())
        for name in ("peaks_x", "peaks_y", "peak_values"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
    assert read_catalog(tmp_path / "diaSrc.fits").names == [f.name for f in KEY]


def layout(hdu: fits.BinTableHDU) -> list[tuple[str, str]]:
    return [(name, form) for name, form in zip(hdu.columns.names, hdu.columns.formats, strict=True)]


def test_the_layout_is_that_of_the_stack(shared_data: Path, tmp_path: Path) -> None:
    """By astropy alone: tables, columns and cards as in files that the stack of that age wrote."""
    write_catalog(tmp_path / "diaSrc.fits", catalog(3))
    write_catalog(tmp_path / "none.fits", catalog(0))
    afw = shared_data / "afw"
    with (
        fits.open(tmp_path / "diaSrc.fits") as ours,
        fits.open(afw / "preSpanSetsFootprint.fits") as old,
        fits.open(afw / "sourceTable-v1.fits") as empty,
        fits.open(tmp_path / "none.fits") as none,
    ):
        for number in range(2, 5):
            theirs = [column for column in layout(old[number - 1]) if column[0] != "flags"]
            assert layout(ours[number]) == theirs
            for card in ("EXTTYPE", "AR_CATN", "AR_NCAT", "AR_NAME", "AFW_TABLE_VERSION"):
                assert ours[number].header.get(card) == old[number - 1].header.get(card)
        for found in (ours, none):
            assert layout(found[1])[-1] == layout(empty[1])[-1] == ("footprint", "1J")
            assert found[1].header["AR_HDU"] == empty[1].header["AR_HDU"] == 3
        assert len(none) == len(empty) == 3
        for card in ("EXTTYPE", "AR_CATN", "AR_NCAT", "NAXIS1", "NAXIS2"):
            assert none[2].header[card] == empty[2].header[card]
        index = [tuple(row)[:5] for row in ours[2].data]
        assert index == [(1, 1, 0, 0, 3), (1, 2, 1, 0, 1), (2, 1, 0, 3, 3), (2, 2, 1, 1, 2),
                         (3, 1, 0, 6, 3), (3, 2, 1, 3, 1)]  # fmt: skip
        assert set(ours[2].data["name"]) == {"Footprint"}
        assert set(ours[2].data["module"]) == {"lsst.afw.detection"}


def test_a_catalogue_without_says_so(shared_data: Path) -> None:
    with pytest.raises(DataError, match="no table with footprints"):
        read_footprints(shared_data / "afw" / "small.fits")
