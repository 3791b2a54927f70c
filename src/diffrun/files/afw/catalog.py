# SPDX-License-Identifier: BSD-3-Clause
"""Source catalogues as afw stores them: one column a field, one bit a flag, aliases for slots (afw.md 4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files import fitsread
from diffrun.files.afw import cards, footprints
from diffrun.files.atomic import write_bytes
from diffrun.files.fitsheader import Header
from diffrun.files.fitswrite import Image, Table, to_bytes

#: Field types and their FITS codes; a Flag is a bit of the column ``flags``, an Angle is in radians.
_CODES = {"D": "D", "F": "E", "I": "J", "L": "K", "U": "I", "B": "B", "Angle": "D"}
_TYPES = {"D": "D", "E": "F", "J": "I", "K": "L", "I": "U", "B": "B", "A": "String"}
_DTYPES = {"D": "f8", "F": "f4", "I": "i4", "L": "i8", "U": "u2", "B": "u1", "Angle": "f8", "Flag": "?"}
_FIRST = (("id", "L"), ("coord_ra", "Angle"), ("coord_dec", "Angle"), ("parent", "L"))
_FORM = re.compile(r"(\d*)([A-Z])(.*)")
_OWN = re.compile(r"T[A-Z]+\d+|FLAGCOL|ALIAS|AFW_.*")
_MAX_ALIASES = 32
_VERSION = 1
#: Name, FITS format, bytes and further cards of a column to be written.
_Stored = tuple[str, str, NDArray[Any], list[tuple[str, Any]]]


@dataclass(frozen=True)
class Field:
    """A column of a catalogue.

    Attributes
    ----------
    name : `str`
    type : `str`
        'D' and 'F' (64 and 32 bit floating point), 'L', 'I', 'U', 'B' (64, 32, 16 and 8 bit integer),
        'Angle' (radians), 'Flag', or 'String' (only read).
    unit, doc : `str`
        'count' on fluxes, by which today's afw knows them.
    """

    name: str
    type: str = "D"
    unit: str = ""
    doc: str = ""


_FOOTPRINT = Field("footprint", "I", "", "id of the footprint in the archive behind this table")


@dataclass(frozen=True)
class Catalog:
    """A table of sources.

    Attributes
    ----------
    fields : sequence of `Field`
    columns : mapping
        Of each field's name: an array with one entry a row (a flag's is `bool`).
    aliases : mapping
        Prefixes that stand for others, such as ``slot_Centroid`` for ``base_SdssCentroid``.
    metadata : mapping
        Further header cards.
    footprints : sequence of `diffrun.files.afw.footprints.Footprint` or `None`
        One a row, to be written; `None` for a catalogue without.
    """

    fields: Sequence[Field]
    columns: Mapping[str, NDArray[Any]]
    aliases: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    footprints: Sequence[footprints.Footprint] | None = None

    def __post_init__(self) -> None:
        missing = [f.name for f in self.fields if f.name not in self.columns]
        lengths = {len(column) for column in self.columns.values()}
        if missing or len(lengths) > 1:
            raise ValueError(f"a catalogue lacks the columns {missing}, or has the lengths {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.columns[self.fields[0].name]) if self.fields else 0

    def __contains__(self, name: str) -> bool:
        return self.resolve(name) in self.columns

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column by its name or an alias of it; `KeyError` names one that is not there."""
        resolved = self.resolve(name)
        if resolved not in self.columns:
            also = f" ({resolved})" if resolved != name else ""
            raise KeyError(f"the catalogue has no column {name!r}{also}")
        return self.columns[resolved]

    @property
    def names(self) -> list[str]:
        """The names of all fields, in order."""
        return [f.name for f in self.fields]

    def resolve(self, name: str) -> str:
        """Replace alias prefixes until none matches, by afw's rule.

        Only the whole name, or the alias that sorts directly before it, is tried (afw.md 4.3).
        """
        for _ in range(_MAX_ALIASES):
            before = max((alias for alias in self.aliases if alias <= name), default=None)
            if before is None or not name.startswith(before):
                return name
            name = self.aliases[before] + name[len(before) :]
        raise DataError(f"the aliases of the catalogue run in a circle at {name!r}", "make the file anew")

    def flux(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A flux and its error by the name of its algorithm or slot, in either spelling.

        ``T_instFlux, T_instFluxErr`` since version 2, ``T_flux, T_fluxSigma`` before.
        """
        for value, error in (("_instFlux", "_instFluxErr"), ("_flux", "_fluxSigma"), ("_flux", "_fluxErr")):
            if name + value in self and name + error in self:
                return self[name + value], self[name + error]
        raise KeyError(f"the catalogue has no flux {name!r}")

    def where(self, rows: NDArray[Any]) -> Catalog:
        """The catalogue with only some rows, by a boolean or an index array, and without footprints."""
        chosen = {name: column[rows] for name, column in self.columns.items()}
        return Catalog(self.fields, chosen, self.aliases, self.metadata)


def read_catalog(path: Path) -> Catalog:
    """Read a source catalogue of version 1 to 3; `footprints.read_footprints` reads its footprints.

    Fields of variable length are left out: no algorithm here asks for them.

    Raises
    ------
    diffrun.errors.DataError
        If the file is damaged or is no afw catalogue of these versions.
    """
    with fitsread.opened(path) as hdus:
        if len(hdus) < 2 or not hdus[1].is_table:
            raise DataError("there is no table in HDU 1", "give a catalogue written by the stack")
        header = hdus[1].header
        version = int(header.get("AFW_TABLE_VERSION", 0 if "AFW_TYPE" in header else 3))
        if not 1 <= version <= 3:
            raise DataError(f"this is a catalogue of version {version}", "give one of version 1, 2 or 3")
        return _catalog(hdus[1])


def catalog_to_bytes(catalog: Catalog) -> bytearray:
    """The file of a catalogue, version 1, readable by afw 12.1 and today's.

    Parameters
    ----------
    catalog : `Catalog`
        Its first fields are id, coord_ra, coord_dec, parent, as afw demands.

    Returns
    -------
    content : `bytearray`
        The same for the same catalogue.
    """
    first = tuple((f.name, f.type) for f in catalog.fields[:4])
    if first != _FIRST:
        raise ValueError(f"a catalogue begins with {first}, not {_FIRST}")
    flags = [f for f in catalog.fields if f.type == "Flag"]
    values = [f for f in catalog.fields if f.type != "Flag"]
    packed = [_packed(flags, catalog)] if flags else []
    columns = packed + [_column(f, catalog.columns[f.name]) for f in values]
    archive = footprints.hdus(catalog.footprints) if catalog.footprints is not None else []
    if archive:
        columns.append(_column(_FOOTPRINT, np.arange(1, len(catalog) + 1)))
    types = [(name, array.dtype, array.shape[1:]) for name, _, array, _ in columns]
    rows = np.zeros(len(catalog), types)
    head: list[tuple[str, Any]] = []
    for number, (name, form, array, further) in enumerate(columns, 1):
        rows[name] = array
        head += [(f"TTYPE{number}", name), (f"TFORM{number}", form)]
        head += [(f"{card}{number}", value) for card, value in further]
    head += [("FLAGCOL", 1)] if flags else []
    for number, f in enumerate(flags, 1):
        head += [(f"TFLAG{number}", f.name), (f"TFDOC{number}", f.doc)]
    head += [("ALIAS", f"{alias}:{target}") for alias, target in sorted(catalog.aliases.items())]
    head += [(_keyword(name), value) for name, value in catalog.metadata.items()]
    head += [("AR_HDU", 3)] if archive else []
    head += [("AFW_TYPE", "SOURCE"), (_keyword("AFW_TABLE_VERSION"), _VERSION)]
    return to_bytes([Image([]), Table(head, rows), *archive])


def write_catalog(path: Path, catalog: Catalog) -> None:
    """Write a catalogue under its name, whole or not at all.

    Raises
    ------
    diffrun.errors.OutputError
        If it cannot be written.
    """
    write_bytes(path, catalog_to_bytes(catalog))


def _catalog(hdu: fitsread.Hdu) -> Catalog:
    """The fields, flags, aliases and cards of a table HDU."""
    header, rows = hdu.header, hdu.rows()
    names = rows.dtype.names or ()
    flag_column = int(header.get("FLAGCOL", 0))
    fields: list[Field] = []
    columns: dict[str, NDArray[Any]] = {}
    for number in range(1, int(header["TFIELDS"]) + 1):
        raw = rows[names[number - 1]]
        found = _flags(header, raw) if number == flag_column else [_field(header, number, raw)]
        # An id of the archive behind the table means nothing without that.
        for one, column in (pair for pair in found if pair is not None and pair[0].name != _FOOTPRINT.name):
            fields.append(one)
            columns[one.name] = column
    aliases = dict(_pairs(header))
    kept = {name: value for name, value in cards.metadata(header).items() if not _OWN.fullmatch(name)}
    return Catalog(_ordered(fields), columns, aliases, kept)


def _ordered(fields: Iterable[Field]) -> list[Field]:
    """Values before flags, so that a catalogue read can be written: the key fields come first."""
    return sorted(fields, key=lambda f: f.type == "Flag")


def _flags(header: Header, raw: NDArray[Any]) -> list[tuple[Field, NDArray[Any]] | None]:
    """The flags of the bit column; the first is the highest bit of the first byte."""
    # No -1 here: it cannot be found for a table without rows.
    packed = raw.reshape(len(raw), int(np.prod(raw.shape[1:])))
    bits = np.unpackbits(packed, axis=1).astype(bool)
    found: list[tuple[Field, NDArray[Any]] | None] = []
    number = 1
    while f"TFLAG{number}" in header:
        one = Field(str(header[f"TFLAG{number}"]), "Flag", "", str(header.get(f"TFDOC{number}", "")))
        found.append((one, np.ascontiguousarray(bits[:, number - 1])))
        number += 1
    return found


def _field(header: Header, number: int, raw: NDArray[Any]) -> tuple[Field, NDArray[Any]] | None:
    """One column as a field; `None` for one of variable length or of a kind afw skips."""
    match = _FORM.match(str(header[f"TFORM{number}"]).strip())
    code = match.group(2) if match else ""
    if code not in _TYPES:
        return None
    kind = _TYPES[code]
    if header.get(f"TCCLS{number}", "").strip() == "Angle":
        kind = "Angle"
    name, unit = str(header[f"TTYPE{number}"]), str(header.get(f"TUNIT{number}", ""))
    doc = str(header.get(f"TDOC{number}", header.comment(f"TTYPE{number}")))
    if kind == "String":
        return Field(name, kind, unit, doc), np.char.decode(np.char.rstrip(raw, b" \0"), "ascii")
    if kind == "U":
        raw = raw.astype("i4") + int(header.get(f"TZERO{number}", 0))
    return Field(name, kind, unit, doc), np.ascontiguousarray(raw, _DTYPES[kind])


def _pairs(header: Header) -> Iterable[tuple[str, str]]:
    """The aliases and their targets."""
    for card in header.cards:
        if card.keyword == "ALIAS" and ":" in str(card.value):
            alias, target = str(card.value).split(":", 1)
            yield alias, target


def _packed(flags: list[Field], catalog: Catalog) -> _Stored:
    """All flags as the one column of bits."""
    bits = np.stack([np.asarray(catalog.columns[f.name], bool) for f in flags], axis=1)
    return "flags", f"{len(flags)}X", np.packbits(bits, axis=1), []


def _column(f: Field, values: NDArray[Any]) -> _Stored:
    """The bytes and cards of a field that is no flag."""
    if f.type not in _CODES:
        raise ValueError(f"the field {f.name} has the type {f.type!r}, which cannot be written")
    array = np.asarray(values).astype(_DTYPES[f.type])
    if array.dtype.kind in "iu" and not np.array_equal(array, values):
        raise ValueError(f"the field {f.name} of type {f.type!r} cannot hold its values")
    if f.type == "U":
        array = (array ^ np.uint16(0x8000)).view(np.int16)
    form = f"{array.shape[1] if array.ndim == 2 else 1}{_CODES[f.type]}"
    further: list[tuple[str, Any]] = [("TZERO", 32768)] if f.type == "U" else []
    further += [("TUNIT", "rad" if f.type == "Angle" else f.unit)] if f.unit or f.type == "Angle" else []
    further += [("TDOC", f.doc), ("TCCLS", _field_class(f, array))]
    return f.name, form, array.astype(array.dtype.newbyteorder(">")), further


def _field_class(f: Field, array: NDArray[Any]) -> str:
    """afw's template of the field."""
    return "Angle" if f.type == "Angle" else "Array" if array.ndim == 2 else "Scalar"


def _keyword(name: str) -> str:
    """The card's name, marked as HIERARCH where it is long."""
    return name if len(name) <= 8 else f"HIERARCH {name}"
