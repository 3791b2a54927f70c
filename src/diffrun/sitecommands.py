# SPDX-License-Identifier: BSD-3-Clause
"""The commands ``diffrun site list`` and ``show``: parse, call one function, print."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="site",
    help="The places that diffrun knows, and what it would use there.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_() -> None:
    """The sites that come with diffrun."""
    from diffrun import sites

    for name in sites.names():
        print(f"{name:<12} {sites.read(name).get('description', '')}")


@app.command()
def show(
    site: Annotated[str | None, typer.Argument(metavar="[SITE]", help="A name or a YAML file.")] = None,
) -> None:
    """Every value that a run or a job would use at a site, and where it comes from."""
    from diffrun.batch import sitetable

    for line in sitetable.lines(site):
        print(line)
