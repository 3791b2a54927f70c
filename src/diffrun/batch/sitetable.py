# SPDX-License-Identifier: BSD-3-Clause
"""A site as a table: each value that a run or a job would use there, with its origin."""

from __future__ import annotations

from collections.abc import Iterator

from diffrun import settings, sites
from diffrun.batch import resources
from diffrun.display import clean
from diffrun.request import Request


def lines(site: str | None) -> Iterator[str]:
    """The table's lines; ``site`` is a name, a file, or `None` for the one that is in use."""
    resolved = settings.resolve(Request(science=0, template=0, site=site))
    name = resolved.site.value
    data = sites.read(name)
    yield clean(f"{name}: {data.get('description', 'no description')}")
    if data.get("retired"):
        yield clean(f"retired since {data['retired']}: no job is submitted there")
    yield ""
    for key, row in resolved.as_dict().items():
        if key != "site":
            value = row["value"] if row["value"] is not None else "none"
            yield clean(f"{key:<20} {value}  ({row['origin']})")
    wanted, needed = resources.resolve(name, {}), resources.needed(name)
    for key, text, origin in wanted.rows():
        if key in needed and text == "none":
            text, origin = f"must be given: --{key}", f"site {name}"
        yield clean(f"{'batch ' + key:<20} {text}  ({origin})")
