# SPDX-License-Identifier: BSD-3-Clause
"""Read FITS files HDU by HDU: pixels go from the disk into the array that is kept, and are summed on the way.

Compressed images are left to astropy.
"""

from __future__ import annotations

import mmap
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files import fits as door
from diffrun.files.fitsheader import Header
from diffrun.threads import bands, each

_PIECE = 1 << 19  # bytes, a multiple of 4: summed and swapped while it is in the cache
_TYPES = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
_FORM = re.compile(r"\s*(\d*)([LXBIJKAEDCMPQ])")
_ITEMS = {"L": "i1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_ITEMS |= {"C": ">c8", "M": ">c16"}
_ANEW = "get a whole copy of this file, or make it anew"
_ASTROPY = threading.Lock()  # what it does with warnings is not for two threads at a time


class Hdu:
    """One HDU of a file that is being read.

    Attributes
    ----------
    header : `Header`
    """

    def __init__(self, header: Header, segment: door.Segment, source: _Source, summed: bool) -> None:
        self.header = header
        self._segment, self._source, self._unproved = segment, source, summed

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx) of an image; empty where there are no data."""
        return tuple(int(self.header[f"NAXIS{axis}"]) for axis in range(int(self.header["NAXIS"]), 0, -1))

    @property
    def is_image(self) -> bool:
        """Whether the data are an image, or there are none."""
        return str(self.header.get("XTENSION", "IMAGE")).strip() == "IMAGE"

    @property
    def is_table(self) -> bool:
        """Whether the data are a binary table."""
        return str(self.header.get("XTENSION", "")).strip() == "BINTABLE"

    def pixels(self) -> NDArray[Any]:
        """An image's values as they are stored, in the machine's byte order, neither scaled nor moved."""
        if not self.is_image or not self.shape:
            raise DataError("there is no image where one should be", _ANEW)
        out = np.empty(self.shape, _TYPES[int(self.header["BITPIX"])])
        view = out.reshape(-1).view(np.uint8).data
        sums: list[int] = []

        def do(band: tuple[int, int]) -> None:
            part = view[slice(*band)]
            self._source.read(part, self._segment.data + band[0])
            words = part[: len(part) // 4 * 4]
            if self._unproved and out.itemsize != 4:
                sums.append(door.ones_sum(words))
            if out.itemsize > 1:
                door.swap(np.frombuffer(part, out.dtype))
            if self._unproved and out.itemsize == 4:
                sums.append(door.ones_sum(words, "="))

        each(do, bands(out.nbytes, _PIECE))
        self._prove(sum(sums), self._segment.data + out.nbytes // 4 * 4)
        return out

    def mapped(self) -> NDArray[Any] | None:
        """An image's values where they stand in the file, big-endian and read-only: read when looked at.

        `None` where they do not stand in it one by one. No checksum is looked at.
        """
        data = self._source.mapped()
        if data is None or not self.is_image or not self.shape:
            return None
        types = np.dtype(_TYPES[int(self.header["BITPIX"])]).newbyteorder(">")
        count = int(np.prod(self.shape))
        return np.frombuffer(data, types, count, self._segment.data).reshape(self.shape)

    def part(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Some rows and columns of a two-dimensional image as they are stored; only those are kept.

        The HDU is not proved by that: where it is to be, all of it is read and summed at the end.
        """
        if not self.is_image or not self.shape:
            raise DataError("there is no image where one should be", _ANEW)
        kind = np.dtype(_TYPES[int(self.header["BITPIX"])])
        width, wanted = self.shape[-1], columns.stop - columns.start
        out = np.empty((rows.stop - rows.start, wanted), kind)
        many = max(_PIECE // (width * kind.itemsize), 1)
        for top in range(0, len(out), many):
            piece = out[top : top + many]
            lines = piece if wanted == width else np.empty((len(piece), width), kind)
            at = self._segment.data + (rows.start + top) * width * kind.itemsize
            self._source.read(lines.reshape(-1).view(np.uint8).data, at)
            if lines is not piece:
                piece[:] = lines[:, columns]
        if kind.itemsize > 1:
            door.swap(out)
        return out

    def rows(self) -> NDArray[Any]:
        """A binary table's rows as they stand in the file."""
        if not self.is_table:
            raise DataError("there is no table where one should be", _ANEW)
        types, count = self.row_type(), int(self.header["NAXIS2"])
        if types.itemsize != self.header["NAXIS1"]:
            raise DataError(f"a table has rows of {self.header['NAXIS1']} bytes, not {types.itemsize}", _ANEW)
        data = self._data()
        return np.frombuffer(data, types, count) if types.itemsize and count else np.zeros(count, types)

    def row_type(self) -> np.dtype[Any]:
        """The type of a table's rows, from its columns."""
        columns: list[Any] = []
        for number in range(1, int(self.header["TFIELDS"]) + 1):
            name = str(self.header.get(f"TTYPE{number}", f"col{number}"))
            columns.append((name, *_column(str(self.header[f"TFORM{number}"]))))
        return np.dtype(columns)

    def heap(self) -> bytes:
        """What lies behind a table's rows."""
        rows = int(self.header["NAXIS1"]) * int(self.header["NAXIS2"])
        start, end = int(self.header.get("THEAP", rows)), rows + int(self.header["PCOUNT"])
        if not rows <= start <= end:
            raise DataError("a table's heap lies outside its data", _ANEW)
        return bytes(self._data()[start:end])

    def prove(self) -> None:
        """Read what has not been read, and refuse it if its checksums do not hold."""
        self._prove(0, self._segment.data)

    def _data(self) -> bytearray:
        data = bytearray(self._segment.end - self._segment.data)
        self._source.read(memoryview(data), self._segment.data)
        self._prove(door.ones_sum(data) if self._unproved else 0, self._segment.end)
        return data

    def _prove(self, total: int, start: int) -> None:
        """Compare the sum of the data before ``start``, and of those after it, with the checksums."""
        if not self._unproved:
            return
        segment = self._segment
        if segment.has_sum:
            for at in range(start, segment.end, _PIECE):
                total += self._sum(at, min(at + _PIECE, segment.end))
            if not segment.holds(self._sum(segment.start, segment.data), door.folded(total)):
                raise DataError("is damaged: the checksum of an HDU does not hold", _ANEW)
        self._unproved = False

    def _sum(self, start: int, end: int) -> int:
        data = bytearray(end - start)
        self._source.read(memoryview(data), start)
        return door.ones_sum(data)


class _Compressed(Hdu):
    """A compressed image, which astropy unpacks."""

    def __init__(self, packed: Any, segment: door.Segment, source: _Source, summed: bool) -> None:
        super().__init__(Header.parse(packed.header.tostring().encode("ascii")), segment, source, summed)
        self._packed = packed

    def pixels(self) -> NDArray[Any]:
        self.prove()
        with _quiet():
            data = self._packed.data
        return np.asarray(data, data.dtype.newbyteorder("="))

    def mapped(self) -> NDArray[Any] | None:
        return None

    def part(self, rows: slice, columns: slice) -> NDArray[Any]:
        self.prove()
        with _quiet():
            data = self._packed.section[..., rows, columns]
        return np.asarray(data, data.dtype.newbyteorder("=")).reshape(rows.stop - rows.start, -1)


class _Source:
    """The bytes of a file: those on the disk, or those that were unzipped."""

    def __init__(self, descriptor: int, content: bytes | None) -> None:
        self._descriptor, self._content = descriptor, content

    def read(self, into: memoryview, start: int) -> None:
        """Fill a buffer with what stands in the file from ``start`` on."""
        if self._content is not None:
            into[:] = memoryview(self._content)[start : start + len(into)]
            return
        done = 0
        while done < len(into):
            count = os.preadv(self._descriptor, [into[done:]], start + done)
            if count == 0:
                raise DataError("is cut short while it is read", _ANEW)
            done += count

    def mapped(self) -> mmap.mmap | None:
        """The file as memory, which stays when the file is closed; `None` for what was unzipped."""
        return mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ) if self._content is None else None


def forget(*arrays: NDArray[Any]) -> None:
    """Give back the memory of what was looked at in mapped arrays; looked at again, it is read again."""
    for array in arrays:
        owner: Any = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if isinstance(owner, memoryview):
            owner = owner.obj
        if isinstance(owner, mmap.mmap):
            owner.madvise(mmap.MADV_DONTNEED)


@contextmanager
def opened(path: Path, pixels: bool = True) -> Iterator[list[Hdu]]:
    """The HDUs of a file that has passed `diffrun.files.fits.check`.

    Parameters
    ----------
    path : `pathlib.Path`
        The file, perhaps gzipped.
    pixels : `bool`, optional
        Without, nothing is summed. With, all HDUs but the first are proved by their checksums: those of which
        the data are read then, the others at the end. The first one's is not looked at: the stack rewrites
        that header and keeps the old card.

    Raises
    ------
    diffrun.errors.DataError
        If it cannot be read, or is damaged, with the path and what is wrong.
    """
    with door.reading(path), door.mapped(path) as (descriptor, data):
        source = _Source(descriptor, data if isinstance(data, bytes) else None)
        found = door.segments(data, path)
        with _unpacking(path, found) as packed:
            hdus: list[Hdu] = []
            for number, segment in enumerate(found):
                summed = pixels and number > 0
                if number in packed:
                    hdus.append(_Compressed(packed[number], segment, source, summed))
                else:
                    header = Header.parse(data[segment.start : segment.data])
                    hdus.append(Hdu(header, segment, source, summed))
            yield hdus
            for hdu in hdus:
                hdu.prove()


@contextmanager
def _unpacking(path: Path, found: list[door.Segment]) -> Iterator[dict[int, Any]]:
    """astropy's view of the compressed images among the HDUs, by their numbers."""
    numbers = [number for number, segment in enumerate(found) if segment.is_compressed]
    if not numbers:
        yield {}
        return
    from astropy.io import fits

    # A file of our own: astropy leaves the one that it opens itself open when it fails.
    with path.open("rb") as stream:
        with _quiet():
            hdus = fits.open(stream, do_not_scale_image_data=True, lazy_load_hdus=False)
        with hdus:
            yield {number: hdus[number] for number in numbers}


@contextmanager
def _quiet() -> Iterator[None]:
    with _ASTROPY, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _column(form: str) -> tuple[Any, ...]:
    """The type, and the shape, of a column's field in a row (FITS standard 4.0, table 18)."""
    match = _FORM.match(form)
    if match is None:
        raise DataError(f"a table has a column of the form {form!r}", _ANEW)
    repeat, code = int(match[1] or 1), match[2]
    if code == "A":
        return (f"S{repeat}",)
    if code == "X":
        return ("u1", (-(-repeat // 8),))
    if code in "PQ":
        return (">i4" if code == "P" else ">i8", (2,)) if repeat else (">i4", (0,))
    return (_ITEMS[code],) if repeat == 1 else (_ITEMS[code], (repeat,))
