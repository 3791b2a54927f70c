# SPDX-License-Identifier: BSD-3-Clause
"""The door to FITS: the same bytes for the same data, and one clear line for whatever is damaged."""

from __future__ import annotations

import gzip
import io
import os
import signal
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from diffrun.errors import DataError
from diffrun.files import fits as door
from diffrun.files.afw.background import Background, Layer, read_background, write_background
from diffrun.files.afw.catalog import Catalog, Field, read_catalog, write_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf
from diffrun.files.afw.reader import read_exposure, read_kernel, read_summary
from diffrun.files.afw.wcs import TanSipWcs
from diffrun.files.afw.writer import write_exposure, write_kernel
from diffrun.files.fitswrite import Image, to_bytes


def kernel(rng: np.random.Generator) -> LinearCombinationKernel:
    return LinearCombinationKernel(rng.random((2, 5, 5)), rng.random((2, 3)), (0.0, 0.0, 50.0, 40.0))


@pytest.fixture(scope="module")
def exposure() -> Exposure:
    rng = np.random.default_rng(3)
    wcs = TanSipWcs((53.0, -27.4), (700.0, 300.0), np.array([[5e-5, 1e-5], [1e-5, -5e-5]]))
    return Exposure(
        image=rng.normal(size=(41, 53)).astype(np.float32),
        mask=rng.integers(0, 512, (41, 53), dtype=np.int32),
        variance=rng.random((41, 53), dtype=np.float32),
        wcs=wcs,
        psf=KernelPsf(kernel(rng), (20.0, 20.0)),
        mjd=59580.139555,
        metadata={"RUNNAME": "a run"},
    )


def catalog() -> Catalog:
    key = (("id", "L"), ("coord_ra", "Angle"), ("coord_dec", "Angle"), ("parent", "L"))
    fields = [Field(*pair) for pair in (*key, ("x", "D"), ("bad", "Flag"))]
    return Catalog(fields, {f.name: np.arange(7) for f in fields}, {"slot_X": "x"})


@pytest.fixture(scope="module")
def products(exposure: Exposure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("products")
    write_exposure(folder / "exposure.fits", exposure)
    write_kernel(folder / "kernel.fits", kernel(np.random.default_rng(4)))
    write_catalog(folder / "catalog.fits", catalog())
    grid = np.ones((6, 6), np.float32)
    write_background(folder / "background.fits", Background([Layer(grid, grid, (0, 0, 60, 60))]))
    return folder


def test_astropy_finds_every_checksum_right(products: Path) -> None:
    for path in sorted(products.iterdir()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(path, checksum=True) as hdus:
                hdus.verify("exception")
                assert "CHECKSUM" not in hdus[0].header
                for hdu in hdus[1:]:
                    assert "CHECKSUM" in hdu.header
                    assert hdu.data is not None


def test_checksums_of_random_bytes_agree_with_astropy() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 100, 1440, 5000):
        pixels = rng.integers(0, 65536, (size, 1)).astype(np.uint16)
        stream = io.BytesIO(to_bytes([Image([]), Image([], pixels)]))
        with fits.open(stream, checksum=True) as hdus:
            assert np.array_equal(hdus[1].data, pixels)


def test_the_same_data_give_the_same_bytes(
    products: Path, exposure: Exposure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        time.sleep(1.1)  # more than the resolution of a date in a header
        write_exposure(tmp_path / "exposure.fits", exposure)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (tmp_path / "exposure.fits").read_bytes() == (products / "exposure.fits").read_bytes()


READERS: dict[str, Callable[[Path], Any]] = {
    "exposure.fits": read_exposure,
    "kernel.fits": read_kernel,
    "catalog.fits": read_catalog,
    "background.fits": read_background,
}


@pytest.mark.parametrize("name", READERS)
def test_every_damaged_byte_beyond_the_first_hdu_is_seen(products: Path, tmp_path: Path, name: str) -> None:
    content = (products / name).read_bytes()
    rng = np.random.default_rng(1)
    damaged = tmp_path / name
    first = door.segments(content, damaged)[0].end
    for at in rng.integers(first, len(content), 60):
        if content[at // 80 * 80 :].startswith(b"CHECKSUM"):
            continue  # without this card the other sum still guards the data
        mutant = bytearray(content)
        mutant[at] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(mutant)
        with pytest.raises(DataError):
            READERS[name](damaged)


@pytest.fixture
def alarm() -> Iterator[None]:
    """Nothing may take more than a few seconds."""

    def hang(signum: int, frame: object) -> None:
        raise AssertionError("it hangs")

    old = signal.signal(signal.SIGALRM, hang)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


_VALUES = (
    b"999999999999",
    b"-1",
    b"0",
    b"1",
    b"3",
    b"T",
    b"'x'",
    b"1E300",
    b"NaN",
    b"2147483647",
    b"4",
    b"1000000",
)


def mutant(content: bytes, seed: int) -> bytes:
    """One of eight kinds of damage: bit, cut, insertion, zeros, value, lost card, swapped blocks, letter."""
    rng = np.random.default_rng(seed)
    data, size = bytearray(content), len(content)
    cards = [at for at in range(0, size, 80) if data[at + 8 : at + 10] == b"= "]
    at, card, kind = int(rng.integers(size)), int(rng.choice(cards)), seed % 8
    if kind == 0:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at:at] = rng.bytes(int(rng.integers(1, 3000)))
    elif kind == 3:
        end = min(size, at + int(rng.integers(1, 6000)))
        data[at:end] = bytes(end - at)
    elif kind == 4:
        data[card + 10 : card + 30] = _VALUES[int(rng.integers(len(_VALUES)))].rjust(20)
    elif kind == 5:
        del data[card : card + 80]
    elif kind == 6:
        one, two = (int(rng.integers(size // 2880)) * 2880 for _ in range(2))
        data[one : one + 2880], data[two : two + 2880] = data[two : two + 2880], data[one : one + 2880]
    else:
        data[card + int(rng.integers(80))] = int(rng.integers(256))
    return bytes(data)


def without_checksums(content: bytes) -> bytes:
    """The same file as a program that writes no checksums would have written it."""
    return content.replace(b"CHECKSUM=", b"NOTASUM1=").replace(b"DATASUM =", b"NOTASUM2=")


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("name", READERS)
def test_whatever_is_wrong_is_one_line_that_names_the_file(
    products: Path, tmp_path: Path, name: str, summed: bool
) -> None:
    content = (products / name).read_bytes()
    content = content if summed else without_checksums(content)
    path = tmp_path / name
    refused = 0
    for seed in range(96):
        path.write_bytes(mutant(content, seed))
        signal.alarm(5)
        for reader in (READERS[name], *([read_summary] if name == "exposure.fits" else [])):
            try:
                reader(path)
            except DataError as error:
                refused += 1
                assert str(path) in error.message
                assert error.remedy
                assert "\n" not in str(error)
    assert refused > 36


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello", "is not a FITS file"),
        (b"SIMPLE  =                    T".ljust(80), "cut short: a header that starts at byte 0 has no end"),
        (os.urandom(10_000), "is not a FITS file"),
        (b"\x1f\x8b\x08garbage", "is damaged"),
        (gzip.compress(b"SIMPLE  =" + b" " * 5000, mtime=0)[:-20], "cut short"),
    ],
)
def test_what_is_no_fits_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "S11.fits"
    path.write_bytes(content)
    for reader in (door.check, read_exposure, read_summary, read_catalog, read_background, read_kernel):
        with pytest.raises(DataError, match=words):
            reader(path)


def test_what_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"S11\.fits is not there; check the path"):
        read_exposure(tmp_path / "S11.fits")
    with pytest.raises(DataError, match="Is a directory"):
        read_exposure(tmp_path)


def test_a_cut_at_each_block_is_refused(products: Path, tmp_path: Path) -> None:
    """An interrupted writer leaves whole HDUs: a file that lacks its mask, its variance or its archive."""
    content = (products / "exposure.fits").read_bytes()
    path = tmp_path / "S11.fits"
    for end in range(0, len(content), 2880):
        path.write_bytes(content[:end])
        with pytest.raises(DataError):
            read_exposure(path)
    path.write_bytes(content + b"\0" * 2880)
    with pytest.raises(DataError, match="garbage"):
        read_exposure(path)


def test_a_gzipped_file_is_read(products: Path, tmp_path: Path) -> None:
    path = tmp_path / "S11.fits.gz"
    path.write_bytes(gzip.compress((products / "exposure.fits").read_bytes()))
    plain, zipped = read_exposure(products / "exposure.fits"), read_exposure(path)
    assert np.array_equal(plain.image, zipped.image)
    assert read_summary(path).shape == plain.shape
    door.check(path)


def test_looking_reads_no_pixel_and_is_quick(products: Path) -> None:
    start = time.perf_counter()
    door.check(products / "exposure.fits")
    assert time.perf_counter() - start < 0.1


def test_one_column_is_read_as_by_astropy(shared_data: Path, tmp_path: Path) -> None:
    columns = [
        fits.Column("flags", "11X", array=np.ones((3, 11), bool)),
        fits.Column("ID", "K", array=[7, 8, 9]),
        *(fits.Column(f"c{n}", form) for n, form in enumerate(("L", "3A", "2I", "J", "E", "D", "M", "PE()"))),
        fits.Column("id", "K", array=[-1, 2**60, 3]),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "table.fits")
    paths = [tmp_path / "table.fits", shared_data / "lsst_reference" / "source_catalog.fits"]
    for path in paths:
        table = fits.getdata(path, 1)
        assert np.array_equal(door.integers(path, "id"), table.field(list(table.dtype.names).index("id")))
    with pytest.raises(DataError, match=r"table\.fits has no column c2 of 64-bit integers"):
        door.integers(paths[0], "c2")


def test_missing_pixels_are_nan_in_the_file(exposure: Exposure, tmp_path: Path) -> None:
    write_exposure(tmp_path / "exposure.fits", exposure, missing=("NO_DATA",))
    with fits.open(tmp_path / "exposure.fits", checksum=True) as hdus:
        missing = (exposure.mask & exposure.bits("NO_DATA")) != 0
        assert missing.any()
        for number, plane in ((1, exposure.image), (3, exposure.variance)):
            assert np.array_equal(hdus[number].data, np.where(missing, np.nan, plane), equal_nan=True)
        assert np.array_equal(hdus[2].data, exposure.mask)
    assert np.isfinite(exposure.image).all()


def test_reading_takes_little_more_than_the_planes_and_writing_next_to_nothing(tmp_path: Path) -> None:
    planes = [np.ones((1500, 1000), dtype) for dtype in (np.float32, np.int32, np.float32)]
    planes[1] *= 1 << 7
    exposure = Exposure(*planes, None, planes={"ODD": 7})
    tracemalloc.start()
    try:
        write_exposure(tmp_path / "exposure.fits", exposure, missing=("NO_DATA",))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.reset_peak()
        back = read_exposure(tmp_path / "exposure.fits")
        assert tracemalloc.get_traced_memory()[1] < 1.45 * 3 * planes[0].nbytes
    finally:
        tracemalloc.stop()
    assert (back.mask == 1 << back.planes["ODD"]).all()
