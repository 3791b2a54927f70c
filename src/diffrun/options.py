# SPDX-License-Identifier: BSD-3-Clause
"""The options of the command ``diffrun``, as typer reads them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from diffrun.settings import PROGRAMS, RUNTIMES

_WHAT, _IMAGES, _HOW = "What to subtract", "Two plain images", "Where and how"
_LIMITS, _SHOW = "What is accepted", "What to show"


def option(panel: str, words: str, *names: str, metavar: str | None = None, **more: Any) -> Any:
    """An option, in one of the panels of the help."""
    return typer.Option(*names, help=words, metavar=metavar, rich_help_panel=panel, **more)


def switch(words: str, *names: str, **more: Any) -> Any:
    """An option without a value, of what to show."""
    return option(_SHOW, words, *names, **{"metavar": "", **more})


def _sites(incomplete: str) -> list[str]:
    from diffrun.sites import names

    return [name for name in names() if name.startswith(incomplete)]


def _programs(incomplete: str) -> list[str]:
    return [name for name in PROGRAMS if name.startswith(incomplete)]


def _runtimes(incomplete: str) -> list[str]:
    return [name for name in RUNTIMES if name.startswith(incomplete)]


def _print_version(wanted: bool) -> None:
    if wanted:
        import diffrun

        print(f"diffrun {diffrun.__version__}")
        raise typer.Exit


Text = str | None
Texts = list[str] | None

Science = Annotated[Text, option(_WHAT, "Science visit, or a FITS image.", "--science", metavar="VISIT|FILE")]
Template = Annotated[
    Text, option(_WHAT, "Template visit, or a FITS image.", "--template", metavar="VISIT|FILE")
]
Repo = Annotated[
    Text, option(_WHAT, "Gen2 repository (default: the Twinkles subset).", "--repo", metavar="FOLDER")
]
Raft = Annotated[Text, option(_WHAT, "R22 or 2,2 (default: all).", "--raft", metavar="RAFT")]
Sensor = Annotated[Text, option(_WHAT, "S11 or 1,1 (default: all).", "--sensor", metavar="SENSOR")]
Filter = Annotated[Text, option(_WHAT, "Filter of the science side.", "--filter", metavar="BAND")]
TemplateFilter = Annotated[
    Text, option(_WHAT, "Filter of the template.", "--template-filter", metavar="BAND")
]

ScienceMask = Annotated[Text, option(_IMAGES, "Mask of the science image.", "--science-mask", metavar="FILE")]
TemplateMask = Annotated[Text, option(_IMAGES, "Mask of the template.", "--template-mask", metavar="FILE")]
ScienceVariance = Annotated[
    Text,
    option(_IMAGES, "Variance, sigma or weight of the science image.", "--science-variance", metavar="FILE"),
]
TemplateVariance = Annotated[
    Text, option(_IMAGES, "The same of the template.", "--template-variance", metavar="FILE")
]
Gain = Annotated[
    Text, option(_IMAGES, "Electrons per unit: one for both, or two.", "--gain", metavar="N[,N]")
]
Saturation = Annotated[
    Text, option(_IMAGES, "Level of saturation: one or two.", "--saturation", metavar="N[,N]")
]
PsfFwhm = Annotated[
    Text, option(_IMAGES, "PSF's FWHM in pixels, if no stars tell it.", "--psf-fwhm", metavar="N[,N]")
]
Hdu = Annotated[Text, option(_IMAGES, "Number or name of the HDU: one or two.", "--hdu", metavar="HDU[,HDU]")]

Output = Annotated[
    Text, option(_HOW, "Run folder (default: diffrun-output/230-250).", "--output", metavar="FOLDER")
]
Config = Annotated[
    Texts, option(_HOW, "Set a value, after all files.", "--config", "-c", metavar="KEY=VALUE")
]
Configfile = Annotated[
    Texts, option(_HOW, "Applied after the recipe's own.", "--configfile", "-C", metavar="FILE")
]
Site = Annotated[
    Text,
    option(
        _HOW,
        "Defaults of a place, or a YAML file (default: laptop).",
        "--site",
        metavar="NAME",
        autocompletion=_sites,
    ),
]
Program = Annotated[
    Text,
    option(_HOW, "Which program (default: engine).", "--program", metavar="NAME", autocompletion=_programs),
]
Runtime = Annotated[
    Text,
    option(_HOW, "Where it runs (default: native).", "--runtime", metavar="NAME", autocompletion=_runtimes),
]
Image = Annotated[Text, option(_HOW, "Image for a container runtime.", "--image", metavar="NAME")]
Jobs = Annotated[Text, option(_HOW, "Sensors at the same time (default: 1).", "--jobs", "-j", metavar="N")]

MinCoverage = Annotated[
    Text,
    option(
        _LIMITS,
        "Least part of the science image covered (default: 0.1).",
        "--min-coverage",
        metavar="FRACTION",
    ),
]
MinStars = Annotated[
    Text, option(_LIMITS, "Fewest stars in both visits (default: 3).", "--min-stars", metavar="N")
]
MaxOffset = Annotated[
    Text,
    option(
        _LIMITS, "Most pixels between their stars (default and most: 20).", "--max-offset", metavar="PIXELS"
    ),
]
MaxNoise = Annotated[
    Text,
    option(_LIMITS, "Most noise over the variance plane's (default: 10).", "--max-noise", metavar="FACTOR"),
]
MaxMemory = Annotated[
    Text, option(_LIMITS, "Most memory, GiB (default: this machine's).", "--max-memory", metavar="GIB")
]

DryRun = Annotated[bool, switch("Print the command, do nothing.", "--dry-run")]
Json = Annotated[bool, switch("JSON on standard output.", "--json")]
Verbose = Annotated[bool, switch("The program's log as well.", "--verbose", "-v")]
Quiet = Annotated[bool, switch("Results and errors only.", "--quiet", "-q")]
Debug = Annotated[bool, switch("A traceback if diffrun itself fails.", "--debug")]
Version = Annotated[bool, switch("Print the version.", "--version", callback=_print_version, is_eager=True)]

RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]
Rerun = Annotated[bool, option(_HOW, "Make the run again and compare the bytes.", "--rerun", metavar="")]


class Pair:
    """What one run subtracts, and where it puts the difference."""

    science: Science = None
    template: Template = None
    repo: Repo = None
    raft: Raft = None
    sensor: Sensor = None
    filter: Filter = None
    template_filter: TemplateFilter = None
    science_mask: ScienceMask = None
    template_mask: TemplateMask = None
    science_variance: ScienceVariance = None
    template_variance: TemplateVariance = None
    gain: Gain = None
    saturation: Saturation = None
    psf_fwhm: PsfFwhm = None
    hdu: Hdu = None
    output: Output = None
    jobs: Jobs = None


class Means:
    """How a run is made."""

    config: Config = None
    configfile: Configfile = None
    site: Site = None
    program: Program = None
    runtime: Runtime = None
    image: Image = None


class Limits:
    """What a pair must be like."""

    min_coverage: MinCoverage = None
    min_stars: MinStars = None
    max_offset: MaxOffset = None
    max_noise: MaxNoise = None
    max_memory: MaxMemory = None


def takes(*groups: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of these groups, before its own, which come after ``context``.

    The command finds their values in ``context.params``, and takes them as ``**_``.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        types = get_type_hints(command, include_extras=True)
        own = [
            each.replace(annotation=types[name])
            for name, each in inspect.signature(command).parameters.items()
            if each.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        given = [
            inspect.Parameter(name, own[0].kind, default=getattr(group, name), annotation=kind)
            for group in groups
            for name, kind in get_type_hints(group, include_extras=True).items()
        ]
        first = 1 + sum(each.default is inspect.Parameter.empty for each in own[1:])
        parameters = [*own[:first], *given, *own[first:]]

        @functools.wraps(command)
        def taking(*args: Any, **named: Any) -> None:
            command(*args, **named)

        taking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        taking.__annotations__ = {each.name: each.annotation for each in parameters}
        return taking

    return decorate
