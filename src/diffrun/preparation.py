# SPDX-License-Identifier: BSD-3-Clause
"""Plain images made calexps before the difference, and kept, so that each is made once.

What was made of an image lies in the cache under a name made from the bytes of its files, its options
and the versions, and appears there whole, by one rename. The two of a run are shown to the program as one
small Gen2 repository of links.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffrun.answers import asked
from diffrun.claim import claimed, explained, occupied, publish
from diffrun.display import Screen, counted
from diffrun.errors import OutputError, UsageError
from diffrun.files.atomic import write_bytes
from diffrun.frames import Frame
from diffrun.inputs import Input, summed
from diffrun.outputs import walk
from diffrun.repository import paths
from diffrun.repository.dataid import DataId
from diffrun.repository.register import MAPPER, enter
from diffrun.runtimes import LOOK, MAKECALEXP, Job, Runtime, local
from diffrun.runtimes.image import Image
from diffrun.versions import FOR_IMAGES, versions

_RAFT, _SENSOR = "2,2", "1,1"
_FACTS = "made.json"
_REMEDY = "set DIFFRUN_CACHE to a folder that you may write, with room"
_DIGITS = 16
_VISITS = 10**8
#: A template's file of so many times the size of the science image's may be of more sky.
_HUGE = 2


@dataclass(frozen=True)
class Preparation:
    """One plain image, and the calexp that is to be made of it.

    Attributes
    ----------
    side : `str`
        ``science`` or ``template``.
    frame : `Frame`
    data_id : `DataId`
        Its visit is a number made from the image's bytes, so that ids of sources tell images apart.
    inputs : `tuple` [`Input`, ...]
    folder : `pathlib.Path`
        Where it is kept: a Gen2 repository of this one visit.
    """

    side: str
    frame: Frame
    data_id: DataId
    inputs: tuple[Input, ...]
    folder: Path

    def job(self, repository: Path) -> Job:
        """The call of ``makeCalexp.py`` that writes into a repository."""
        words = [str(self.frame.path), "--output", str(repository), "--visit", str(self.data_id.visit)]
        words += ["--filter", self.data_id.filter]
        for role, path in self.frame.files.items():
            words += [f"--{role}", str(path)] if role != "image" else []
        for name, value in self.frame.options.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        return Job(MAKECALEXP, tuple(words), tuple(item.path for item in self.inputs), repository)

    def as_dict(self) -> dict[str, Any]:
        """For the record: where the files are, and what was said of them."""
        files = {role: str(path) for role, path in self.frame.files.items()}
        return {**files, **({"filter": self.frame.filter} if self.frame.filter else {}), **self.frame.options}


def decide(frames: tuple[Frame, Frame], cache: Path, maker: Image | None) -> tuple[Preparation, ...]:
    """What is to be made of two images, kept in ``cache``; each is looked at, unless it was made before.

    Parameters
    ----------
    frames : `tuple` [`Frame`, `Frame`]
        The science image and the template.
    cache : `pathlib.Path`
    maker : `Image`, optional
        The container image that makes calexps of them, if not this Python.

    Raises
    ------
    UsageError
        If they are the same image.
    RepositoryError, DataError
        If a file cannot be read, or holds no image.
    """
    inputs = [_summed(side, frame) for side, frame in zip(("science", "template"), frames, strict=True)]
    frames = (frames[0], _cut(*frames))
    visits = [int(items[0].sha256[:_DIGITS], 16) % _VISITS for items in inputs]
    if inputs[0][0].sha256 == inputs[1][0].sha256:
        raise UsageError(f"{frames[0].path} and {frames[1].path} are the same image", "give two images")
    visits[1] += visits[0] == visits[1]
    kept, made_by = cache / "calexps", _made_by(maker)
    folders = [kept / _name(*each, made_by) for each in zip(frames, inputs, visits, strict=True)]
    names = _filters(frames, folders)
    return tuple(
        Preparation(side, frame, DataId(visit, name, _RAFT, _SENSOR), items, folder)
        for side, frame, visit, name, items, folder in zip(
            ("science", "template"), frames, visits, names, inputs, folders, strict=True
        )
    )


def _cut(science: Frame, template: Frame) -> Frame:
    """The template, of a much larger file only the part that lies beneath the science image."""
    if template.path.stat().st_size < _HUGE * science.path.stat().st_size:
        return template
    words = [word for one in (science, template) for word in ("--image", str(one.path), one.hdu or "")]
    job = Job(LOOK, ("--beneath", *words), (science.path, template.path))
    section = asked(local().command(job), "the look at the images")
    return replace(template, section=str(section)) if section else template


def pair_folder(both: Sequence[Preparation], cache: Path) -> Path:
    """Where the repository of links to both lies."""
    science, template = (each.folder.name.rpartition("-")[2] for each in both)
    return cache / "pairs" / f"{science}-{template}"


def _summed(side: str, frame: Frame) -> tuple[Input, ...]:
    """The image first; by names that tell the side."""
    return tuple(
        summed(path, f"{side}/{path.name}" if role == "image" else f"{side}-{role}/{path.name}")
        for role, path in frame.files.items()
    )


def _made_by(maker: Image | None) -> dict[str, Any]:
    return {"image": maker.id} if maker else {"versions": dict(versions(FOR_IMAGES))}


def _name(frame: Frame, inputs: tuple[Input, ...], visit: int, made_by: Mapping[str, Any]) -> str:
    """The image's name, and a digest of all that decides what is made of it."""
    decides = {
        "files": dict(zip(frame.files, (item.sha256 for item in inputs), strict=True)),
        "options": frame.options,
        "visit": visit,
        "filter": frame.filter,
        **made_by,
    }
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return f"{frame.name}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"


def _filters(frames: Sequence[Frame], folders: Sequence[Path]) -> list[str]:
    """The filter of each image: as given, as it was found before, or from its cards."""
    found: list[str | None] = []
    for frame, folder in zip(frames, folders, strict=True):
        made = frame.filter is None and occupied(folder)
        found.append(str(facts(folder)["data_id"]["filter"]) if made else frame.filter)
    unknown = [at for at, name in enumerate(found) if name is None]
    if unknown:
        words = [word for at in unknown for word in ("--image", str(frames[at].path), frames[at].hdu or "")]
        job = Job(LOOK, tuple(words), tuple(frames[at].path for at in unknown))
        said = asked(local().command(job), "the look at the images")
        for at, name in zip(unknown, said, strict=True):
            found[at] = str(name)
    return [str(name) for name in found]


def prepare(both: Sequence[Preparation], repository: Path, maker: Runtime, screen: Screen) -> dict[str, Any]:
    """Make what is not there yet in a runtime, and the repository that shows both.

    Returns
    -------
    made : `dict`
        By side: what makeCalexp measured and assumed, where it is kept, its files with their sums.
    """
    made = {each.side: {**_made(each, maker, screen), "folder": str(each.folder)} for each in both}
    if occupied(repository):
        for each in both:
            if not (repository / paths.relative("calexp", each.data_id)).is_file():
                raise OutputError(f"{repository} is damaged", "remove it: it is made anew")
    else:
        _keep(repository, lambda workshop: _link(both, workshop))
    return made


def _made(each: Preparation, maker: Runtime, screen: Screen) -> dict[str, Any]:
    """What was made of one image, now or before, told in its words."""
    before = occupied(each.folder)
    if not before:
        waiting = f"another run prepares {each.frame.path.name}: waiting"
        _keep(
            each.folder, lambda workshop: _make(each, workshop, maker, screen), lambda: screen.line(waiting)
        )
    found = facts(each.folder)
    _refuse_changed(each.folder, found)
    psf = found.get("psf", {})
    whose = "its own PSF," if psf.get("given") else f"{counted(psf.get('stars', 0), 'star')}, PSF"
    told = f"{whose} {psf.get('fwhm_pixels', 0):.2f} pixels wide"
    screen.fact(each.side, f"{each.frame.path.name}: {told}{'; prepared before' if before else ''}")
    for note in found.get("notes", []):
        screen.fact("note", f"{each.side}: {note}")
    return found


def _keep(folder: Path, make: Callable[[Path], None], on_wait: Callable[[], None] = lambda: None) -> None:
    """Make a folder of the cache, whole, unless another run has made it meanwhile."""
    with claimed(folder, on_wait, _REMEDY) as workshop:
        if workshop is not None:
            with explained(folder, _REMEDY):
                make(workshop)
                publish(workshop, folder)


def _make(each: Preparation, workshop: Path, maker: Runtime, screen: Screen) -> None:
    stage, before = f"prepare the {each.side}", time.monotonic()
    with screen.progress() as progress:
        command = maker.command(each.job(workshop))
        found = asked(command, "makeCalexp", lambda: progress.running(stage))
        progress.done(stage, time.monotonic() - before)
    files = [summed(workshop / name, name) for name in sorted(walk(workshop))]
    found["files"] = [{"name": item.name, "bytes": item.size, "sha256": item.sha256} for item in files]
    write_bytes(workshop / _FACTS, (json.dumps(found, indent=2) + "\n").encode())


def _link(both: Sequence[Preparation], repository: Path) -> None:
    write_bytes(repository / "_mapper", MAPPER)
    for each in both:
        for dataset in ("calexp", "src"):
            visit = paths.relative(dataset, each.data_id).parents[1]
            (repository / visit).parent.mkdir(exist_ok=True)
            (repository / visit).symlink_to(each.folder / visit)
        enter(repository, each.data_id)


def facts(folder: Path) -> dict[str, Any]:
    """What is known of a calexp that was made before; `OutputError` if it cannot be read."""
    try:
        found = json.loads((folder / _FACTS).read_bytes())
        return {**found, "data_id": dict(found["data_id"]), "files": list(found["files"])}
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        raise OutputError(f"{folder} is damaged", "remove it: it is made anew") from None


def _refuse_changed(folder: Path, found: dict[str, Any]) -> None:
    for item in found["files"]:
        path = folder / item["name"]
        if not path.is_file() or summed(path, path.name).sha256 != item["sha256"]:
            raise OutputError(f"{path} has changed since it was made", f"remove {folder}: it is made anew")
