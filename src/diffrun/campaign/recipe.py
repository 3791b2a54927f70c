# SPDX-License-Identifier: BSD-3-Clause
"""What all pairs of a campaign have in common, in ``campaign.json``: another recipe, another campaign."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun import inputs, settings, versions
from diffrun.batch import script
from diffrun.errors import ConfigError
from diffrun.files.atomic import write_bytes
from diffrun.request import Request
from diffrun.runtimes import resolve
from diffrun.settings import Settings

NAME = "campaign.json"


@dataclass(frozen=True)
class Recipe:
    """The common part of every pair's run.

    Attributes
    ----------
    words : `tuple` [`str`, ...]
        What is put behind the pair on the command line of ``diffrun``.
    identity : `dict`
        What decides the products.
    settings : `Settings`
    """

    words: tuple[str, ...]
    identity: Mapping[str, Any]
    settings: Settings

    def variables(self) -> dict[str, str]:
        """The variables of a job that does pairs, so that it finds the runtime that the pairs want."""
        runtime = self.settings.runtime.value
        return script.passed_to(None if runtime == "native" else runtime)

    def command(self, pair: Request, output: Path) -> list[str]:
        """The words after ``diffrun`` that make one pair."""
        words = ["--science", str(pair.science), "--template", str(pair.template)]
        for name in ("raft", "sensor", "filter", "template_filter"):
            value = getattr(pair, name)
            words += [f"--{name.replace('_', '-')}", value] if value else []
        return [*words, *self.words, "--jobs", "1", "--output", str(output), "--json"]


def of(request: Request) -> Recipe:
    """The recipe of a request, whose visits do not matter.

    Raises
    ------
    UsageError
        If an image is not ready.
    """
    resolved = settings.resolve(request)
    values = {name: getattr(resolved, name).value for name in ("site", "program", "runtime", "image", "repo")}
    if resolved.runtime.value == "shifter":
        values["image"] = _known(resolved)
    words: list[str] = []
    for name, value in values.items():
        words += [f"--{name}", str(value)] if value is not None else []
    words += [word for path in request.configfile for word in ("--configfile", str(path))]
    words += [word for override in request.config for word in ("--config", override)]
    words += [word for name, value in request.limits for word in (f"--{name.replace('_', '-')}", value)]
    identity = {
        "program": resolved.program.value,
        "runtime": resolved.runtime.value,
        "image": values["image"],
        "repository": str(resolved.repo.value) if resolved.repo.value else None,
        "config": list(request.config),
        "configfiles": [inputs.summed(path, path.name).sha256 for path in request.configfile],
        "versions": dict(versions.versions()) if resolved.runtime.value == "native" else {},
    }
    return Recipe(tuple(words), identity, resolved)


def _known(resolved: Settings) -> str | None:
    """The image by its id, asked for once: a gateway is not there for each of very many pairs."""
    image = resolve(resolved.program.value, resolved.runtime.value, resolved.image.value)
    return f"id:{image.id.removeprefix('sha256:')}" if image else None


def keep(recipe: Recipe, folder: Path) -> None:
    """Write the recipe into a new campaign; `ConfigError` if the folder has that of another one."""
    path = folder / NAME
    refuse_other(recipe, folder)
    if not path.exists():
        write_bytes(path, (json.dumps(recipe.identity, indent=2, sort_keys=True) + "\n").encode())


def refuse_other(recipe: Recipe, folder: Path) -> None:
    """`ConfigError` naming what differs, if the folder holds a campaign of another recipe."""
    try:
        found = json.loads((folder / NAME).read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        raise ConfigError(f"{folder / NAME} cannot be read", "give another --output") from None
    differs = [name for name, value in recipe.identity.items() if found.get(name) != value]
    if differs:
        name = differs[0]
        raise ConfigError(
            f"{folder} is a campaign with another {name}: {found.get(name)!r}, now {recipe.identity[name]!r}",
            "give another --output, or what it was begun with",
        )
