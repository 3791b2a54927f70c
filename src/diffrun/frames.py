# SPDX-License-Identifier: BSD-3-Clause
"""A plain FITS image as the user names it: its file, and what is to be known of it beside."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from diffrun.errors import UsageError

#: Options of one side, after ``--science-`` or ``--template-``: files beside the image.
BESIDE = ("mask", "variance")
#: Options of both sides: one value for both images, or two with a comma between.
NUMBERS = ("gain", "saturation", "psf_fwhm")
#: What only a visit of a repository has.
_OF_VISITS = ("repo", "raft", "sensor")
_ENDINGS = re.compile(r"(\.(fits?|fts|gz|fz|bz2))+$", re.IGNORECASE)
_LONGEST_NAME = 60
_FILTERS = {"science": "filter", "template": "template_filter"}

T = TypeVar("T")


@dataclass(frozen=True)
class Frame:
    """One plain image.

    Attributes
    ----------
    path : `pathlib.Path`
    mask, variance : `pathlib.Path`, optional
    filter : `str`, optional
    hdu : `str`, optional
        Number or name of the image's HDU.
    section : `str`, optional
        Part that is taken, ``X0,X1,Y0,Y1``; not the user's to say.
    gain, saturation, psf_fwhm : `float`, optional
        Electrons per unit, level, pixels; `None` where the image itself is to tell.
    """

    path: Path
    mask: Path | None = None
    variance: Path | None = None
    filter: str | None = None
    hdu: str | None = None
    gain: float | None = None
    saturation: float | None = None
    psf_fwhm: float | None = None
    section: str | None = None

    @property
    def name(self) -> str:
        """The file's name without its endings, in letters that a folder's name can have."""
        plain = re.sub(r"[^A-Za-z0-9_+.-]", "_", _ENDINGS.sub("", self.path.name))
        return plain.lstrip(".-")[:_LONGEST_NAME] or "image"

    @property
    def files(self) -> dict[str, Path]:
        """What is read: ``image`` and the files beside it."""
        found = {"image": self.path, "mask": self.mask, "variance": self.variance}
        return {role: path for role, path in found.items() if path is not None}

    @property
    def options(self) -> dict[str, str | float]:
        """What else was said of it, by option of ``makeCalexp.py``, without the filter."""
        found = {name: getattr(self, name) for name in ("hdu", *NUMBERS, "section")}
        return {name: value for name, value in found.items() if value is not None}


def pair(typed: Mapping[str, Any], read: Callable[[str, str], Path]) -> tuple[Frame, Frame] | None:
    """Both images, where files were given and not visits.

    Parameters
    ----------
    typed : mapping
        What was typed, by option name.
    read : callable
        Makes a path of an option's name and text.

    Raises
    ------
    UsageError
        If one is a file and the other is not, or an option does not go with what was given.
    """
    files = [name for name in ("science", "template") if _is_file(typed.get(name))]
    if not files:
        _refuse(typed, (*_beside(), "hdu", *NUMBERS), "goes with two images, not with visits")
        return None
    if len(files) == 1:
        other = "template" if files == ["science"] else "science"
        raise UsageError(
            f"--{files[0]} is a file, and --{other} {typed.get(other)!r} is none",
            "give two FITS files that are there, or two visits",
        )
    _refuse(typed, _OF_VISITS, "goes with visits, not with two images")
    hdus = _two("hdu", typed.get("hdu"), lambda _option, text: text)
    gains, levels, widths = (_two(name, typed.get(name), number) for name in NUMBERS)

    def one(at: int, side: str) -> Frame:
        mask, variance = (_file(f"--{side}-{role}", typed.get(f"{side}_{role}"), read) for role in BESIDE)
        band = typed.get(_FILTERS[side])
        path = read(f"--{side}", typed[side])
        return Frame(path, mask, variance, band, hdus[at], gains[at], levels[at], widths[at])

    return one(0, "science"), one(1, "template")


def typed_again(science: Frame, template: Frame) -> dict[str, str]:
    """The options that give both images again."""
    found = {"science": str(science.path), "template": str(template.path)}
    for side, frame in (("science", science), ("template", template)):
        found |= {f"{side}_{role}": str(path) for role, path in frame.files.items() if role != "image"}
        found |= {_FILTERS[side]: frame.filter} if frame.filter else {}
    for name in ("hdu", *NUMBERS):
        first, second = (str(frame.options.get(name, "")) for frame in (science, template))
        if first or second:
            found[name] = first if first == second else f"{first},{second}"
    return found


def number(option: str, text: str) -> float:
    """A number above 0; `UsageError` for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{option} {text!r} is not a number above 0", "give one, or two with a comma")
    return value


def _is_file(text: str | None) -> bool:
    if not text or re.fullmatch(r"\d+", text, re.ASCII):
        return False
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _file(option: str, text: str | None, read: Callable[[str, str], Path]) -> Path | None:
    if text is None:
        return None
    path = read(option, text)
    if not path.is_file():
        raise UsageError(f"{option} {text!r} is not a file", "give a FITS file that is there")
    return path


def _beside() -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for side in ("science", "template") for name in BESIDE)


def _refuse(typed: Mapping[str, Any], names: tuple[str, ...], why: str) -> None:
    for name in names:
        if typed.get(name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} {why}", "leave it out")


def _two(name: str, text: str | None, read: Callable[[str, str], T]) -> tuple[T | None, T | None]:
    """``4.76`` for both images, ``4.76,4.6`` for the science image and the template, ``,4.6`` for one."""
    if text is None:
        return None, None
    words = [word.strip() for word in text.split(",")]
    if len(words) > 2 or not any(words):
        raise UsageError(
            f"--{name.replace('_', '-')} {text!r} is not one value or two", "give one for each image"
        )
    values = [read(f"--{name.replace('_', '-')}", word) if word else None for word in words]
    return values[0], values[-1]
