# SPDX-License-Identifier: BSD-3-Clause
"""Masks and noise planes beside an image: SDSS's fpM files, and what a noise plane means by measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from diffrun.engine.makecalexp import companions, plain
from diffrun.errors import DataError
from diffrun.files.afw.reader import read_exposure

TYPES = ("INTERP", "SATUR", "NOTCHECKED", "OBJECT", "BRIGHTOBJECT", "BINOBJECT", "CATOBJECT", "SUBTRACTED",
         "GHOST", "CR")  # fmt: skip
SHAPE = (40, 60)
Object = list[tuple[int, int, int]]


def table(objects: list[Object], more: dict[str, int]) -> fits.BinTableHDU:
    """One type of mask: a row for each object, its spans (y, x0, x1) in the heap."""
    rows = [
        {
            "refcntr": 1, "nspan": len(spans), "row0": 0, "col0": 0,
            "rmin": min(y for y, _, _ in spans), "rmax": max(y for y, _, _ in spans),
            "cmin": min(x for _, x, _ in spans), "cmax": max(x for _, _, x in spans),
            "npix": sum(last - first + 1 for _, first, last in spans), **more,
        }
        for spans in objects
    ]  # fmt: skip
    names = ("refcntr", "nspan", "row0", "col0", "rmin", "rmax", "cmin", "cmax", "npix")
    columns = [fits.Column(name, "1J", array=[row[name] for row in rows]) for name in names]
    heap = np.empty(len(objects), object)
    for number, spans in enumerate(objects):
        heap[number] = np.frombuffer(np.array(spans, ">i2").tobytes(), np.uint8)
    return fits.BinTableHDU.from_columns([*columns, fits.Column("s", "PB()", array=heap)])


def write(path: Path, objects: dict[str, list[Object]], shape: tuple[int, int] = SHAPE, **more: int) -> Path:
    """An fpM file with objects of some types."""
    first = fits.PrimaryHDU()
    first.header.update(NPLANE=len(TYPES), MASKROWS=shape[0], MASKCOLS=shape[1])
    last = fits.BinTableHDU.from_columns(
        [
            fits.Column("defName", "31A", array=["S_MASKTYPE"] * len(TYPES)),
            fits.Column("attributeName", "31A", array=[f"S_MASK_{name}" for name in TYPES]),
            fits.Column("Value", "1J", array=range(len(TYPES))),
        ]
    )
    last.header["TYPENAME"] = "S_MASKTYPE"
    tables = [table(objects.get(name, []), more) for name in TYPES]
    fits.HDUList([first, *tables, last]).writeto(path)
    return path


def read(path: Path, shape: tuple[int, int] = SHAPE) -> dict[str, NDArray[np.bool_]]:
    found = companions.find_mask(fits.HDUList(), path, shape)
    assert found is not None
    mask, planes, said = found
    assert "an fpM file of SDSS" in said
    return {name: (mask >> bit & 1).astype(bool) for name, bit in planes.items()}


def test_spans_become_planes_by_their_type(tmp_path: Path) -> None:
    objects: dict[str, list[Object]] = {
        "INTERP": [[(0, 0, 59)], [(5, 10, 12), (6, 9, 13)]],
        "SATUR": [[(6, 10, 12)]],
        "CR": [[(39, 59, 59)]],
        "OBJECT": [[(20, 20, 30)]],
    }
    found = read(write(tmp_path / "m.fit", objects))
    expected = np.zeros(SHAPE, bool)
    expected[0], expected[5, 10:13], expected[6, 9:14] = True, True, True
    np.testing.assert_array_equal(found["INTRP"], expected)
    assert np.argwhere(found["SAT"]).tolist() == [[6, 10], [6, 11], [6, 12]]
    assert np.argwhere(found["CR"]).tolist() == [[39, 59]]
    others = {name for name, plane in found.items() if plane.any()} - {"INTRP", "SAT", "CR"}
    assert not others


@pytest.mark.parametrize(
    ("spans", "more"),
    [
        ([(40, 0, 3)], {}),
        ([(-1, 0, 3)], {}),
        ([(1, 50, 60)], {}),
        ([(1, 5, 4), (2, 1, 1)], {}),
        ([(1, 5, 8)], {"npix": 5}),
        ([(1, 5, 8)], {"row0": 3}),
    ],
)
def test_spans_that_do_not_add_up_are_refused(tmp_path: Path, spans: Object, more: dict[str, int]) -> None:
    path = write(tmp_path / "m.fit", {"SATUR": [spans]}, **more)
    with pytest.raises(DataError, match=r"m\.fit: the spans of a mask do not add up"):
        read(path)


def test_the_mask_of_another_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is of a frame of \(40, 61\), the image is \(40, 60\)"):
        read(write(tmp_path / "m.fit", {}, (40, 61)))


@pytest.mark.parametrize(("run", "field"), [(4192, 300), (6377, 399)])
def test_the_surveys_own_masks_are_what_the_stack_reads(shared_data: Path, run: int, field: int) -> None:
    stack = read_exposure(shared_data / f"stripe82_repo/calexp/v{run}-fr/R22/S11.fits")
    (ny, nx), (x0, y0) = stack.shape, stack.xy0
    found = read(shared_data / f"stripe82/fpM-{run:06}-r4-{field:04}.fit", (1489, 2048))
    for name in ("INTRP", "SAT", "CR"):
        ours = found[name][y0 : y0 + ny, x0 : x0 + nx]
        assert ours.sum() > 200
        np.testing.assert_array_equal(ours, stack.has(name))


@pytest.mark.parametrize(
    ("named", "factor", "reading"),
    [
        ("", lambda sigma: sigma**2, "variance"),
        ("", lambda sigma: sigma, "sigma by measure"),
        ("", lambda sigma: 1 / sigma**2, "inverse variance by measure"),
        ("variance", lambda sigma: 1.5 * sigma**2, "variance: it tells 1.22 times"),
        ("variance", lambda sigma: 1 / sigma**2, "inverse variance by measure (not variance"),
        ("inverse variance", lambda sigma: sigma**2, "variance by measure (not inverse variance"),
        ("sigma", lambda sigma: 0.9 * sigma, "sigma: it tells 0.9 times"),
        (
            "inverse variance",
            lambda sigma: 40 / sigma**2,
            "relative weights, scaled to the image's own noise",
        ),
    ],
)
def test_what_a_noise_plane_means_is_measured(named, factor, reading) -> None:  # type: ignore[no-untyped-def]
    sigma = np.linspace(20, 40, 3600, dtype=np.float32).reshape(60, 60)
    noise = companions.Noise(factor(sigma).astype(np.float32), named, "noise.fits")
    variance, said = companions.as_variance(noise, sigma, np.ones(sigma.shape, bool))
    assert reading in said
    assert variance is not None
    scale = 1.5 if named == "variance" and "1.22" in reading else 0.81 if "0.9" in reading else 1.0
    np.testing.assert_allclose(variance, scale * sigma**2, rtol=2e-3)


def test_a_plane_that_tells_no_noise_of_this_image_is_not_used() -> None:
    sigma = np.full((60, 60), 30, np.float32)
    noise = companions.Noise(np.full((60, 60), 7, np.float32), "", "noise.fits")
    variance, said = companions.as_variance(noise, sigma, np.ones(sigma.shape, bool))
    assert variance is None
    assert said.startswith("noise.fits is not used: it tells ")


def test_an_image_is_no_fpm_file(tmp_path: Path) -> None:
    fits.writeto(tmp_path / "a.fits", np.zeros((40, 60), np.int16))
    with plain.open_file(tmp_path / "a.fits") as hdus:
        found = companions.find_mask(hdus, tmp_path / "a.fits", SHAPE)
    assert found is not None
    assert "every pixel that is not 0 is BAD" in found[2]
