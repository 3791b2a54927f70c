# SPDX-License-Identifier: BSD-3-Clause
"""The one door to FITS: a file is looked at with bounds, then checked by its checksums, then opened.

A damaged file can crash or hang a reader, or pass as good data. Here it ends in one `DataError`. NumPy is
not loaded to look at a file: the launcher knows no pixels.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffrun.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 2880
_CARD = 80
_MAX_HEADER = 36 * BLOCK * 10
_MAX_BYTES = 1 << 36
_MAX_UNZIPPED = 1 << 32
_BITPIX = frozenset({8, 16, 32, 64, -32, -64})
_FORM = re.compile(r"'(\d*)([LXBAIJEKDCPMQ])")
#: Bytes of a value of each kind.
_WIDTHS = {"X": 1 / 8} | dict(zip("LBAIJEKDCPMQ", (1, 1, 1, 2, 4, 4, 8, 8, 8, 8, 16, 16), strict=True))
_REMEDY = "get a whole copy of this file, or make it anew"


@dataclass(frozen=True)
class Segment:
    """Where one HDU lies in its file, bytes from the start: header, data, end; and its structural cards."""

    start: int
    data: int
    end: int
    cards: dict[str, str]

    @property
    def has_sum(self) -> bool:
        """Whether it has a checksum."""
        return "CHECKSUM" in self.cards or "DATASUM" in self.cards

    @property
    def is_compressed(self) -> bool:
        """Whether it is an image in the tiles of a table."""
        return self.cards.get("ZIMAGE", "").lstrip().startswith("T")

    def holds(self, head: int, data: int) -> bool:
        """Whether its checksums hold, those that it has, by the sums of its header and of its data."""
        if "CHECKSUM" in self.cards:
            return folded(head + data) in (0, 0xFFFFFFFF)
        if "DATASUM" in self.cards:
            return data == int(self.cards["DATASUM"].split("'")[1])
        return True


def check(path: Path) -> None:
    """Look at the headers of a FITS file, with bounds, and add up the sizes; no pixel is read.

    Raises
    ------
    diffrun.errors.DataError
        If the file is not there, not FITS, cut short, too long, or has a header no program could have meant.
    """
    with _damage(path), mapped(path) as (_, data):
        segments(data, path)


def integers(path: Path, column: str) -> tuple[int, ...]:
    """A column of 64-bit integers of the first table that has one of this name.

    Raises
    ------
    diffrun.errors.DataError
        As `check`, or if there is no such column.
    """
    with _damage(path), mapped(path) as (_, data):
        for segment in segments(data, path):
            offset = _place(segment.cards, column, path)
            if offset is not None:
                width, rows = (_card(segment.cards, name, path) for name in ("NAXIS1", "NAXIS2"))
                at = range(segment.data + offset, segment.data + offset + width * rows, width)
                return tuple(struct.unpack_from(">q", data, place)[0] for place in at)
    raise DataError(f"{path} has no column {column} of 64-bit integers", _REMEDY)


def _place(cards: dict[str, str], column: str, path: Path) -> int | None:
    """Where in a row of a table a column of 64-bit integers begins."""
    offset = 0
    for n in range(1, _card(cards, "TFIELDS", path, default=0) + 1):
        form = _FORM.match(cards.get(f"TFORM{n}", "").strip())
        if form is None:
            return None
        if cards.get(f"TTYPE{n}", "").split("'")[1:2] == [column.ljust(8)] and form[2] == "K":
            return offset
        offset += math.ceil(int(form[1] or 1) * _WIDTHS[form[2]])
    return None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While a file's content is read: whatever goes wrong is a `DataError` that names the file."""
    import numpy as np

    try:
        with np.errstate(all="ignore"), _damage(path):
            yield
    except DataError as error:
        if str(path) in error.message:
            raise
        raise DataError(f"{path}: {error.message}", error.remedy) from error


def segments(data: bytes | mmap.mmap, path: Path) -> list[Segment]:
    """The HDUs of a FITS file, from its headers alone.

    Raises
    ------
    diffrun.errors.DataError
        If the headers are not FITS, are out of bounds, or do not add up to the length of the file.
    """
    found: list[Segment] = []
    offset, size = 0, len(data)
    while offset < size:
        segment = _segment(data, offset, not found, path)
        if segment.end > size:
            raise DataError(
                f"{path} is cut short: HDU {len(found)} ends at byte {segment.end}, the file at {size}",
                _REMEDY,
            )
        found.append(segment)
        offset = segment.end
    if not found:
        raise DataError(f"{path} is empty", _REMEDY)
    return found


def ones_sum(data: bytes | bytearray | memoryview, order: str = ">") -> int:
    """The 32-bit ones' complement sum of words (FITS standard 4.0, appendix J), stored big-endian.

    Pixels of 4 bytes are summed in half the time once they are in the machine's order, ``=``.
    """
    import numpy as np

    return folded(int(np.frombuffer(data, f"{order}u4").sum(dtype=np.uint64)))


def swap(array: NDArray[Any]) -> None:
    """Turn the byte order of an array's values in place, in a third of the time of its ``byteswap``."""
    import numpy as np

    np.copyto(array, array.view(array.dtype.newbyteorder()))


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn whatever a parser may raise on a bad file into one `DataError`."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there", "check the path") from error
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise DataError(f"cannot read {path}: {reason}", _REMEDY) from error
    except Exception as error:
        what = "is damaged, or not what it should be"
        raise DataError(f"{path} {what} ({_first_line(error)})", _REMEDY) from error


def _first_line(error: Exception) -> str:
    """The error's own words on one short line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:160]}" if words else type(error).__name__


@contextmanager
def mapped(path: Path) -> Iterator[tuple[int, bytes | mmap.mmap]]:
    """A file's descriptor, and its bytes: not yet read, or unzipped."""
    with path.open("rb", buffering=0) as stream:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty", _REMEDY)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield stream.fileno(), _unzipped(data[:], path) if data[:2] == b"\x1f\x8b" else data


def _unzipped(data: bytes, path: Path) -> bytes:
    """The content of a gzipped file, up to 4 GiB."""
    decoder = zlib.decompressobj(wbits=31)
    content = decoder.decompress(data, _MAX_UNZIPPED)
    if not decoder.eof:
        raise DataError(f"{path} is cut short, or larger than {_MAX_UNZIPPED} bytes when unzipped", _REMEDY)
    return content


def _segment(data: bytes | mmap.mmap, start: int, first: bool, path: Path) -> Segment:
    """Read one header's structural cards and find where its HDU ends."""
    mark = b"SIMPLE  =" if first else b"XTENSION="
    if data[start : start + 9] != mark:
        what = "is not a FITS file" if first else f"has garbage at byte {start}, where an HDU should begin"
        raise DataError(f"{path} {what}", _REMEDY)
    cards: dict[str, str] = {}
    for offset in range(start, min(len(data), start + _MAX_HEADER), _CARD):
        card = data[offset : offset + _CARD]
        if not card.isascii():
            raise DataError(f"{path} has garbage in the header that starts at byte {start}", _REMEDY)
        if card.rstrip() == b"END":
            body = start + -(-(offset + _CARD - start) // BLOCK) * BLOCK
            return Segment(start, body, body + _data_size(cards, path), cards)
        if card[8:10] == b"= ":
            cards.setdefault(card[:8].decode("ascii").rstrip(), card[10:].decode("ascii"))
    raise DataError(f"{path} is cut short: a header that starts at byte {start} has no end", _REMEDY)


def _data_size(cards: dict[str, str], path: Path) -> int:
    """The padded bytes of a data unit (FITS standard 4.0, section 4.4.1), every number within bounds."""
    axes = _card(cards, "NAXIS", path, upper=4)
    bitpix = _card(cards, "BITPIX", path, lower=-64, upper=64)
    if bitpix not in _BITPIX:
        raise DataError(f"{path} has a header with BITPIX {bitpix}", _REMEDY)
    size = 1 if axes else 0
    for axis in range(1, axes + 1):
        size *= _card(cards, f"NAXIS{axis}", path)
    extra = _card(cards, "PCOUNT", path, default=0)
    groups = _card(cards, "GCOUNT", path, default=1, upper=1)
    _card(cards, "TFIELDS", path, default=0, upper=999)
    size = abs(bitpix) // 8 * groups * (extra + size)
    if size > _MAX_BYTES:
        raise DataError(f"{path} has a header that asks for {size} bytes of data", _REMEDY)
    _check_compressed(cards, size, path)
    return -(-size // BLOCK) * BLOCK


def _check_compressed(cards: dict[str, str], size: int, path: Path) -> None:
    """Refuse a compressed image whose claimed size its tiles cannot give."""
    if not Segment(0, 0, 0, cards).is_compressed:
        return
    axes = _card(cards, "ZNAXIS", path, upper=4)
    pixels, tiles = 1, 1
    for axis in range(1, axes + 1):
        length = _card(cards, f"ZNAXIS{axis}", path, lower=1)
        tile = _card(cards, f"ZTILE{axis}", path, lower=1, default=length if axis == 1 else 1)
        pixels, tiles = pixels * length, tiles * -(-length // tile)
    # No algorithm of the standard makes a tile more than some thousand times smaller.
    if tiles != _card(cards, "NAXIS2", path) or pixels * 8 > 8192 * (size + BLOCK):
        raise DataError(f"{path} has a compressed image of {pixels} pixels in {size} bytes of tiles", _REMEDY)


def _card(
    cards: dict[str, str],
    name: str,
    path: Path,
    lower: int = 0,
    upper: int = _MAX_BYTES,
    default: int | None = None,
) -> int:
    """An integer card within bounds."""
    text = cards.get(name, "").split("/")[0].strip()
    if not text and default is not None and name not in cards:
        return default
    try:
        value = int(text)
    except ValueError:
        value = lower - 1
    if not lower <= value <= upper:
        raise DataError(f"{path} has a header with {name} = {text or 'nothing'}", _REMEDY)
    return value


def folded(total: int) -> int:
    """A sum of 32-bit words with its carries added back in."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
