# SPDX-License-Identifier: BSD-3-Clause
"""The commands of ``diffrun``: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from diffrun import options as o
from diffrun.batchcommands import app as batch_commands
from diffrun.campaigncommands import app as campaign_commands
from diffrun.display import Screen
from diffrun.errors import UsageError
from diffrun.imagecommands import app as image_commands
from diffrun.request import Request
from diffrun.sitecommands import app as site_commands

app = typer.Typer(
    name="diffrun",
    epilog="Example: diffrun --science 230 --template 250",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(image_commands)
app.add_typer(site_commands)
app.add_typer(campaign_commands)
app.registered_commands += batch_commands.registered_commands


@app.callback()
@o.takes(o.Pair, o.Means, o.Limits)
def run(
    context: typer.Context,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    version: o.Version = False,
    **_: Any,
) -> None:
    """Subtract one LSST visit, or image, from another: a difference, its sources, a picture, a record."""
    if context.invoked_subcommand is not None:
        return
    if verbose and quiet:
        raise UsageError("--verbose and --quiet exclude each other", "give one of them")
    request = Request.parse(context.params)
    screen = Screen(out=sys.stderr if as_json or dry_run else sys.stdout, verbosity=verbose - quiet)
    (_show_plan if dry_run else _launch)(request, screen, as_json)


def _show_plan(request: Request, screen: Screen, as_json: bool) -> None:
    from diffrun import launch, plan, settings

    resolved = settings.resolve(request)
    made = plan.make(request, resolved)
    launch.introduce(made, resolved, screen)
    print(json.dumps(made.as_dict(), indent=2) if as_json else made)


def _launch(request: Request, screen: Screen, as_json: bool) -> None:
    from diffrun import closing, launch

    outcome = launch.launch(request, screen)
    if as_json:
        summary = closing.for_machines(outcome.folder, outcome.record, outcome.finished_before)
        print(json.dumps(summary, indent=2))
    elif screen.verbosity < 0:
        screen.result(str(outcome.folder))


@app.command("check")
@o.takes(o.Pair, o.Means, o.Limits)
def check_pair(
    context: typer.Context,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    **_: Any,
) -> None:
    """What a run would say before the work: seeing, overlap, depth, stars, time, memory; ok, note or stop."""
    from diffrun import check, launch, plan, settings
    from diffrun.errors import AdviceError
    from diffrun.verdict import STOP

    request = Request.parse(context.params)
    screen = Screen(out=sys.stderr if as_json else sys.stdout, verbosity=-int(quiet))
    resolved = settings.resolve(request)
    made = plan.make(request, resolved)
    launch.introduce(made, resolved, screen)
    found = check.check(made, screen)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        found.show(screen)
        screen.line()
        screen.line(check.closing(found))
    if found.verdict == STOP:
        raise typer.Exit(AdviceError.exit_code)


@app.command("visits")
def list_visits(
    repo: Annotated[
        str | None, typer.Argument(metavar="[REPO]", help="A Gen2 repository (default: that of a run).")
    ] = None,
    companion: Annotated[
        o.Text, o.switch("Judge each visit as the template of this one.", "--with", metavar="VISIT")
    ] = None,
    filter: Annotated[o.Text, o.switch("Visits of this band.", "--filter", metavar="BAND")] = None,
    raft: o.Raft = None,
    sensor: o.Sensor = None,
    min_coverage: Annotated[
        o.Text,
        o.switch("Least part covered by a template (default: 0.5).", "--min-coverage", metavar="FRACTION"),
    ] = None,
    site: o.Site = None,
    as_csv: Annotated[bool, o.switch("CSV on standard output.", "--csv")] = False,
    as_json: o.Json = False,
) -> None:
    """What a repository holds: band, seeing, depth and time of each visit, and its best template."""
    from diffrun import plan, request, settings, visits
    from diffrun.repository.dataid import parse_filter, parse_raft, parse_sensor

    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other", "give one of them")
    screen = Screen(out=sys.stderr if as_json or as_csv else sys.stdout)
    place = request.folder("REPO", repo) if repo is not None else None
    resolved = settings.resolve(Request(science=0, template=0, repo=place, site=site))
    found = visits.listing(
        plan.root(resolved),
        screen,
        filter=parse_filter(filter) if filter is not None else None,
        raft=parse_raft(raft) if raft is not None else None,
        sensor=parse_sensor(sensor) if sensor is not None else None,
        companion=request.visit("--with", companion) if companion is not None else None,
        min_coverage=request.limit("min_coverage", min_coverage) if min_coverage is not None else None,
    )
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    elif as_csv:
        print(found.csv(), end="")
    else:
        found.show(screen)
        screen.line()
        screen.line(visits.closing(found))


@app.command()
def doctor(as_json: o.Json = False) -> None:
    """What this machine has, what a run would use here, and whether the engine works."""
    from diffrun import doctor as examination

    report = examination.examine()
    print(json.dumps(report.as_dict(), indent=2) if as_json else report)
    if not report.well:
        raise typer.Exit(1)


@app.command()
def verify(
    run: o.RunFolder,
    rerun: o.Rerun = False,
    as_json: o.Json = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare a run folder with its record: each file, the record itself, the inputs that it names."""
    from diffrun import verify as verification
    from diffrun.request import folder

    if verbose and quiet:
        raise UsageError("--verbose and --quiet exclude each other", "give one of them")
    screen = Screen(out=sys.stderr if as_json else sys.stdout, verbosity=verbose - quiet)
    result = verification.verify(folder("RUN", run), rerun, screen)
    if as_json:
        print(json.dumps(result.as_dict(), indent=2))
    result.refuse()
