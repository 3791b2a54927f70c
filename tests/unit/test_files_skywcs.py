# SPDX-License-Identifier: BSD-3-Clause
"""AST frame sets of the stack's own files, against what the stack makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffrun.errors import DataError
from diffrun.files import fitsread
from diffrun.files.afw import skywcs
from diffrun.files.afw.archive import Archive

MAS = 1 / 3.6e6  # degrees
NAMES = (
    "coadd",
    "double_gaussian",
    "gaussian",
    "kernel_fixed",
    "kernel_polynomial",
    "pca",
    "psfex",
    "warped",
)


def content(path: Path) -> bytes:
    """The stored bytes of a file's WCS."""
    with fitsread.opened(path) as hdus:
        archive = Archive.read(hdus, hdus[0].header["AR_HDU"] - 1)
        return bytes(archive.row(hdus[0].header["SKYWCS_ID"])["wcs"])


@pytest.mark.parametrize("name", NAMES)
def test_as_the_stack_evaluates_it(shared_data: Path, name: str) -> None:
    wcs = skywcs.from_bytes(content(shared_data / "lsst_reference" / f"{name}.fits"))
    truth = np.load(shared_data / "lsst_reference" / f"{name}.truth.npz")
    x, y = truth["wcs_pixels"].T
    want_ra, want_dec = truth["wcs_ra_dec_deg"].T
    ra, dec = wcs.pixel_to_sky(x, y)
    assert np.abs((ra - want_ra) * np.cos(np.radians(dec))).max() < 1e-5 * MAS
    assert np.abs(dec - want_dec).max() < 1e-5 * MAS
    back_x, back_y = wcs.sky_to_pixel(want_ra, want_dec)
    assert max(np.abs(back_x - x).max(), np.abs(back_y - y).max()) < 1e-8


def test_a_mapping_that_is_not_known_is_named(shared_data: Path) -> None:
    stored = content(shared_data / "lsst_reference" / "kernel_fixed.fits")
    with pytest.raises(DataError, match=r"class AST TimeMap; give one made of CmpMap"):
        skywcs.from_bytes(stored.replace(b"Begin WinMap", b"Begin TimeMap"))
    with pytest.raises(DataError, match="projection SIN; give one with the projection TAN"):
        skywcs.from_bytes(stored.replace(b'"TAN"', b'"SIN"'))
