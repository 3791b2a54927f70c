# SPDX-License-Identifier: BSD-3-Clause
"""The commands ``diffrun image build``, ``list`` and ``check``: parse, call one function, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffrun.errors import UsageError
from diffrun.settings import PROGRAMS

app = typer.Typer(
    name="image",
    help="Build, list and try the images that the programs come in.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Program = Annotated[str, typer.Argument(help="engine or stack.", metavar="PROGRAM")]
Engine = Annotated[
    str | None, typer.Option("--engine", help="docker or podman (default: what answers).", metavar="NAME")
]


@app.command()
def build(
    program: Program,
    engine: Engine = None,
    base: Annotated[str | None, typer.Option(help="The image to stand on.", metavar="IMAGE")] = None,
    build_arg: Annotated[
        list[str] | None, typer.Option(help="An argument of the recipe.", metavar="NAME=VALUE")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="none: fetch nothing while building.", metavar="NAME")
    ] = None,
    wheelhouse: Annotated[
        Path | None, typer.Option(help="Wheels to use instead of the network.", metavar="FOLDER")
    ] = None,
) -> None:
    """Build the image of a program and note it in your images.lock; prints NAME@sha256:..."""
    from diffrun import images

    recipe = images.Recipe(_known(program), base, tuple(build_arg or ()), network, wheelhouse)
    print(images.build(recipe, images.find_engine(engine)))


@app.command("list")
def list_() -> None:
    """The images that the lock files name, and which engine has them."""
    from diffrun import images

    found = images.known()
    for each in found:
        print(each)
    if not found:
        print("no image is known here; build one: diffrun image build engine")


@app.command()
def check(
    program: Program,
    engine: Engine = None,
    image: Annotated[
        str | None, typer.Option(help="Another image than the noted one.", metavar="IMAGE")
    ] = None,
) -> None:
    """Try an image: its help, its configuration, a small pair of visits."""
    from diffrun import images

    for line in images.check(_known(program), images.find_engine(engine), image):
        print(line, flush=True)


def _known(program: str) -> str:
    if program not in PROGRAMS:
        raise UsageError(f"unknown program {program!r}", f"use {' or '.join(PROGRAMS)}")
    return program
