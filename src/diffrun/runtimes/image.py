# SPDX-License-Identifier: BSD-3-Clause
"""Images: what a program comes in. A name can move; what is run and recorded is the sha256 behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffrun
from diffrun.errors import ConfigError, UsageError

#: Program -> the last part of its image's name.
NAMES = {"engine": "diffrun-engine", "stack": "diffrun-stack"}
#: The command of every image: ``ENTRY PROGRAM ARGUMENTS``.
ENTRY = "/usr/local/bin/diffrun-entry"

_REFERENCE = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._:/@+-]{0,511}", re.ASCII)
_LINE = re.compile(r"(?P<name>[^\s@#]+)@(?P<digest>sha256:[0-9a-f]{64})(\s.*)?", re.ASCII)


@dataclass(frozen=True)
class Image:
    """An image as a runtime has it.

    Attributes
    ----------
    name : `str`
        As it was asked for.
    id : `str`
        ``sha256:...``: what is run, and part of the plan's digest.
    digests : `tuple` [`str`, ...]
        ``NAME@sha256:...`` in registries; none for an image that was built here.
    """

    name: str
    id: str
    digests: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        return {"name": self.name, "id": self.id, "digests": list(self.digests)}


def reference(option: str, text: str) -> str:
    """An image's name as typed; `UsageError` for one that no image can have."""
    if not _REFERENCE.fullmatch(text):
        raise UsageError(
            f"{option} {text!r} is not the name of an image", "write NAME:TAG or NAME@sha256:..."
        )
    return text


def default(program: str) -> str:
    """The image that a program has here: from the user's lock file, or from the one that comes with diffrun.

    Raises
    ------
    UsageError
        If neither names one.
    """
    for path in locks():
        found = [name for name in _locked(path) if name.partition("@")[0].split("/")[-1] == NAMES[program]]
        if found:
            return found[-1]
    raise UsageError(f"no image is known for the program {program}", "give one with --image")


def locks() -> tuple[Path, ...]:
    """The lock files, the user's first."""
    from platformdirs import user_data_path

    return user_data_path("diffrun") / "images.lock", containers() / "images.lock"


def containers() -> Path:
    """``containers/`` inside the installed package, or at the top of a source tree."""
    package = Path(diffrun.__file__).resolve().parent
    inside = package / "containers"
    return inside if inside.is_dir() else package.parents[1] / "containers"


def _locked(path: Path) -> Iterator[str]:
    """``NAME@sha256:...`` of each line; blank lines and those that begin with ``#`` are comments."""
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "remove it") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not (found := _LINE.fullmatch(line.strip())):
            raise ConfigError(f"{path}:{number} is not NAME@sha256:...", "correct or remove the line")
        yield f"{found['name']}@{found['digest']}"
