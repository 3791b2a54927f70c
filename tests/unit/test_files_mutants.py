# SPDX-License-Identifier: BSD-3-Clause
"""3,500 spoilt FITS files, always the same: each gives an answer in seconds, an error of ours or the truth.

A file with checksums is never read to something else without an error. What checksums cannot see is left
out: they are sums, so that two blocks of one HDU may change places, and the first HDU has none.
"""

from __future__ import annotations

import gzip
import io
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from diffrun.engine.makecalexp import make as makecalexp
from diffrun.errors import DataError
from diffrun.files import fits as door
from diffrun.files.afw.background import read_background
from diffrun.files.afw.catalog import Catalog, Field, catalog_to_bytes, read_catalog
from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure
from diffrun.files.afw.footprints import Footprint, read_footprints
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf, PsfexPsf
from diffrun.files.afw.reader import read_exposure, read_kernel, read_summary
from diffrun.files.afw.wcs import TanSipWcs
from diffrun.files.afw.writer import exposure_to_bytes, write_kernel

MUTANTS = 250  # of each of 14 files
SECONDS = 5
BLOCK, CARD = 2880, 80
VALUES = ("999999999999", "-1", "0", "1", "3", "4", "T", "'x'", "1E300", "NaN", "2147483647", "1000000", "")
Rng = np.random.Generator


def bits(data: bytearray, rng: Rng) -> None:
    for place in rng.integers(len(data), size=rng.integers(1, 6)):
        data[place] ^= 1 << int(rng.integers(8))


def cut(data: bytearray, rng: Rng) -> None:
    del data[int(rng.integers(len(data))) :]


def longer(data: bytearray, rng: Rng) -> None:
    place = int(rng.integers(len(data)))
    data[place:place] = rng.bytes(int(rng.integers(1, 3000)))


def blank(data: bytearray, rng: Rng) -> None:
    place = int(rng.integers(len(data)))
    end = min(len(data), place + int(rng.integers(1, 6000)))
    data[place:end] = bytes(end - place)


def other_place(data: bytearray, rng: Rng) -> None:
    """A piece of the file over another, not as long as a block and not at its multiples."""
    size = int(rng.integers(1, 999))
    start, to = (int(rng.integers(max(len(data) - size, 1))) for _ in range(2))
    data[to : to + size] = data[start : start + size]


def cards(data: bytearray) -> list[int]:
    return [place for place in range(0, len(data), CARD) if data[place + 8 : place + 10] == b"= "]


def card_value(data: bytearray, rng: Rng) -> None:
    place = int(rng.choice(cards(data)))
    data[place + 10 : place + 30] = str(rng.choice(VALUES)).rjust(20).encode()


def card_gone(data: bytearray, rng: Rng) -> None:
    place = int(rng.choice(cards(data)))
    data[place : place + CARD] = b" " * CARD if rng.random() < 0.5 else b""


def card_letter(data: bytearray, rng: Rng) -> None:
    data[int(rng.choice(cards(data))) + int(rng.integers(CARD))] = int(rng.integers(256))


def card_over_another(data: bytearray, rng: Rng) -> None:
    one, other = (int(place) for place in rng.choice(cards(data), 2))
    data[one : one + CARD] = data[other : other + CARD]


MUTATORS = (bits, cut, longer, blank, other_place, card_value, card_gone, card_letter, card_over_another)


@dataclass(frozen=True)
class Subject:
    """A sound file, its readers, and what tells whether what was read is the same."""

    data: bytes
    readers: tuple[Callable[[Path], Any], ...]
    content: Callable[[Any], Any]
    sealed: bool = True


def exposure(psf: Any) -> Exposure:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(30, 36)).astype(np.float32)
    a, b = np.zeros((2, 4, 4))
    a[2, 0], b[1, 1] = 1e-6, -2e-6
    wcs = TanSipWcs((53.0, -27.4), (1020.0, 2060.0), np.array([[5e-5, 1e-6], [1e-6, -5e-5]]), a, b)
    return Exposure(
        image,
        rng.integers(0, 1 << 9, image.shape, dtype=np.int32),
        np.full_like(image, 2),
        wcs,
        psf,
        (1017, 2050),
        dict(DEFAULT_PLANES),
        "r",
        1e12,
        3e8,
        59580.139555,
        30.0,
        {"RUN": 3},
    )


def kernel() -> LinearCombinationKernel:
    rng = np.random.default_rng(2)
    return LinearCombinationKernel(
        rng.random((3, 5, 7)), rng.random((3, 6)), (1017.0, 2050.0, 1052.0, 2079.0)
    )


def catalog() -> Catalog:
    rng = np.random.default_rng(3)
    fields = [Field("id", "L"), Field("coord_ra", "Angle"), Field("coord_dec", "Angle"), Field("parent", "L")]
    fields += [Field("f_flux", "D", "count"), Field("f_n", "I"), *(Field(f"f_{n}", "Flag") for n in range(9))]
    columns: dict[str, Any] = {f.name: rng.random(20) for f in fields}
    columns |= {f.name: rng.random(20) > 0.5 for f in fields if f.type == "Flag"}
    columns |= {name: np.arange(20) for name in ("id", "parent", "f_n")}
    spans = np.array([[10, 2, 9], [11, 1, 3]], np.int32)
    one = Footprint(spans, np.array([3], np.int32), np.array([10], np.int32), np.array([2.5], np.float32))
    return Catalog(fields, columns, {"slot_PsfFlux": "f"}, {"RUN": 3}, [one] * 20)


def compressed(kind: str) -> bytes:
    """As CFITSIO leaves them: in tiles, without checksums, with an integer mask."""
    hdus = fits.HDUList([fits.PrimaryHDU()])
    sent = exposure(None)
    for name, pixels in (("IMAGE", sent.image), ("MASK", sent.mask), ("VARIANCE", sent.variance)):
        quantized = {"quantize_level": 16.0 if kind == "RICE_1" and name != "MASK" else 0.0}
        hdu = fits.CompImageHDU(pixels, name=name, compression_type=kind, **quantized)
        hdu.header.update({"EXTTYPE": name, "INHERIT": True, "MP_SAT": 1, "MP_BAD": 0})
        hdu.header.update({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "CRPIX1": 3.0, "CRPIX2": 4.0})
        hdu.header.update({"CRVAL1": 53.0, "CRVAL2": -27.0, "CD1_1": 5e-5, "CD2_2": 5e-5, "PV1_1": 1.0})
        hdus.append(hdu)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return written(hdus)


def plain(kind: Any) -> bytes:
    """An image as no stack has seen it, with a mask and an inverse variance."""
    pixels = np.random.default_rng(4).poisson(900, (64, 64)).astype(np.int32)
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 30.0, "CRPIX2": 31.0, "CRVAL1": 53.0}
    cards |= {"CRVAL2": -27.0, "CD1_1": -5e-5, "CD2_2": 5e-5, "FILTER": "r", "GAIN": 1.0, "SATURATE": 6e4}
    first = [] if kind is fits.PrimaryHDU else [fits.PrimaryHDU()]
    planes = [fits.ImageHDU(pixels % 2, name="DQ"), fits.ImageHDU(1 / pixels, name="IVAR")]
    return written(fits.HDUList([*first, kind(pixels, fits.Header(cards)), *planes]))


def read_plain(path: Path) -> Any:
    """All that is read of a plain image before it is made a calexp."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as its program does
        return makecalexp.read(makecalexp.Ask(path))


def written(hdus: fits.HDUList) -> bytes:
    stream = io.BytesIO()
    hdus.writeto(stream)
    return stream.getvalue()


def subjects(tmp_path: Path) -> dict[str, Subject]:
    """The files made here."""
    pca, psfex = (
        KernelPsf(kernel(), (1030.0, 2060.0)),
        PsfexPsf(
            np.random.default_rng(3).random((3, 9, 11), dtype=np.float32),
            1,
            (10.0, 20.0),
            (30.0, 40.0),
            0.75,
            (1020.0, 2055.0),
        ),
    )
    write_kernel(tmp_path / "kernel.fits", kernel())
    whole = bytes(exposure_to_bytes(exposure(pca)))
    reads = (read_exposure, read_summary)
    table = bytes(catalog_to_bytes(catalog()))
    return {
        "PCA": Subject(whole, reads, pixels),
        "PSFEx": Subject(bytes(exposure_to_bytes(exposure(psfex))), reads, pixels),
        "gzip": Subject(gzip.compress(whole, mtime=0), (read_exposure,), pixels),
        "kernel": Subject((tmp_path / "kernel.fits").read_bytes(), (read_kernel,), lambda k: k.at(1, 2)),
        "catalogue": Subject(table, (read_catalog,), lambda c: bytes(catalog_to_bytes(c))),
        "footprints": Subject(table, (read_footprints,), str),
        "GZIP_2": Subject(compressed("GZIP_2"), reads, str, sealed=False),
        "RICE_1": Subject(compressed("RICE_1"), reads, str, sealed=False),
        "plain": Subject(plain(fits.PrimaryHDU), (read_plain,), str, sealed=False),
        "plain RICE_1": Subject(plain(fits.CompImageHDU), (read_plain,), str, sealed=False),
    }


def pixels(read: Any) -> Any:
    """What an exposure holds; of a summary, which no checksum guards, nothing."""
    return bytes(exposure_to_bytes(read)) if isinstance(read, Exposure) else None


class Hangs(BaseException):
    """Not an `Exception`, so that no reader catches it."""


@contextmanager
def in_time() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutant(data: bytes, number: int) -> tuple[bytes, str]:
    """The spoilt file of that number, and what was done to it."""
    rng = np.random.default_rng(number)
    out = bytearray(data)
    spoil = MUTATORS[number % len(MUTATORS)]
    if not cards(out):  # a gzipped file
        spoil = MUTATORS[number % 5]
    spoil(out, rng)
    return bytes(out), spoil.__name__


def seen_by_checksums(sound: bytes, spoilt: bytes, path: Path) -> bool:
    """Whether the first HDU is as it was."""
    if sound[:2] == b"\x1f\x8b":
        return True
    end = door.segments(sound, path)[0].end
    return sound[:end] == spoilt[:end]


def try_all(subject: Subject, path: Path, first: int) -> dict[str, int]:
    """Read all mutants of a file; how many were refused, and how many read."""
    path.write_bytes(subject.data)
    sound = [subject.content(reader(path)) for reader in subject.readers]
    told = {"refused": 0, "read": 0}
    for number in range(first, first + MUTANTS):
        spoilt, how = mutant(subject.data, number)
        path.write_bytes(spoilt)
        for reader, truth in zip(subject.readers, sound, strict=True):
            label = f"mutant {number}, {how}, {reader.__name__}"
            started = time.monotonic()
            try:
                with in_time():
                    found = reader(path)
            except DataError as error:
                assert str(path) in str(error), label
                assert "\n" not in str(error), label
                told["refused"] += 1
                continue
            except (Hangs, Exception) as error:
                raise AssertionError(f"{label}: {type(error).__name__}: {error}") from error
            finally:
                assert time.monotonic() - started < SECONDS, label
            told["read"] += 1
            if subject.sealed and seen_by_checksums(subject.data, spoilt, path):
                assert np.array_equal(subject.content(found), truth), label
    return told


NAMES = ("PCA", "PSFEx", "gzip", "kernel", "catalogue", "footprints", "GZIP_2", "RICE_1")
NAMES += ("plain", "plain RICE_1")


@pytest.mark.parametrize("name", NAMES)
def test_of_files_made_here(tmp_path: Path, name: str) -> None:
    told = try_all(subjects(tmp_path)[name], tmp_path / "spoilt.fits", 1000 * NAMES.index(name))
    assert told["refused"] > 0
    assert (told["read"] > 0) == (name != "gzip")  # which has a checksum of the whole


STORED = {
    "afw/exposure-version-2.fits": (read_exposure, read_summary),
    "afw/sourceTable-v1.fits": (read_catalog, read_footprints),
    "stripe82_repo/calexp/v4192-fr/R22/bkgd-S11.fits": (read_background,),
    "lsst_reference/psfex.fits": (read_summary,),
}


@pytest.mark.parametrize("name", STORED)
def test_of_files_of_the_stack(shared_data: Path, tmp_path: Path, name: str) -> None:
    subject = Subject((shared_data / name).read_bytes(), STORED[name], str, sealed=False)
    told = try_all(subject, tmp_path / "spoilt.fits", 10_000 + 1000 * list(STORED).index(name))
    assert min(told.values()) > 0
