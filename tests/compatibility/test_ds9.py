# SPDX-License-Identifier: BSD-3-Clause
"""SAOImage DS9 itself opens the difference and the region file; what it says of both is compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from diffrun.engine import cataloguefiles, quality
from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.reader import read_exposure
from diffrun.files.afw.wcs import TanSipWcs
from diffrun.files.afw.writer import write_exposure

#: It writes degrees with 7 decimals, half of the last being 0.18 mas, and pixels with 8 digits.
SKY = 0.6e-7
#: The region file has 8 decimals of a degree: 0.00004 arcsec in pixels of 0.2 arcsec.
PIXEL = 1e-3


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    """A display that nobody sees, by its name."""
    for program in ("Xvfb", "ds9"):
        if not shutil.which(program):
            pytest.skip(f"no program {program}: apt-get install saods9 xvfb")
    reader, writer = os.pipe()
    argv = ["Xvfb", "-displayfd", str(writer), "-nolisten", "tcp", "-screen", "0", "1000x900x24"]
    with subprocess.Popen(argv, pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        with os.fdopen(reader) as told:
            number = told.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
        server.terminate()


class Ds9:
    """DS9 in batch mode, in a home of its own; where it stops to ask, the test fails."""

    def __init__(self, screen: str, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "DISPLAY": screen}
        self.environment["XPA_METHOD"] = "local"

    def __call__(self, *words: object) -> None:
        argv = ["ds9", *map(str, words), "-exit"]
        subprocess.run(argv, env=self.environment, cwd=self.folder, check=True, timeout=60)

    def points(self, name: str) -> NDArray[np.float64]:
        """The points of a region file that it saved, (n, 2)."""
        lines = (self.folder / name).read_text().splitlines()
        found = [re.match(r"point\(([-+.\d]+),([-+.\d]+)\)", line) for line in lines]
        return np.array([[float(number) for number in match.groups()] for match in found if match])


@pytest.fixture(scope="module")
def ds9(screen: str, tmp_path_factory: pytest.TempPathFactory) -> Ds9:
    return Ds9(screen, tmp_path_factory.mktemp("ds9"))


@pytest.fixture(scope="module")
def sources(products: Path) -> Catalog:
    return read_catalog(products / "diaSrc-S11.fits")


def test_the_regions_lie_on_the_sources(ds9: Ds9, products: Path, sources: Catalog) -> None:
    """By its reading of the WCS, in pixels of the file and (its physical system) in those of the sensor."""
    words = ["-regions", "load", products / "diaSrc-S11.reg"]
    for system in ("image", "physical"):
        words += ["-regions", "system", system, "-regions", "save", ds9.folder / f"{system}.reg"]
    ds9(products / "diffexp-S11.fits", *words)
    places = np.stack([np.asarray(sources[f"slot_Centroid_{axis}"], float) for axis in "xy"], 1)
    first = read_exposure(products / "diffexp-S11.fits").xy0
    assert len(places) > 3
    assert np.allclose(ds9.points("image.reg"), places - first + 1, rtol=0, atol=PIXEL)
    assert np.allclose(ds9.points("physical.reg"), places + 1, rtol=0, atol=PIXEL)
    written, saved = ((path.read_text()) for path in (products / "diaSrc-S11.reg", ds9.folder / "image.reg"))
    for what in (r"point=\w+ \d+", r"text=\{.*?\}", r"tag=\{.*?\}"):
        assert re.findall(what, saved) == re.findall(what, written)
    assert [f"{{{number}: " in saved for number in sources["id"].tolist()] == [True] * len(places)


def test_regions_of_an_image_without_a_wcs(
    ds9: Ds9, products: Path, sources: Catalog, tmp_path: Path
) -> None:
    """In pixels of the file: on an image that says nothing of the sky they lie where the sources are."""
    first = read_exposure(products / "diffexp-S11.fits").xy0
    x, y = (np.asarray(sources[f"slot_Centroid_{axis}"], float) for axis in "xy")
    none = np.zeros(len(x), bool)
    shown = quality.Sources(x, y, np.full(len(x), quality.POSITIVE, np.int8), none, none * 1.0)
    (tmp_path / "sources.reg").write_text(cataloguefiles.regions(sources, shown, first))
    fits.writeto(tmp_path / "bare.fits", fits.getdata(products / "diffexp-S11.fits", 1))
    words = ["-regions", "load", tmp_path / "sources.reg", "-regions", "system", "image"]
    ds9(tmp_path / "bare.fits", *words, "-regions", "save", ds9.folder / "bare.reg")
    assert np.allclose(ds9.points("bare.reg"), np.stack([x, y], 1) - first + 1, rtol=0, atol=PIXEL)


@pytest.mark.parametrize("distorted", [False, True])
def test_the_sky_is_ours(ds9: Ds9, products: Path, tmp_path: Path, distorted: bool) -> None:
    file, exposure = products / "diffexp-S11.fits", read_exposure(products / "diffexp-S11.fits")
    rows, columns = exposure.image.shape
    if distorted:  # by some 7 pixels in the corners
        assert isinstance(exposure.wcs, TanSipWcs)
        terms = np.zeros((3, 3))
        terms[2, 0], terms[1, 1], terms[0, 2] = 1e-4, -2e-4, 3e-4
        box = (exposure.xy0[0], exposure.xy0[1], exposure.xy0[0] + columns, exposure.xy0[1] + rows)
        bent = replace(exposure.wcs, a=terms, b=-terms).with_reverse(box)
        file, exposure = tmp_path / "bent.fits", replace(exposure, wcs=bent)
        write_exposure(file, exposure)
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(1, columns, 5), np.linspace(1, rows, 5)))
    grid = ["image", *(f"point({a},{b})" for a, b in zip(x, y, strict=True))]
    (tmp_path / "grid.reg").write_text("\n".join(grid) + "\n")
    words = ["-regions", "load", tmp_path / "grid.reg", "-regions", "system", "wcs"]
    words += ["-regions", "sky", "icrs", "-regions", "skyformat", "degrees"]
    ds9(file, *words, "-regions", "save", ds9.folder / "sky.reg")
    ra, dec = exposure.wcs.pixel_to_sky(x - 1 + exposure.xy0[0], y - 1 + exposure.xy0[1])
    assert np.allclose(ds9.points("sky.reg"), np.stack([ra, dec], 1), rtol=0, atol=SKY)


@pytest.mark.parametrize("product", ["diffexp-S11", "matchexp-S11"])
def test_it_reads_every_pixel_of_every_plane(ds9: Ds9, products: Path, product: str) -> None:
    kinds = {"IMAGE": "<f4", "MASK": "<i2", "VARIANCE": "<f4"}
    words: list[object] = []
    for plane in kinds:
        words += [f"{products / product}.fits[{plane}]"]
        words += ["-export", "array", ds9.folder / f"{plane}.array", "little"]
    ds9(*words)
    with fits.open(products / f"{product}.fits") as hdus:
        for plane, kind in kinds.items():
            found = np.fromfile(ds9.folder / f"{plane}.array", kind).reshape(hdus[plane].shape)
            # it hands integers over as they are stored
            right = (
                hdus[plane].data - float(hdus[plane].header.get("BZERO", 0))
                if plane == "MASK"
                else hdus[plane].data
            )
            assert np.array_equal(found, right, equal_nan=True), plane
