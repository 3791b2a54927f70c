# SPDX-License-Identifier: BSD-3-Clause
"""The pairs of ``--band r`` and ``--template best``: which visits, and the best template of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from diffrun import request, visits
from diffrun.display import Screen, counted
from diffrun.errors import RepositoryError, UsageError
from diffrun.repository.gen2 import Repository
from diffrun.request import Request

BEST = "best"
_MOST_NAMED = 20
Given = Mapping[str, str | None]


@dataclass(frozen=True)
class Choice:
    """Pairs, and what is to be said of how they were chosen."""

    pairs: tuple[Request, ...]
    notes: tuple[str, ...] = ()


def wanted(given: Given) -> bool:
    """Whether the repository must be asked for the pairs."""
    return bool(given.get("band")) or given.get("template") == BEST


def make(given: Given, root: Path, before: Iterable[Request], screen: Screen) -> Choice:
    """Every visit of a band, or those that are named, each with one template.

    Parameters
    ----------
    given : mapping
        ``band`` or ``science``, ``template``, ``raft``, ``sensor``, ``min_coverage``, as typed.
    root : `pathlib.Path`
        The repository.
    before : iterable of `Request`
        Pairs that the campaign has: their visits keep the template that was best then.
    screen : `Screen`

    Raises
    ------
    UsageError
        If what was typed cannot be meant.
    RepositoryError
        If the repository cannot be read, has no such visit, or no pair is left.
    """
    if not given.get("template"):
        raise UsageError("--template is missing", f"give a visit, or --template {BEST}")
    mine = "--band" if given.get("band") else f"--template {BEST}"
    others = ("science", "filter", "template_filter") if given.get("band") else ("filter", "template_filter")
    for other in others:
        if given.get(other):
            raise UsageError(f"{mine} and --{other.replace('_', '-')} exclude each other", "give one of them")
    place = {name: given.get(name) for name in ("raft", "sensor")}
    science = _science(given, Repository.open(root))
    if given["template"] == BEST:
        return _best(given, science, root, before, screen)
    template = request.visit("--template", given["template"])
    return _checked(tuple(_pair(visit, template, place) for visit in science if visit != template))


def _science(given: Given, repository: Repository) -> dict[int, str]:
    """The science visits, and the band of each."""
    known = repository.visits()
    band = given.get("band")
    if band:
        found = {visit: name for visit, name in known.items() if name == band}
        if not found:
            there = ", ".join(sorted(set(known.values())))
            raise RepositoryError(f"{repository.root} has no visit in {band}; it has {there or 'none'}")
        return found
    if not given.get("science"):
        raise UsageError("--science is missing", "give visits, or --band")
    asked = [request.visit("--science", text) for text in str(given["science"]).split("^")]
    for visit in asked:
        if visit not in known:
            raise RepositoryError(repository.explain({"visit": visit}))
    return {visit: known[visit] for visit in asked}


def _best(
    given: Given, science: Mapping[int, str], root: Path, before: Iterable[Request], screen: Screen
) -> Choice:
    """Each visit with its best template; of every visit of a band, those that are the best themselves not."""
    place = {name: given.get(name) for name in ("raft", "sensor")}
    like = Request.parse({**place, "science": "0", "template": "0"})
    kept = {
        pair.science: pair.template
        for pair in before
        if isinstance(pair.science, int) and isinstance(pair.template, int) and _alike(pair, like)
    }
    chosen = {visit: kept[visit] for visit in science if visit in kept}
    notes = []
    for band in sorted({name for visit, name in science.items() if visit not in chosen}):
        found = visits.listing(
            root, screen, band, like.raft, like.sensor, min_coverage=given.get("min_coverage")
        )
        best, without = dict(found.best), dict(found.without)
        if given.get("band"):
            for visit in _sharpest(found):
                without[visit] = f"the next best, {best.pop(visit)}, is less sharp"
        for visit in (v for v, name in science.items() if name == band and v not in chosen):
            if visit in best:
                chosen[visit] = best[visit]
            else:
                notes.append(f"{visit} has no template: {without.get(visit, 'it was not looked at')}")
    used = Counter(chosen.values())
    notes = [f"template {visit} for {counted(n, 'visit')}" for visit, n in used.most_common()] + notes
    if len(notes) > _MOST_NAMED:
        notes = [*notes[:_MOST_NAMED], f"... and {len(notes) - _MOST_NAMED} more"]
    made = tuple(_pair(visit, template, place) for visit, template in chosen.items())
    return Choice(_checked(made).pairs, tuple(notes))


def _sharpest(found: visits.Listing) -> list[int]:
    """Templates of others that have a less sharp one themselves."""
    width = {row["visit"]: row["fwhm_arcsec"] for row in found.rows}
    return [v for v in set(found.best.values()) & set(found.best) if width[found.best[v]] > width[v]]


def _alike(pair: Request, other: Request) -> bool:
    return (pair.raft, pair.sensor) == (other.raft, other.sensor)


def _pair(science: int, template: int, place: Mapping[str, str | None]) -> Request:
    return Request.parse({**place, "science": str(science), "template": str(template)})


def _checked(pairs: tuple[Request, ...]) -> Choice:
    if not pairs:
        raise RepositoryError("no visit has a template", "name one with --template")
    return Choice(pairs)
