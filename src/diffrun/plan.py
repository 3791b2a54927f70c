# SPDX-License-Identifier: BSD-3-Clause
"""The plan of one run: all is decided and nothing is done. It prints as the shell line that would do it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun import preparation
from diffrun.errors import ConfigError, RepositoryError, UsageError
from diffrun.frames import Frame
from diffrun.inputs import Input, planned, summed, summing
from diffrun.preparation import Preparation
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository
from diffrun.request import Request
from diffrun.runtimes import ENGINE, Job, Runtime, allow, choose, local, mounts, resolve
from diffrun.runtimes.image import Image
from diffrun.settings import Settings
from diffrun.sites import config_folder
from diffrun.versions import FOR_IMAGES, versions

#: What is read of each visit, where it exists.
DATASETS = ("calexp", "calexpBackground", "src")

_LARGEST_CONFIG = 64 * 1024


@dataclass(frozen=True)
class Plan:
    """One run, decided.

    Attributes
    ----------
    program, runtime, site : `str`
    repository : `pathlib.Path`
    own_subset : `bool`
        Whether the repository is the Twinkles subset that comes with diffrun.
    science, template : `tuple` [`DataId`, ...]
        Data ids of both sides, in step.
    inputs, configfiles : `tuple` [`Input`, ...]
    config : `tuple` [`str`, ...]
        Overrides ``KEY=VALUE``, applied after the files.
    output : `pathlib.Path`
        The run folder.
    jobs : `int`
    versions : `tuple` [(`str`, `str`), ...]
        Of the engine in this Python; empty where an image holds the program.
    image : `Image`, optional
    reads : `tuple` [`pathlib.Path`, ...]
        Folders and files outside the repository that its inputs are links to.
    limits : `tuple` [(`str`, `str`), ...]
        What is still accepted before the work.
    prepare : `tuple` [`Preparation`, ...]
        Plain images of which calexps are made first, both or none; the repository shows what was made.
    """

    program: str
    runtime: str
    site: str
    repository: Path
    own_subset: bool
    science: tuple[DataId, ...]
    template: tuple[DataId, ...]
    inputs: tuple[Input, ...]
    configfiles: tuple[Input, ...]
    config: tuple[str, ...]
    output: Path
    jobs: int
    versions: tuple[tuple[str, str], ...]
    image: Image | None = None
    reads: tuple[Path, ...] = ()
    limits: tuple[tuple[str, str], ...] = ()
    prepare: tuple[Preparation, ...] = ()

    @property
    def name(self) -> str:
        """``230 - 250``, or the names of two files."""
        if self.prepare:
            return " - ".join(each.frame.path.name for each in self.prepare)
        return f"{self.science[0].visit} - {self.template[0].visit}"

    @property
    def maker(self) -> Runtime:
        """Where calexps of plain images are made: with our engine, in its image, or here for the stack's."""
        return choose(self.program, self.runtime, self.image) if self.program == "engine" else local()

    def identity(self) -> dict[str, Any]:
        """All that decides the products, and nothing else: no path, site, runtime or number of jobs."""
        with summing(self.inputs):
            pass
        return {
            "program": self.program,
            "science": [data_id.as_dict() for data_id in self.science],
            "template": [data_id.as_dict() for data_id in self.template],
            "inputs": {item.name: item.sha256 for item in self.inputs},
            "configfiles": [item.sha256 for item in self.configfiles],
            "config": list(self.config),
            "versions": dict(self.versions),
            **({"image": self.image.id} if self.image else {}),
            **({"options": {each.side: each.frame.options for each in self.prepare}} if self.prepare else {}),
        }

    @property
    def digest(self) -> str:
        """The sha256 of the plan's identity: equal digests mean equal products."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def job(self, output: Path) -> Job:
        """The engine's call that writes into ``output``."""
        words = [str(self.repository)]
        for data_id in self.science:
            words += ["--id", *id_words(data_id.as_dict())]
        for keys in _templates(self.template):
            words += ["--templateId", *id_words(keys)]
        words += ["--output", str(output)]
        words += [word for item in self.configfiles for word in ("--configfile", str(item.path))]
        words += [word for override in self.config for word in ("--config", override)]
        words += ["-j", str(self.jobs)] if self.jobs > 1 else []
        configs = tuple(item.path for item in self.configfiles)
        return Job(ENGINE, tuple(words), (self.repository, *self.reads), output, configs, self.jobs)

    def as_dict(self) -> dict[str, Any]:
        """For the record and ``--dry-run --json``."""
        return {
            "digest": self.digest,
            **self.identity(),
            "runtime": self.runtime,
            "site": self.site,
            "repository": str(self.repository),
            "own_subset": self.own_subset,
            "output": str(self.output),
            "jobs": self.jobs,
            **({"limits": dict(self.limits)} if self.limits else {}),
            **({"container": self.image.as_dict()} if self.image else {}),
            **({"images": {each.side: each.as_dict() for each in self.prepare}} if self.prepare else {}),
        }

    def __str__(self) -> str:
        first = [str(self.maker.command(each.job(self.repository))) for each in self.prepare]
        main = choose(self.program, self.runtime, self.image).command(self.job(self.output))
        return "\n".join((*first, str(main)))


def id_words(keys: Mapping[str, Any]) -> list[str]:
    """A data id as the programs take it: ``visit=230 filter=r raft=2,2 sensor=1,1``."""
    return [f"{key}={value}" for key, value in keys.items()]


def _templates(data_ids: Iterable[DataId]) -> list[dict[str, Any]]:
    """The engine takes raft and sensor from each science id, so that one template id serves them all."""
    found: list[dict[str, Any]] = []
    for data_id in data_ids:
        keys = {"visit": data_id.visit, "filter": data_id.filter}
        if keys not in found:
            found.append(keys)
    return found


def make(request: Request, settings: Settings) -> Plan:
    """Decide everything about a run.

    Raises
    ------
    UsageError
        If the program or runtime is not available, or the output lies in the repository.
    RepositoryError
        If a visit, sensor or file is not there; the message says what is.
    DataError
        If an input cannot be read.
    """
    allow(settings.program.value, settings.runtime.value)
    image = resolve(settings.program.value, settings.runtime.value, settings.image.value)
    if isinstance(request.science, Frame):
        material = _of_images(request, settings, image if settings.program.value == "engine" else None)
    else:
        material = _of_visits(request, settings, image)
    return Plan(
        program=settings.program.value,
        runtime=settings.runtime.value,
        site=settings.site.value,
        configfiles=_configfiles(request),
        config=request.config,
        output=_output(request, settings),
        jobs=settings.jobs.value,
        image=image,
        limits=request.limits,
        **material,
    )


def _output(request: Request, settings: Settings) -> Path:
    return settings.output.value or settings.output_root.value / request.name


def _of_visits(request: Request, settings: Settings, image: Image | None) -> dict[str, Any]:
    """What a plan reads, where two visits of a repository were asked for."""
    repository = Repository.open(root(settings))
    science, template = _data_ids(repository, request)
    _refuse_inside(_output(request, settings), repository)
    inputs = _inputs(repository, (*science, *template))
    return {
        "repository": repository.root,
        "own_subset": settings.repo.value is None,
        "science": science,
        "template": template,
        "inputs": inputs,
        "versions": () if image else versions(),
        "reads": _reads(repository, inputs) if image else (),
    }


def _of_images(request: Request, settings: Settings, maker: Image | None) -> dict[str, Any]:
    """What a plan reads, where two plain images were given; calexps are made in ``maker``, or here."""
    assert isinstance(request.science, Frame)
    assert isinstance(request.template, Frame)
    both = preparation.decide((request.science, request.template), settings.cache.value, maker)
    return {
        "repository": preparation.pair_folder(both, settings.cache.value),
        "own_subset": False,
        "science": (both[0].data_id,),
        "template": (both[1].data_id,),
        "inputs": tuple(item for each in both for item in each.inputs),
        "versions": () if maker else versions(FOR_IMAGES),
        "reads": tuple(each.folder for each in both),
        "prepare": both,
    }


def root(settings: Settings) -> Path:
    """Root of the repository that the settings name, or of the subset that comes with diffrun."""
    return settings.repo.value or _own_subset(settings.cache.value)


def _own_subset(cache: Path) -> Path:
    from diffrun import twinkles

    return twinkles.unpack(cache)


def _data_ids(repository: Repository, request: Request) -> tuple[tuple[DataId, ...], tuple[DataId, ...]]:
    """The science ids with a calexp, and the template id of each: same sensor, its own filter."""
    assert isinstance(request.science, int)
    assert isinstance(request.template, int)
    visit = request.template
    science = _with_calexp(repository, _known(request.science, request.filter, request.raft, request.sensor))
    template = tuple(
        _with_calexp(repository, _known(visit, request.template_filter, each.raft, each.sensor))[0]
        for each in science
    )
    return science, template


def _known(visit: int, filter_name: str | None, raft: str | None, sensor: str | None) -> dict[str, int | str]:
    keys = {"visit": visit, "filter": filter_name, "raft": raft, "sensor": sensor}
    return {key: value for key, value in keys.items() if value is not None}


def _with_calexp(repository: Repository, known: dict[str, int | str]) -> tuple[DataId, ...]:
    found = repository.select(**known)
    there = tuple(data_id for data_id in found if repository.find("calexp", data_id))
    if not there:
        if found[0] not in repository.select(visit=found[0].visit):  # all keys were given: nothing was asked
            raise RepositoryError(repository.explain(known))
        repository.require("calexp", found[0])
    return there


def _refuse_inside(output: Path, repository: Repository) -> None:
    place = output.resolve()
    for folder in repository.chain:
        if place == folder or folder in place.parents:
            raise UsageError(f"the output {output} lies in the repository {folder}", "give another --output")


def _reads(repository: Repository, inputs: Iterable[Input]) -> tuple[Path, ...]:
    """What a container must be shown beside the repository's own folder."""
    files = [folder / name for folder in repository.chain for name in ("registry.sqlite3", "_mapper")]
    found = mounts.reached((repository.root, *repository.chain), (*files, *(item.path for item in inputs)))
    return tuple(path for path in found if path != repository.root)


def _inputs(repository: Repository, data_ids: Sequence[DataId]) -> tuple[Input, ...]:
    found: dict[str, Path] = {}
    for data_id in data_ids:
        for dataset in DATASETS:
            path = repository.find(dataset, data_id)
            if path is not None:
                name = next(str(path.relative_to(root)) for root in repository.chain if root in path.parents)
                found.setdefault(name, path)
    return tuple(planned(found[name], name) for name in sorted(found))


def _configfiles(request: Request) -> tuple[Input, ...]:
    """The recipe's own configuration, then the user's files."""
    paths = (config_folder() / "diffimconfig.py", *request.configfile)
    found = tuple(summed(path, path.name) for path in paths)
    for item in found:
        if item.size > _LARGEST_CONFIG:
            raise ConfigError(
                f"{item.path} is larger than {_LARGEST_CONFIG // 1024} KiB", "give a configfile"
            )
    return found
