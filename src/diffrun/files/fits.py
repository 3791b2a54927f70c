# SPDX-License-Identifier: BSD-3-Clause
"""The one door to FITS: a file is looked at with bounds, then checked by its checksums, then opened.

A damaged file can crash or hang a reader, or pass as good data. Here it ends in one `DataError`.
"""

from __future__ import annotations

import io
import mmap
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from diffrun.errors import DataError

BLOCK = 2880
_CARD = 80
_MAX_HEADER = 36 * BLOCK * 10
_MAX_BYTES = 1 << 36
_MAX_UNZIPPED = 1 << 32
_BITPIX = frozenset({8, 16, 32, 64, -32, -64})
_REMEDY = "get a whole copy of this file, or make it anew"
# Constant, because astropy puts the time of day here and the same data must give the same bytes.
_CHECKSUM_NOTE = "HDU checksum"
_DATASUM_NOTE = "data unit checksum"


@dataclass(frozen=True)
class Segment:
    """Where one HDU lies in its file, bytes from the start: header, data, end; and its structural cards."""

    start: int
    data: int
    end: int
    cards: dict[str, str]

    def holds(self, data: memoryview) -> bool:
        """Whether its checksums hold, those that it has."""
        if "CHECKSUM" in self.cards:
            return ones_sum(data[self.start : self.end]) in (0, 0xFFFFFFFF)
        if "DATASUM" in self.cards:
            return ones_sum(data[self.data : self.end]) == int(self.cards["DATASUM"].split("'")[1])
        return True


def check(path: Path) -> None:
    """Look at the headers of a FITS file, with bounds, and add up the sizes; no pixel is read.

    Raises
    ------
    diffrun.errors.DataError
        If the file is not there, not FITS, cut short, too long, or has a header no program could have meant.
    """
    with _damage(path), _mapped(path) as data:
        segments(_unzipped(data[:], path) if data[:2] == b"\x1f\x8b" else data, path)


def open_hdus(path: Path, pixels: bool = True) -> fits.HDUList:
    """Open a FITS file that has passed `check` and its own checksums.

    Parameters
    ----------
    path : `pathlib.Path`
        The file, perhaps gzipped.
    pixels : `bool`, optional
        Without, the data are left on the disk until they are asked for, and not summed up.

    Returns
    -------
    hdus : `astropy.io.fits.HDUList`
        Data are not scaled: BZERO and BSCALE are the reader's to apply (astropy makes floats of an
        integer mask that has a BLANK card).

    Raises
    ------
    diffrun.errors.DataError
        If it cannot be read, with the path and what is wrong. The first HDU's checksum is not looked at:
        the stack rewrites that header and keeps the old card.
    """
    with _damage(path):
        source: io.IOBase | None = None
        with _mapped(path) as data:
            content = _unzipped(data[:], path) if data[:2] == b"\x1f\x8b" else data
            found = segments(content, path)
            if pixels:
                _check_sums(content, found, path)
            if content is not data:
                source = io.BytesIO(content)
        source = source or path.open("rb")
        try:
            return fits.open(source, do_not_scale_image_data=True, lazy_load_hdus=False)
        except BaseException:
            source.close()
            raise


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


def to_bytes(hdus: Sequence[Any]) -> bytearray:
    """Serialise image HDUs of astropy and `Table`, with CHECKSUM and DATASUM on all but the first.

    The first has no checksum because the stack keeps such a card when it rewrites the header. There is no
    date anywhere: the same HDUs give the same bytes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        heads = [_table_head(hdu) if isinstance(hdu, Table) else _image_head(hdu) for hdu in hdus]
    contents = [hdu.rows if isinstance(hdu, Table) else hdu.data for hdu in hdus]
    sizes = [0 if content is None else -(-content.nbytes // BLOCK) * BLOCK for content in contents]
    # One buffer, filled in place: a sensor is 160 MB, and each copy of it costs as much as the rest.
    out = bytearray(sum(sizes) + sum(len(head) for head in heads))
    start = 0
    for number, (head, content, size) in enumerate(zip(heads, contents, sizes, strict=True)):
        body = start + len(head)
        if content is not None:
            _fill(out, body, content)
        if number:
            _seal(head, memoryview(out)[body : body + size])
        out[start:body] = head
        start = body + size
    return out


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While a file's content is read: whatever goes wrong is a `DataError` that names the file."""
    try:
        with _damage(path):
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


def ones_sum(data: bytes | bytearray | memoryview) -> int:
    """The 32-bit ones' complement sum of big-endian words (FITS standard 4.0, appendix J)."""
    return _folded(int(np.frombuffer(data, ">u4").sum(dtype=np.uint64)))


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn whatever a parser may raise on a bad file into one `DataError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file's bytes without reading them."""
    with path.open("rb") as stream:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty", _REMEDY)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _check_sums(data: bytes | mmap.mmap, found: list[Segment], path: Path) -> None:
    """Refuse a file in which a checksum does not hold; the first HDU's is not looked at."""
    view = memoryview(data)
    try:
        for number, segment in enumerate(found):
            if number and not segment.holds(view):
                raise DataError(f"{path} is damaged: the checksum of HDU {number} does not hold", _REMEDY)
    finally:
        view.release()


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
    if not cards.get("ZIMAGE", "").lstrip().startswith("T"):
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


def _image_head(hdu: Any) -> bytearray:
    """The header of an uncompressed image HDU."""
    header = hdu.header.copy()
    if not isinstance(hdu, fits.PrimaryHDU):
        return _with_room_for_sums(header)
    header.set("EXTEND", True, after=f"NAXIS{header['NAXIS'] or ''}")
    return bytearray(header.tostring().encode("ascii"))


def _table_head(table: Table) -> bytearray:
    """The header of a binary table HDU."""
    structure = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": table.rows.dtype.itemsize}
    structure |= {
        "NAXIS2": len(table.rows),
        "PCOUNT": 0,
        "GCOUNT": 1,
        "TFIELDS": len(table.rows.dtype.names or ()),
    }
    return _with_room_for_sums(fits.Header([fits.Card(*card) for card in [*structure.items(), *table.cards]]))


def _fill(out: bytearray, start: int, content: NDArray[Any]) -> None:
    """Put pixels or rows into a file's bytes, swapped on the way."""
    if content.dtype.names:
        out[start : start + content.nbytes] = content.tobytes()
        return
    # FITS has no unsigned 16-bit integers: they are moved by BZERO 32768.
    pixels = (content ^ np.uint16(0x8000)).view(np.int16) if content.dtype == np.uint16 else content
    stored = np.frombuffer(out, pixels.dtype.newbyteorder(">"), pixels.size, start)
    stored.reshape(pixels.shape)[...] = pixels


def _with_room_for_sums(header: fits.Header) -> bytearray:
    """The header's bytes with the two checksum cards at its end, not yet filled in."""
    sums = (("DATASUM", "0" * 10, _DATASUM_NOTE), ("CHECKSUM", "0" * 16, _CHECKSUM_NOTE))
    text = header.tostring(endcard=False, padding=False) + "".join(fits.Card(*card).image for card in sums)
    text += "END".ljust(_CARD)
    return bytearray(text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii"))


def _seal(head: bytearray, body: memoryview) -> None:
    """Fill in the two checksums of an HDU (FITS standard 4.0, appendix J)."""
    data_sum = ones_sum(body)
    start = head.rindex(b"DATASUM = '") + 11
    head[start : start + 10] = f"{data_sum:010d}".encode("ascii")
    start = head.rindex(b"CHECKSUM= '") + 11
    head[start : start + 16] = _encoded(0xFFFFFFFF - _folded(ones_sum(head) + data_sum))


def _folded(total: int) -> int:
    """A sum of 32-bit words with its carries added back in."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


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
