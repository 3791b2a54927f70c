# SPDX-License-Identifier: BSD-3-Clause
"""A recorded run made again, in a private folder, and its products compared byte for byte."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffrun.display import Screen, clean, counted
from diffrun.errors import VerificationError
from diffrun.files.atomic import write_bytes
from diffrun.frames import Frame, typed_again
from diffrun.inputs import summed
from diffrun.outputs import LOG, RECORD
from diffrun.plan import Plan, make
from diffrun.request import Request
from diffrun.run import Run
from diffrun.runtimes import Job, local, supervise
from diffrun.settings import Settings, Value, resolve

COMPARE = "diffrun.engine.compare"

#: Parts of a plan without which a rerun is another run -> what to do about one that differs.
_SAME = {
    "program": "",
    "image": "get the recorded image back",
    "science": "give the repository back its sensors",
    "template": "give the repository back its sensors",
    "inputs": "restore the input",
    "configfiles": "restore the record",
    "config": "restore the record",
    "options": "restore the record",
}
#: What can change the last bits of a product, the most telling first: where it stands in a record, its name.
_CAUSES = (
    ("plan.versions.source", "the engine's source"),
    ("plan.versions", "the version"),
    ("platform.blas", "linear algebra"),
    ("platform.cpu", "processor"),
    ("platform.machine", "architecture"),
    ("platform.libc", "C library"),
    ("platform.python", "Python"),
    ("platform.kernel", "system kernel"),
)


@dataclass(frozen=True)
class Difference:
    """One product that came out otherwise.

    Attributes
    ----------
    name, what : `str`
    largest : `float`, optional
        The largest deviation, `None` where it cannot be told.
    unit : `str`
        ``sigma``, or ``of the peak`` for a kernel.
    """

    name: str
    what: str
    largest: float | None = None
    unit: str = "sigma"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Comparison:
    """The products of both runs: how many there are, which differ, and why that may be."""

    products: int
    differences: tuple[Difference, ...]
    causes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "products": self.products,
            "differences": [difference.as_dict() for difference in self.differences],
            "causes": list(self.causes),
        }

    def refuse(self) -> None:
        """`VerificationError` with the size of the largest difference and its likely cause."""
        if not self.differences:
            return
        noisy = [
            each.largest for each in self.differences if each.largest is not None and each.unit == "sigma"
        ]
        size = f", by at most {max(noisy):.2g} sigma" if noisy else ""
        raise VerificationError(
            f"made again, {len(self.differences)} of {counted(self.products, 'product')} differ{size}",
            f"likely cause: {self.causes[0]}",
        )


def again(folder: Path, record: Mapping[str, Any], spoilt: Collection[str], screen: Screen) -> Comparison:
    """Make a recorded run again and compare.

    Parameters
    ----------
    folder : `pathlib.Path`
        The run folder, which is only read.
    record : mapping
    spoilt : collection of `str`
        Files of the folder that are not as they were, and so are not there to be measured against.
    screen : `Screen`

    Raises
    ------
    VerificationError
        If what was recorded is not there any more: an input, the image, a sensor.
    DiffrunError
        As any run.
    """
    with tempfile.TemporaryDirectory(prefix="diffrun-verify-") as private:
        plan, settings = planned(record, Path(private))
        workshop = plan.output
        workshop.mkdir(mode=0o700)
        made = Run(plan, settings, workshop, screen).make()
        differences = tuple(_differences(folder, record, workshop, made, spoilt))
        products = sum(output["name"] != LOG for output in record["outputs"])
        return Comparison(products, differences, tuple(causes(record, made)) if differences else ())


def planned(record: Mapping[str, Any], private: Path) -> tuple[Plan, Settings]:
    """The recorded plan, with its output in ``private``; `VerificationError` if it would be another run."""
    configs = _configfiles(record, private / "config")
    request = Request.parse(_typed(record["plan"], configs[1:], private / "run"))
    settings = resolve(request, {})
    if "images" in record["plan"]:  # their calexps are made again too
        settings = replace(settings, cache=Value(private / "cache", "verify --rerun"))
    plan = make(request, settings)
    named = zip(configs, record["configfiles"], strict=True)
    plan = replace(plan, configfiles=tuple(summed(path, str(item["name"])) for path, item in named))
    was, now = record["plan"], plan.identity()
    for part, remedy in _SAME.items():
        if was.get(part) != now.get(part):
            raise VerificationError(
                f"this cannot be made again: {_first(part, was.get(part), now.get(part))}", remedy
            )
    return plan, settings


def _typed(plan: Mapping[str, Any], configfiles: list[Path], output: Path) -> dict[str, Any]:
    """The recorded plan as a user would type it, so that it is read with the same care."""
    return {
        **(_typed_images(plan["images"]) if "images" in plan else _typed_visits(plan)),
        "output": str(output),
        "config": [str(text) for text in plan["config"]],
        "configfile": [str(path) for path in configfiles],
        "jobs": str(plan["jobs"]),
        "image": str(plan["container"]["name"]) if "container" in plan else None,
        **{key: str(plan[key]) for key in ("site", "program", "runtime")},
        **{key: str(value) for key, value in plan.get("limits", {}).items()},
    }


def _typed_images(images: Mapping[str, Any]) -> dict[str, Any]:
    for side, image in images.items():
        if not Path(image["image"]).is_file():
            raise VerificationError(f"this cannot be made again: {side}: no {image['image']}", "restore it")
    science, template = (
        Frame(Path(image["image"]), **{key: value for key, value in image.items() if key != "image"})
        for image in (images["science"], images["template"])
    )
    return typed_again(science, template)


def _typed_visits(plan: Mapping[str, Any]) -> dict[str, Any]:
    typed: dict[str, Any] = {
        "science": str(plan["science"][0]["visit"]),
        "template": str(plan["template"][0]["visit"]),
        "repo": None if plan["own_subset"] else str(plan["repository"]),
    }
    for name, side, key in (
        ("filter", "science", "filter"), ("template_filter", "template", "filter"),
        ("raft", "science", "raft"), ("sensor", "science", "sensor"),
    ):  # fmt: skip
        values = {str(data_id[key]) for data_id in plan[side]}
        typed[name] = values.pop() if len(values) == 1 else None
    return typed


def _configfiles(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """The recorded configuration, written out."""
    found = []
    for number, item in enumerate(record["configfiles"]):
        path = folder / f"{number}.py"
        write_bytes(path, str(item["text"]).encode("utf-8", "surrogateescape"))
        found.append(path)
    return found


def _first(part: str, was: Any, now: Any) -> str:
    """The first thing in which two parts of a plan differ."""
    if isinstance(was, dict) and isinstance(now, dict):
        name = next(name for name in sorted({**was, **now}) if was.get(name) != now.get(name))
        part, was, now = f"{part}: {name}", was.get(name), now.get(name)
    return f"{part} was {_brief(was)}, is {_brief(now)}"


def _brief(value: Any) -> str:
    return "not there" if value is None else clean(str(value), 80)


def _differences(
    folder: Path,
    record: Mapping[str, Any],
    workshop: Path,
    made: Mapping[str, Any],
    spoilt: Collection[str],
) -> Iterator[Difference]:
    was = {output["name"]: output["sha256"] for output in record["outputs"]}
    now = {output["name"]: output["sha256"] for output in made["outputs"]}
    for name in sorted({*was, *now} - {LOG}):
        if name not in now:
            yield Difference(name, "not made this time")
        elif name not in was:
            yield Difference(name, f"made this time; {RECORD} does not have it")
        elif was[name] != now[name]:
            known = name not in spoilt
            yield (
                _measured(name, folder / name, workshop / name)
                if known
                else Difference(name, "other bytes; the first ones are gone, so that how much cannot be told")
            )


def _measured(name: str, first: Path, second: Path) -> Difference:
    """How far two versions of a product are apart, told by the engine's own program."""
    if not name.endswith(".fits"):
        return Difference(name, "other bytes")
    said: list[str] = []
    command = local().command(Job(COMPARE, (str(first), str(second)), (first, second)))
    status, answer = supervise.ask(command, said.append)
    try:
        found = json.loads(answer) if status == 0 else {}
        largest, unit = found["largest"], str(found["unit"])
        count = f"{found['differing']} of {found['values']} values"
    except (ValueError, TypeError, KeyError):
        return Difference(name, f"other bytes; {clean(said[-1], 200) if said else 'not comparable'}")
    if largest is None:
        return Difference(name, f"{count} differ, some without measure ({found['where']})")
    where = f" at {found['where']}" if found["where"] else ""
    return Difference(name, f"{count} differ, by at most {largest:.2g} {unit}{where}", float(largest), unit)


def causes(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What differs between the two runs beside their products, the most telling first."""
    told = False
    for place, name in _CAUSES:
        for key, before, after in _changes(was, now, place):
            told = True
            yield f"{name}{key}: {_brief(before)} then, {_brief(after)} now"
    if not told:
        yield "not in the records: a faulty disk or memory, or a program that does not repeat itself"


def _changes(
    was: Mapping[str, Any], now: Mapping[str, Any], place: str
) -> Iterator[tuple[str, object, object]]:
    before, after = _at(was, place), _at(now, place)
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted({*before, *after} - {"source"})
        yield from ((f" of {n}", before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n))
    elif before is not None and before != after:
        yield "", before, after


def _at(record: Any, place: str) -> Any:
    for key in place.split("."):
        record = record.get(key) if isinstance(record, dict) else None
    return record
