# SPDX-License-Identifier: BSD-3-Clause
"""The commands ``diffrun campaign plan|run|status|report|lightcurves``: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffrun import batchcommands as b
from diffrun import options as o
from diffrun.display import Screen, duration, shown
from diffrun.errors import UsageError
from diffrun.options import Text, option
from diffrun.request import LIMITS, Request, folder, jobs

if TYPE_CHECKING:
    from diffrun.campaign.crew import Crew
    from diffrun.campaign.forecast import Forecast
    from diffrun.campaign.recipe import Recipe
    from diffrun.campaign.standing import Standing
    from diffrun.campaign.work import Gather

app = typer.Typer(
    name="campaign",
    help="Very many pairs: the same command again does what is not done.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_WHAT, _HOW = "What to subtract", "Where and how"
_DEFAULT = "diffrun-campaign"
Pairs = Annotated[
    Text, option(_WHAT, "CSV or ECSV: science, template, raft, sensor, filter.", "--pairs", metavar="FILE")
]
Sciences = Annotated[Text, option(_WHAT, "Science visits, as 230^185595.", "--science", metavar="VISITS")]
Templates = Annotated[Text, option(_WHAT, "Template visits, or best.", "--template", metavar="VISITS")]
Band = Annotated[Text, option(_WHAT, "Every visit of a filter.", "--band", metavar="FILTER")]
Place = Annotated[
    Text, option(_HOW, f"The campaign's folder (default: {_DEFAULT}).", "--output", metavar="FOLDER")
]
Workers = Annotated[
    Text, option(_HOW, "Pairs at a time (default: as processors and memory allow).", "--workers", metavar="N")
]
Limit = Annotated[
    int, option(_HOW, "Seconds that one pair may take.", "--pair-time", metavar="SECONDS", min=1)
]
Again = Annotated[bool, option(_HOW, "Also what failed for good.", "--again", metavar="")]
Executor = Annotated[
    str,
    option(
        _HOW,
        "local, parsl (its workers here), slurm (workers of Parsl on whole nodes), array (a job array).",
        "--executor",
        metavar="NAME",
    ),
]
Nodes = Annotated[
    int | None,
    option(_HOW, "Nodes of one job of slurm (default: as the site says).", "--nodes", metavar="N", min=1),
]
Chunk = Annotated[int, option(_HOW, "Pairs of one task of the array.", "--chunk", metavar="N", min=1)]
AtATime = Annotated[
    int | None,
    option(_HOW, "Tasks of the array, or jobs of slurm, at a time.", "--at-a-time", metavar="N", min=1),
]
Campaign = Annotated[
    Text, typer.Argument(metavar="[FOLDER]", help=f"A campaign's folder (default: {_DEFAULT}).")
]


class Chosen:
    """What is to be done."""

    pairs: Pairs = None
    science: Sciences = None
    band: Band = None
    template: Templates = None
    raft: o.Raft = None
    sensor: o.Sensor = None
    filter: o.Filter = None
    template_filter: o.TemplateFilter = None


class Where:
    """Where it is to be done."""

    output: Place = None
    repo: o.Repo = None


@app.command()
@o.takes(Chosen, Where, o.Means, o.Limits)
def plan(
    context: typer.Context,
    again: Again = False,
    as_json: o.Json = False,
    **_: Any,
) -> None:
    """What a run would do: the pairs, what is done, what is repeated and why. Nothing is written."""
    screen = Screen(out=sys.stderr if as_json else sys.stdout)
    recipe, standing = _asked(context.params, screen)
    if as_json:
        print(json.dumps(standing.as_dict(), indent=2))
        return
    print(standing)
    for each in standing.todo:
        print(f"{each.pair.name}: {each.why}" if each.why else each.pair.name)
    _forecast(recipe, standing, screen)


@app.command()
@o.takes(Chosen, Where, o.Means, o.Limits)
def run(
    context: typer.Context,
    workers: Workers = None,
    pair_time: Limit = 3600,
    again: Again = False,
    executor: Executor = "local",
    chunk: Chunk = 100,
    at_a_time: AtATime = None,
    nodes: Nodes = None,
    account: b.Account = None,
    qos: b.Qos = None,
    partition: b.Partition = None,
    constraint: b.Constraint = None,
    time: b.Time = None,
    memory: b.Memory = None,
    licenses: b.Licenses = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    **_: Any,
) -> None:
    """Do every pair that is not done. Ctrl-C stops it; the same command goes on."""
    from diffrun.campaign import work

    screen = Screen(out=sys.stderr if as_json else sys.stdout, verbosity=-int(quiet))
    recipe, standing = _asked(context.params, screen)
    at_once = jobs("--workers", workers) if workers else None
    if executor == "array":
        _submit(recipe, standing, context.params, at_once or 1, screen)
        return
    ended = work.done(recipe, standing, _crew(recipe, context.params, at_once, screen), again, screen)
    if as_json:
        print(json.dumps(ended.as_dict(), indent=2))
    if ended.failed or ended.todo:
        raise typer.Exit(1)


def _crew(recipe: Recipe, typed: dict[str, Any], at_once: int | None, screen: Screen) -> Gather:
    """What gathers those who do the pairs."""
    from diffrun.campaign import array, htex
    from diffrun.campaign.crew import PAIR_MEMORY, Here, workers

    executor, limit = typed["executor"], float(typed["pair_time"])
    if executor == "local" and at_once:
        return lambda _: nullcontext(Here(at_once, limit))

    def memory(now: Standing) -> int:
        found = _forecast(recipe, now, screen)
        return found.memory if found else PAIR_MEMORY

    if executor == "local":
        return lambda now: nullcontext(Here(workers(memory(now)), limit))
    if executor == "parsl":

        def here(now: Standing) -> AbstractContextManager[Crew]:
            needed = memory(now)
            return htex.here(now.folder, recipe, at_once or workers(needed), needed, limit)

        return here
    if executor != "slurm":
        raise UsageError(f"--executor {executor!r} is unknown", "use local, parsl, slurm or array")
    wanted = array.wanted(recipe, typed)
    asked = htex.nodes(wanted, typed["at_a_time"] or 1, typed["nodes"] or wanted.nodes.value, at_once)
    return lambda now: htex.on_slurm(now.folder, recipe, asked, memory(now), limit)


def _forecast(recipe: Recipe, now: Standing, screen: Screen) -> Forecast | None:
    """What a pair takes, told."""
    from diffrun.campaign import forecast

    found = forecast.of(recipe, now)
    if found:
        screen.line(str(found))
    return found


def _submit(recipe: Recipe, standing: Standing, typed: dict[str, Any], at_once: int, screen: Screen) -> None:
    """Submit what is not done as one job array."""
    from diffrun.campaign import array, work

    wanted = array.wanted(recipe, typed)
    with work.begun(recipe, standing, bool(typed["again"]), screen) as now:
        if not now.todo:
            return
        found = _forecast(recipe, now, screen)
        if found:
            needed = found.seconds * typed["chunk"] / at_once
            screen.line(f"a task of {typed['chunk']} pairs of one sensor takes about {duration(needed)}")
        limits = typed["pair_time"], typed["chunk"], typed["at_a_time"]
        job, path = array.submit(recipe, now, wanted, at_once, *limits)
    screen.fact("script", shown(path))
    screen.fact("job", job)


@app.command(hidden=True)
@o.takes(Where, o.Means, o.Limits)
def task(
    context: typer.Context,
    lists: Annotated[str, typer.Argument(metavar="LISTS")],
    workers: Workers = None,
    pair_time: Limit = 3600,
    **_: Any,
) -> None:
    """One task of a job array: the pairs of its list."""
    from diffrun.campaign import array, work

    chosen = array.of_task(folder("LISTS", lists))
    at_once = jobs("--workers", workers or "1")
    ended = work.in_task(_recipe(context.params), _place(context.params), chosen, at_once, float(pair_time))
    if ended.failed or ended.todo:
        raise typer.Exit(1)


@app.command()
def status(campaign: Campaign = None, as_json: o.Json = False) -> None:
    """How many pairs are done, left and failed, by cause."""
    found = _begun(campaign)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
        return
    print(found)
    for pair, entry in found.failed:
        print(f"{pair.name}: {entry.cause}: {entry.message}")


@app.command()
def report(campaign: Campaign = None) -> None:
    """One table of all pairs, one catalogue of all DIA sources, and the pairs that stand out."""
    from diffrun.campaign import report as reports

    found = _begun(campaign)
    table, sources, outliers, notes = reports.write(found)
    screen = Screen()
    screen.line(str(found))
    for line in notes:
        screen.fact("note", line)
    for line in outliers:
        screen.fact("stands out", line)
    screen.fact("pairs", shown(table))
    if sources:
        screen.fact("sources", shown(sources))


@app.command()
def lightcurves(
    campaign: Campaign = None,
    radius: Annotated[
        float,
        option(
            _WHAT,
            "Within it sources are one object.",
            "--radius",
            metavar="ARCSEC",
            min=0.01,
            max=60.0,
        ),
    ] = 0.5,
    places: Annotated[
        Text,
        option(_WHAT, "CSV or ECSV of objects known beforehand: ra, dec, name.", "--places", metavar="FILE"),
    ] = None,
    workers: Workers = None,
) -> None:
    """All DIA sources joined into objects, and each object measured in every pair."""
    from diffrun.campaign import crew
    from diffrun.campaign import lightcurves as curves

    known = folder("--places", places) if places else None
    at_once = jobs("--workers", workers) if workers else crew.workers()
    screen = Screen()
    found = _begun(campaign)
    screen.line(str(found))
    objects, table = curves.write(found, radius, known, at_once, lambda line: screen.fact("note", line))
    screen.fact("objects", shown(objects))
    screen.fact("curves", shown(table))


def _asked(typed: dict[str, Any], screen: Screen) -> tuple[Recipe, Standing]:
    """The recipe, and how the pairs stand that were asked for."""
    from diffrun.campaign import choice, pairs, recipe
    from diffrun.campaign import standing as standings
    from diffrun.plan import root

    ids = ("science", "band", "template", "raft", "sensor", "filter", "template_filter")
    given = {name: typed.get(name) for name in ids}
    made, place = _recipe(typed), _place(typed)
    recipe.refuse_other(made, place)
    if typed.get("pairs"):
        extra = next((name for name in ids if given[name]), None)
        if extra:
            raise UsageError(
                f"--pairs and --{extra.replace('_', '-')} exclude each other", "give one of them"
            )
        chosen = pairs.read(folder("--pairs", str(typed["pairs"])))
    elif choice.wanted(given):
        before = standings.pairs_of(place) if (place / standings.PAIRS).exists() else ()
        given["min_coverage"] = typed.get("min_coverage")
        found = choice.make(given, root(made.settings), before, screen)
        for line in found.notes:
            screen.line(line)
        chosen = found.pairs
    else:
        chosen = pairs.of_visits(given)
    return made, standings.survey(place, chosen, bool(typed.get("again")))


def _begun(campaign: str | None) -> Standing:
    """How the pairs of a campaign stand that was begun before."""
    from diffrun.campaign import standing as standings

    place = folder("FOLDER", campaign or _DEFAULT)
    return standings.survey(place, standings.pairs_of(place))


def _recipe(typed: dict[str, Any]) -> Recipe:
    from diffrun.campaign import recipe

    names = ("repo", "config", "configfile", "site", "program", "runtime", "image", *LIMITS)
    common = {name: typed.get(name) for name in names}
    return recipe.of(Request.parse({**common, "science": "0", "template": "0"}))


def _place(typed: dict[str, Any]) -> Path:
    return folder("--output", typed.get("output") or _DEFAULT)
