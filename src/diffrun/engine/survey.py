# SPDX-License-Identifier: BSD-3-Clause
"""What two visits look like before the work, and which templates of the repository would do better.

    python -m diffrun.engine.survey REPO --science visit=230 --template visit=250

prints one JSON object. Headers, PSF models and ``src`` are read, and bands of the pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from diffrun.engine import cost
from diffrun.engine.comparison import Comparison, Side, side
from diffrun.engine.glance import Look, look
from diffrun.engine.judgement import Limits, judge
from diffrun.engine.overlap import overlap_fraction
from diffrun.engine.starfield import Common, common
from diffrun.errors import DataError, DiffrunError, RepositoryError, UsageError
from diffrun.repository.dataid import DataId, parse_id
from diffrun.repository.gen2 import Repository

#: A template is called better only if it is sharper by more than the error of a PSF model.
_SHARPER = 0.98
_ENOUGH_OVERLAP = 0.5
_MOST_NAMED = 3
_MOST_READ = 200
#: How far a star of one visit is looked for in the other, science pixels.
_REACH = 200.0
#: What the recipe says, as `of_configuration` has it.
_RECIPE = (True, False, 10.0)

Keys = dict[str, int | str]


def survey(
    root: Path,
    science: Keys,
    template: Keys,
    limits: Limits | None = None,
    configuration: tuple[bool, bool, float] = _RECIPE,
) -> dict[str, Any]:
    """Compare two visits of a repository, and look for better templates.

    Parameters
    ----------
    root : `pathlib.Path`
        Root of the Gen2 repository.
    science, template : `dict`
        What is known of each data id. The template takes raft and sensor from the science image, and its
        filter from the registry, where they are not given.
    limits : `Limits`, optional
    configuration : `tuple`
        As `of_configuration` has it.

    Returns
    -------
    found : `dict`
        ``science``, ``template``, ``overlap_fraction`` (of the science image), ``convolved`` (both `None`
        where the images must be aligned first), ``checks``, ``cost``, ``better``, ``warnings`` (what else is
        worth a word).

    Raises
    ------
    RepositoryError
        If a visit or its calexp is not there.
    DataError
        If a calexp cannot be read, or has no PSF or WCS.
    """
    repository = Repository.open(root)
    wanted, literal, threshold = configuration
    science_id, warnings = _choose(repository, science)
    first = side(repository, "science image", science_id, threshold)
    place: Keys = {"raft": science_id.raft, "sensor": science_id.sensor}
    template_id, _ = _choose(repository, {**place, **template})
    second = side(repository, "template", template_id, threshold, first.look)
    known = first.look.has_wcs and second.look.has_wcs
    pair = Comparison(
        first,
        second,
        overlap_fraction(first.look.summary, second.look.summary) if known else None,
        _common(first, second) if known else None,
        _REACH,
        wanted,
        literal,
    )
    better, skipped = _better(repository, first.look, second.look) if known else ([], [])
    return {
        "science": first.as_dict(),
        "template": second.as_dict(),
        "overlap_fraction": None if pair.overlap is None else round(pair.overlap, 4),
        "convolved": ("template" if pair.convolves_template else "science") if known else None,
        "checks": [line.as_dict() for line in judge(pair, limits or Limits())],
        "cost": cost.expected(first.look.summary.shape, second.look.summary.shape),
        "better": better,
        "warnings": [*warnings, *skipped],
    }


def _choose(repository: Repository, known: Keys) -> tuple[DataId, list[str]]:
    """The one data id that these keys mean, the first with a calexp if there are several."""
    found = repository.select(**known)
    there = [data_id for data_id in found if repository.find("calexp", data_id)]
    if not there:
        if found[0] not in repository.select(visit=found[0].visit):
            raise RepositoryError(repository.explain(known))
        repository.require("calexp", found[0])
    visits = sorted({data_id.visit for data_id in there})
    if len(visits) > 1:
        raise UsageError(f"{known} names {len(visits)} visits, among them {visits[:4]}", "give visit=NUMBER")
    if len(there) > 1:
        return there[0], [f"visit {visits[0]} has {len(there)} sensors; this looks at {there[0].detector}"]
    return there[0], []


def _common(science: Side, template: Side) -> Common | None:
    if science.pixels is None or template.pixels is None:
        return None
    return common(science.look, science.pixels.stars, template.look, template.pixels.stars, _REACH)


def _better(repository: Repository, science: Look, template: Look) -> tuple[list[dict[str, Any]], list[str]]:
    """Templates in the science band that are sharper, sharpest first; and what could not be looked at."""
    same_band = science.data_id.filter == template.data_id.filter
    limit = template.fwhm_arcsec if same_band else max(template.fwhm_arcsec, science.fwhm_arcsec)
    known: Keys = {key: getattr(science.data_id, key) for key in ("filter", "raft", "sensor")}
    taken = {science.data_id.visit, template.data_id.visit}
    candidates = [data_id for data_id in repository.select(**known) if data_id.visit not in taken]
    candidates.sort(key=lambda data_id: abs(data_id.visit - science.data_id.visit))
    skipped = []
    if len(candidates) > _MOST_READ:
        skipped.append(f"only {_MOST_READ} of {len(candidates)} possible templates were looked at")
    found = []
    for data_id in candidates[:_MOST_READ]:
        if not repository.find("calexp", data_id):
            continue
        try:
            one = look(repository, data_id)
        except DataError as error:
            skipped.append(f"visit {data_id.visit} was not looked at: {error}")
            continue
        overlap = overlap_fraction(science.summary, one.summary)
        if one.fwhm_arcsec < _SHARPER * limit and overlap >= _ENOUGH_OVERLAP:
            found.append((one.fwhm_arcsec, data_id.visit, overlap))
    named = [
        {
            "visit": visit,
            "filter": science.data_id.filter,
            "fwhm_arcsec": round(width, 4),
            "overlap_fraction": round(overlap, 4),
        }
        for width, visit, overlap in sorted(found)[:_MOST_NAMED]
    ]
    return named, skipped


def of_configuration(configfiles: Sequence[Path], overrides: Sequence[str]) -> tuple[bool, bool, float]:
    """What a run's configuration says of the choices that are told before it.

    Returns
    -------
    wanted, literal : `bool`
        Whether the template is to be convolved, and whether even if that sharpens it.
    threshold : `float`
        S/N of the stars that tell the kernel.

    Raises
    ------
    ConfigError
        As the engine would.
    """
    if not configfiles and not overrides:
        return _RECIPE  # the tree takes longer to load than all else
    from diffrun.engine import overrides as reader
    from diffrun.engine.config import ImageDifferenceConfig

    config = ImageDifferenceConfig()
    reader.apply(config, [each for path in configfiles for each in reader.read_configfile(path)])
    reader.apply(config, [reader.read_argument(text, "--config") for text in overrides])
    threshold = float(config.subtract.kernel.active.detectionConfig.detThreshold)
    return bool(config.convolveTemplate), config.mode == "literal", threshold


def parse_keys(typed: Sequence[str]) -> Keys:
    """``["visit=230", "raft=R22"]`` -> what is known of a data id.

    Raises
    ------
    UsageError
        If a word is not ``key=value``, or the key or value is not one of a data id.
    """
    for word in typed:
        if "=" not in word:
            raise UsageError(f"{word!r} is not in the form key=value", "write visit=230")
    return parse_id((key, value) for key, _, value in (word.partition("=") for word in typed))


def main(argv: Sequence[str] | None = None) -> int:
    """The program: one JSON object on standard output, or one line on standard error and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m diffrun.engine.survey", description=__doc__)
    parser.add_argument("repo", type=Path, metavar="REPO")
    parser.add_argument("--science", nargs="+", required=True, metavar="KEY=VALUE")
    parser.add_argument("--template", nargs="+", required=True, metavar="KEY=VALUE")
    parser.add_argument("--configfile", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument("--config", action="append", default=[], metavar="KEY=VALUE")
    for limit in fields(Limits):
        kind = int if isinstance(limit.default, int) else float
        parser.add_argument(
            "--" + limit.name.replace("_", "-"), type=kind, default=limit.default, metavar="N"
        )
    options = parser.parse_args(argv)
    try:
        found = survey(
            options.repo,
            parse_keys(options.science),
            parse_keys(options.template),
            Limits(**{limit.name: getattr(options, limit.name) for limit in fields(Limits)}),
            of_configuration(options.configfile, options.config),
        )
    except DiffrunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
