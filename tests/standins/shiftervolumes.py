# SPDX-License-Identifier: BSD-3-Clause
"""The stand-in's volumes: Shifter's grammar, character filter, forbidden places and checks of folders."""

from __future__ import annotations

import re
import string
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from view import View

_KEPT = frozenset(string.ascii_letters + string.digits + "_:.+-/")
_FORBIDDEN_TREES = ("/etc", "/var", "/opt/udiImage")
_SIZE = re.compile(r"[0-9.]+[bkmgtpe]?b?", re.IGNORECASE)
_FLAGS = ("ro", "rec", "slave", "private", "pernodecache")
_PATH, _FLAG, _TWICE, _BOTH = 1, 2, 3, 4


class Refused(Exception):
    """With the lines that go to standard error."""


@dataclass(frozen=True)
class Volume:
    """One map after parsing: characters that Shifter does not keep are gone."""

    source: str
    target: str
    flags: tuple[str, ...]


def kept(text: str) -> str:
    """What is left of a path."""
    return "".join(letter for letter in text if letter in _KEPT)


def parse(text: str, generation: str) -> list[Volume]:
    """``from:to[:flag]``, several with ``;`` between."""
    found = []
    for part in text.split(";"):
        if not part:
            continue
        bare = part[1:-1] if len(part) > 1 and part[0] == part[-1] == '"' else part
        source, *rest = (word for word in bare.split(":"))
        target = kept(rest[0]) if rest else None
        flags = tuple(_flag(word) for word in rest[1:] if word)
        code = _refusal(kept(source), target, flags, generation)
        if code:
            raise Refused(f"Invalid Volume Map: {part}, aborting! {code}")
        found.append(Volume(kept(source), str(target), flags))
    return found


def _flag(word: str) -> str:
    name, _, values = word.partition("=")
    name = name.lower()
    if name not in _FLAGS:
        raise Refused(f"Unknown flag: {word}\nInvalid mount flags specified: {word}")
    if name == "pernodecache":
        pairs = dict(pair.partition("=")[::2] for pair in values.split(",") if pair)
        if not _SIZE.fullmatch(pairs.get("size", "")):
            raise Refused(f"Invalid size for perNodeCache: {pairs.get('size')}")
    elif values:
        raise Refused(f"Flag {name} takes no arguments, failed to parse.")
    return name


def _refusal(source: str, target: str | None, flags: tuple[str, ...], generation: str) -> int:
    if target is None or ".." in source or ".." in target:
        return _PATH
    if not source.startswith("/") or not target.startswith("/"):
        return _PATH
    if any(flag in ("rec", "slave", "private") for flag in flags):
        return _FLAG
    if len(set(flags)) < len(flags):
        return _TWICE
    if target == "/var/tmp" and generation != "16.08":
        return 0
    return _PATH if target == "/opt" or target.startswith(_FORBIDDEN_TREES) else 0


def mount(view: View, volumes: list[Volume], seen: View, site_fs: list[str], generation: str) -> None:
    """Mount the volumes: sources are looked up in ``seen``, the container as it was before the first."""
    for each in volumes:
        place = seen.real(each.source)
        if place is None:
            raise Refused(f'FAILED to find real path for volume "from": {each.source}')
        host = seen.on_host(place)
        if not seen.is_folder(place) or host is None:
            raise Refused(f'FAILED "from" location is not directory: {each.source}')
        target = each.target.rstrip("/") or "/"
        _refuse_target(view, target, site_fs, generation)
        view.bind(None if "pernodecache" in each.flags else host, target, "ro" in each.flags)


def _refuse_target(view: View, target: str, site_fs: list[str], generation: str) -> None:
    if target == "/":
        raise Refused("Invalid destination /, not allowed, fail.")
    place = view.real(target)
    if place is None:
        parent = view.real(str(PurePosixPath(target).parent))
        if parent is None or view.covering(parent) is not None:
            raise Refused(
                f'FAILED to create volume "to": {target}, cannot create mount points in that location'
            )
        return
    if not view.is_folder(place):
        raise Refused(f'FAILED "to" location is not directory: {target}')
    below = any(place.startswith(f"{root}/") for root in site_fs)
    if place in site_fs or (below and generation == "16.08"):
        raise Refused(f"Mount request path {target} not on an approved device for volume mounts.")


def exists(path: str) -> bool:
    """Whether a host folder is there (site file systems that are not are left out)."""
    return Path(path).is_dir()


def say(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)
