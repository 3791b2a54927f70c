# SPDX-License-Identifier: BSD-3-Clause
"""Lay out FITS files piece by piece: no plane is copied as a whole, and the same data give the same bytes.

All HDUs but the first have CHECKSUM and DATASUM. The first has none because the stack keeps such a card when
it rewrites that header. There is no date anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.files.fits import BLOCK, folded, ones_sum, swap
from diffrun.files.fitsheader import CARD, image

_PIECE = 1 << 20  # bytes, so that a piece is summed and written while it is in the cache
_BITPIX = {"uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "int64": 64, "float32": -32, "float64": -64}
_SUMS = (("DATASUM", "0" * 10, "data unit checksum"), ("CHECKSUM", "0" * 16, "HDU checksum"))
#: A piece of a file, and the byte at which it begins.
Piece = tuple[int, bytes | bytearray | memoryview]


@dataclass(frozen=True)
class Image:
    """An image to be written.

    Attributes
    ----------
    cards : list of (keyword, value)
        What comes after the structural cards, in order.
    pixels : `numpy.ndarray` or `None`
        (ny, nx); `None` for an HDU that is a header alone.
    dtype : `str`, optional
        The type in the file, where it is not that of the pixels. uint16 are moved by BZERO.
    blank : `tuple` [`numpy.ndarray`, `int`], optional
        A mask, (ny, nx), and bits: a pixel that has any of them is NaN in the file.
    """

    cards: list[tuple[str, Any]]
    pixels: NDArray[Any] | None = None
    dtype: str = ""
    blank: tuple[NDArray[np.int32], int] | None = None

    def head(self, first: bool) -> list[str]:
        """The structural cards."""
        shape = () if self.pixels is None else self.pixels.shape
        name = self._type.name
        images = [
            image("SIMPLE", True, "conforms to FITS standard")
            if first
            else image("XTENSION", "IMAGE", "Image extension"),
            image("BITPIX", _BITPIX[name], "array data type"),
            image("NAXIS", len(shape), "number of array dimensions"),
            *(image(f"NAXIS{axis}", length) for axis, length in enumerate(shape[::-1], 1)),
        ]
        if first:
            images.append(image("EXTEND", True))
        else:
            images += [image("PCOUNT", 0, "number of parameters"), image("GCOUNT", 1, "number of groups")]
        return images + ([image("BSCALE", 1), image("BZERO", 32768)] if name == "uint16" else [])

    def pieces(self) -> Iterator[NDArray[Any]]:
        """The pixels as they stand in the file, some rows at a time."""
        if self.pixels is None or not self.pixels.size:
            return
        count = 4 * max(1, _PIECE // (4 * self.pixels[:1].nbytes))  # whole words, for the sum
        for start in range(0, len(self.pixels), count):
            pixels = self.pixels[start : start + count].astype(self._type)
            if self.blank is not None and self.blank[1]:
                mask, bits = self.blank
                np.copyto(pixels, np.nan, where=(mask[start : start + count] & np.int32(bits)) != 0)
            if pixels.dtype == np.uint16:
                pixels = (pixels ^ np.uint16(0x8000)).view(np.int16)
            pixels = np.ascontiguousarray(pixels)
            swap(pixels)
            yield pixels

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return 0 if self.pixels is None else self.pixels.size * self._type.itemsize

    @property
    def _type(self) -> np.dtype[Any]:
        if self.pixels is None:
            return np.dtype(np.uint8)
        return np.dtype(self.dtype or self.pixels.dtype).newbyteorder("=")


@dataclass(frozen=True)
class Table:
    """A binary table to be written: its own cards, and rows whose bytes are those of the file.

    Attributes
    ----------
    cards : list of (keyword, value)
        What comes after the structural cards, in order; keywords may repeat.
    rows : `numpy.ndarray`, (n,), structured, big-endian
    """

    cards: list[tuple[str, Any]]
    rows: NDArray[Any]

    def head(self, first: bool) -> list[str]:
        """The structural cards."""
        width, columns = self.rows.dtype.itemsize, len(self.rows.dtype.names or ())
        structure = {"BITPIX": 8, "NAXIS": 2, "NAXIS1": width, "NAXIS2": len(self.rows)}
        structure |= {"PCOUNT": 0, "GCOUNT": 1, "TFIELDS": columns}
        return [image("XTENSION", "BINTABLE"), *(image(name, value) for name, value in structure.items())]

    def pieces(self) -> Iterator[NDArray[Any]]:
        """All rows."""
        if self.nbytes:
            yield np.frombuffer(self.rows.tobytes(), np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return int(self.rows.nbytes)


Hdu = Image | Table


class Layout:
    """A file that is to be written: its size, and its pieces."""

    def __init__(self, hdus: Sequence[Hdu]) -> None:
        self._hdus = hdus
        self._heads = [_head(hdu, number == 0) for number, hdu in enumerate(hdus)]
        self.size = sum(len(head) + _padded(hdu.nbytes) for head, hdu in zip(self._heads, hdus, strict=True))

    def __iter__(self) -> Iterator[Piece]:
        """Every piece once; each HDU's header, which holds the sum of its data, comes after them."""
        start = 0
        for number, (hdu, head) in enumerate(zip(self._hdus, self._heads, strict=True)):
            at, total = start + len(head), 0
            for array in hdu.pieces():
                piece = array.data.cast("B")
                if piece.nbytes % 4:
                    piece = memoryview(bytes(piece) + bytes(-piece.nbytes % 4))
                total += ones_sum(piece)
                yield at, piece
                at += piece.nbytes
            end = start + len(head) + _padded(hdu.nbytes)
            if end > at:
                yield at, bytes(end - at)
            if number:
                _seal(head, folded(total))
            yield start, head
            start = end

    def to_bytes(self) -> bytearray:
        """The whole file in memory."""
        out = bytearray(self.size)
        for start, piece in self:
            out[start : start + len(piece)] = piece
        return out


def to_bytes(hdus: Sequence[Hdu]) -> bytearray:
    """A whole file in memory."""
    return Layout(hdus).to_bytes()


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _head(hdu: Hdu, first: bool) -> bytearray:
    """A header's bytes; where there will be checksums, their cards are at its end, not yet filled in."""
    images = [*hdu.head(first), *(image(*card) for card in hdu.cards)]
    images += [] if first else [image(*card) for card in _SUMS]
    text = "".join([*images, "END".ljust(CARD)])
    return bytearray(text.ljust(_padded(len(text))).encode("ascii"))


def _seal(head: bytearray, data_sum: int) -> None:
    """Fill in the two checksums of an HDU (FITS standard 4.0, appendix J)."""
    start = head.rindex(b"DATASUM = '") + 11
    head[start : start + 10] = f"{data_sum:010d}".encode("ascii")
    start = head.rindex(b"CHECKSUM= '") + 11
    head[start : start + 16] = _encoded(0xFFFFFFFF - folded(ones_sum(head) + data_sum))


def _encoded(value: int) -> bytes:
    """A checksum as 16 letters and digits that make the whole HDU sum to -0 (appendix J.2)."""
    punctuation = (*range(0x3A, 0x41), *range(0x5B, 0x61))
    letters = np.zeros((4, 4), np.uint8)
    for i, byte in enumerate(value.to_bytes(4, "big")):
        quarter, rest = divmod(byte, 4)
        four = [0x30 + quarter + rest, 0x30 + quarter, 0x30 + quarter, 0x30 + quarter]
        for j in (0, 2):
            while four[j] in punctuation or four[j + 1] in punctuation:
                four[j] += 1
                four[j + 1] -= 1
        letters[:, i] = four
    flat = letters.tobytes()
    return flat[-1:] + flat[:-1]
