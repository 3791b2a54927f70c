# SPDX-License-Identifier: BSD-3-Clause
"""The commands ``diffrun submit``, ``status``, ``wait`` and ``cancel``: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from diffrun import options as o
from diffrun.display import Screen
from diffrun.errors import UsageError
from diffrun.options import Text, option
from diffrun.request import Request, folder

app = typer.Typer()

_JOB = "What to ask of Slurm"
Account = Annotated[Text, option(_JOB, "Who pays (also SBATCH_ACCOUNT).", "--account", "-A", metavar="NAME")]
Qos = Annotated[Text, option(_JOB, "Quality of service.", "--qos", metavar="NAME")]
Partition = Annotated[Text, option(_JOB, "Partition.", "--partition", metavar="NAME")]
Constraint = Annotated[Text, option(_JOB, "Kind of node.", "--constraint", metavar="NAME")]
Time = Annotated[Text, option(_JOB, "Time limit (default: 00:30:00).", "--time", metavar="HH:MM:SS")]
Memory = Annotated[Text, option(_JOB, "Memory, as 4G.", "--memory", metavar="SIZE")]
Licenses = Annotated[Text, option(_JOB, "Licences of file systems.", "--licenses", metavar="NAMES")]
Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN]...", help="Run folders (default: all submitted ones).", show_default=False),
]
Limit = Annotated[
    int | None, typer.Option("--timeout", help="Give up after so many seconds.", metavar="SECONDS", min=0)
]


@app.command()
@o.takes(o.Pair, o.Means, o.Limits)
def submit(
    context: typer.Context,
    account: Account = None,
    qos: Qos = None,
    partition: Partition = None,
    constraint: Constraint = None,
    time: Time = None,
    memory: Memory = None,
    licenses: Licenses = None,
    dry_run: Annotated[bool, o.switch("Print the script, do nothing.", "--dry-run")] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    **_: Any,
) -> None:
    """Write the same run as a Slurm script, and submit it: prints the job's number and where its log is."""
    from diffrun.batch import submit as batch

    request = Request.parse(context.params)
    screen = Screen(out=sys.stderr if as_json or dry_run else sys.stdout, verbosity=-int(quiet))
    prepared = batch.prepare(request, context.params, screen, show=dry_run)
    if dry_run:
        print(prepared.text, end="")
        return
    standing = batch.submit(prepared, screen)
    if as_json:
        print(json.dumps(standing.as_dict(), indent=2))
    elif standing.state is not None:
        log = standing.as_dict()["log"]
        screen.fact("job", standing.state.job) if not quiet else screen.result(standing.state.job)
        screen.fact("log", log)


@app.command()
def status(runs: Runs = None, as_json: o.Json = False) -> None:
    """How submitted runs stand: done, pending, running, or not done and why."""
    from diffrun.batch import submit as batch

    found = [batch.standing(path) for path in _chosen(runs)]
    if as_json:
        print(json.dumps([each.as_dict() for each in found], indent=2))
        return
    for each in found:
        print(each)
    if not found:
        print("no run was submitted from here; submit one: diffrun submit --science 230 --template 250")


@app.command()
def wait(runs: Runs = None, timeout: Limit = None, quiet: o.Quiet = False) -> None:
    """Wait until no job of the runs is left; fails if one ended without its run folder."""
    from diffrun.batch import submit as batch

    screen = Screen(verbosity=-int(quiet))
    for path in _chosen(runs):
        batch.wait(path, timeout, screen)


@app.command()
def cancel(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
) -> None:
    """Cancel the jobs of runs."""
    from diffrun.batch import submit as batch

    for path in _chosen(runs):
        print(batch.cancel(path))


def _chosen(runs: list[str] | None) -> list[Path]:
    from diffrun import settings
    from diffrun.batch import submit as batch

    if runs:
        found = [folder("RUN", text) for text in runs]
        strange = next((path for path in found if not batch.known(path)), None)
        if strange:
            raise UsageError(f"no job was submitted for {strange}", "give the run folder that you submitted")
        return found
    return batch.submitted(settings.resolve(Request(science=0, template=0)).output_root.value)
