# SPDX-License-Identifier: BSD-3-Clause
"""``diffrun image``: build the image of a program, list those known here, try one.

What is built is written into the user's lock file (`diffrun.runtimes.image.locks`), so that runs find it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import diffrun
from diffrun import settings
from diffrun.errors import DataError, DiffrunError, UsageError
from diffrun.files.atomic import write_bytes
from diffrun.outputs import check as check_outputs
from diffrun.repository.dataid import DataId
from diffrun.request import Request
from diffrun.runtimes import ENGINE, MAKECALEXP, Job, choose, local, resolve, supervise
from diffrun.runtimes.container import PROGRAMS
from diffrun.runtimes.image import NAMES, Image, locks
from diffrun.sites import config_folder

ENGINES = ("docker", "podman")
#: Program -> its recipe, and the argument that names what it stands on.
_RECIPES = {"engine": ("engine.Dockerfile", "BASE"), "stack": ("Dockerfile", "STACK_IMAGE")}
_PATIENCE = 60.0
_PAIR = DataId(visit=230, filter="r", raft="2,2", sensor="1,1")
_WITHOUT_BACKGROUND = ("doAddCalexpBackground=False", "getTemplate.doAddCalexpBackground=False")


@dataclass(frozen=True)
class Recipe:
    """What to build: the program, and what ``docker build`` and ``podman build`` are told.

    Attributes
    ----------
    program : `str`
        ``engine`` or ``stack``.
    base : `str`, optional
        The image that it stands on; the engine's has a default.
    arguments : `tuple` [`str`, ...]
        ``NAME=VALUE`` of the recipe.
    network : `str`, optional
        ``none`` for a build that may fetch nothing.
    wheelhouse : `pathlib.Path`, optional
        A folder of wheels that stands for the network.
    """

    program: str
    base: str | None = None
    arguments: tuple[str, ...] = ()
    network: str | None = None
    wheelhouse: Path | None = None

    def argv(self, engine: str, context: Path, answer: Path) -> list[str]:
        """The command that builds it, and writes the image's sha256 into the file ``answer``."""
        name, base = _RECIPES[self.program]
        given = [f"VERSION={diffrun.__version__}", *([f"{base}={self.base}"] if self.base else [])]
        words = [word for argument in (*given, *self.arguments) for word in ("--build-arg", argument)]
        words += ["--network", self.network] if self.network else []
        words += ["--tag", f"{NAMES[self.program]}:{diffrun.__version__}", "--iidfile", str(answer)]
        return [engine, "build", "--file", str(context / "containers" / name), *words, str(context)]


def find_engine(asked: str | None) -> str:
    """The container engine to build with: the one asked for, or the first that answers.

    Raises
    ------
    UsageError
        If there is none.
    """
    if asked is not None and asked not in ENGINES:
        raise UsageError(f"--engine {asked!r} is unknown", "use docker or podman")
    for name in (asked,) if asked else ENGINES:
        if shutil.which(name) and _asked([name, "version"]).returncode == 0:
            return name
    raise UsageError(f"{asked or 'neither docker nor podman'} answers here", "install or start one of them")


def build(recipe: Recipe, engine: str) -> str:
    """Build an image, its log on standard error, and write it into the user's lock file.

    Returns
    -------
    reference : `str`
        ``NAME@sha256:...``; the sum is the image's id.

    Raises
    ------
    UsageError
        If the recipe lacks its base.
    DiffrunError
        If the build fails.
    """
    if recipe.program == "stack" and not recipe.base:
        raise UsageError("the stack's image has no default base", "give one with --base: see how-to-images")
    with _context(recipe.wheelhouse) as context:
        answer = context / "id"
        done = subprocess.run(recipe.argv(engine, context, answer), stdout=sys.stderr, check=False)
        if done.returncode:
            raise DiffrunError(f"{engine} build ended with status {done.returncode}", "its lines say why")
        digest = "sha256:" + answer.read_text().strip().removeprefix("sha256:")
    reference = f"{NAMES[recipe.program]}@{digest}"
    _remember(reference, engine)
    return reference


@contextmanager
def _context(wheelhouse: Path | None) -> Iterator[Path]:
    """What a build sees, laid out as the top of the project is, from a checkout or an installed package."""
    package = Path(diffrun.__file__).resolve().parent
    ignored = shutil.ignore_patterns("__pycache__", "configs", "containers")
    with tempfile.TemporaryDirectory(prefix="diffrun-image-") as folder:
        context = Path(folder)
        shutil.copytree(package, context / "src" / "diffrun", ignore=ignored)
        shutil.copytree(config_folder(), context / "configs")
        shutil.copytree(
            locks()[-1].parent, context / "containers", ignore=shutil.ignore_patterns("wheelhouse")
        )
        if wheelhouse is not None:
            shutil.copytree(wheelhouse, context / "containers" / "wheelhouse")
        yield context


def _remember(reference: str, engine: str) -> None:
    """Put the line at the end of the user's lock file, where the newest of a name counts."""
    path = locks()[0]
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = [line for line in lines if line.split("#")[0].strip() != reference]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = f"{reference} # {diffrun.__version__} built {now} by {engine}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, "".join(f"{each}\n" for each in (*kept, line)).encode())


@dataclass(frozen=True)
class Known:
    """An image in a lock file: its reference, the rest of its line, and which engines have it."""

    reference: str
    note: str
    lock: Path
    engines: tuple[str, ...]

    def __str__(self) -> str:
        where = f"in {', '.join(self.engines)}" if self.engines else "not here"
        return f"{self.reference}  {where}  {self.note}".rstrip()


def known() -> list[Known]:
    """The images that the lock files name, the user's first, and where they are."""
    found = []
    there = [name for name in ENGINES if shutil.which(name)]
    for lock in locks():
        text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
        for line in filter(None, map(str.strip, text.splitlines())):
            reference, _, note = map(str.strip, line.partition("#"))
            if reference:
                found.append(Known(reference, note, lock, tuple(e for e in there if _has(e, reference))))
    return found


def _has(engine: str, reference: str) -> bool:
    names = (reference, reference.partition("@")[2])
    return any(_asked([engine, "image", "inspect", name]).returncode == 0 for name in names)


def _asked(argv: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(argv, capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return subprocess.CompletedProcess(argv, 1)


def check(program: str, engine: str, reference: str | None) -> Iterator[str]:
    """Try an image by the contract, as a run would use it; one line for each thing that holds.

    Raises
    ------
    DataError
        For the first thing that does not hold.
    UsageError
        If there is no such image.
    """
    image = resolve(program, engine, reference)
    yield f"{engine} has {image.id if image else reference}"
    with tempfile.TemporaryDirectory(prefix="diffrun-check-") as folder:
        trial = _Trial(program, engine, image, Path(folder).resolve())
        yield from (trial.helps(ENGINE), trial.shows(), trial.subtracts())
        if program == "engine":
            yield trial.helps(MAKECALEXP)


@dataclass(frozen=True)
class _Trial:
    """One image, tried in a folder of ours."""

    program: str
    engine: str
    image: Image | None
    folder: Path

    def _call(
        self, *words: str, writes: Path | None = None, configs: tuple[Path, ...] = (), module: str = ENGINE
    ) -> str:
        reads = (self.folder / "pair",) if words[0] != "--help" else ()
        runtime = choose(self.program, self.engine, self.image)
        said: list[str] = []
        status, answer = supervise.ask(
            runtime.command(Job(module, words, reads, writes, configs)), said.append
        )
        if status:
            last = f": {said[-1]}" if said else ""
            raise DataError(f"{PROGRAMS[module]} {words[0]} ends with status {status}{last}")
        return answer

    def helps(self, module: str) -> str:
        """A program's help."""
        name = PROGRAMS[module]
        if f"usage: {name}" not in self._call("--help", module=module):
            raise DataError(f"{name} --help prints something else")
        return f"{name} --help: ok"

    def shows(self) -> str:
        """Its configuration, with the reference catalogue out of it; and first the pair that is read here."""
        pair = self.folder / "pair"
        cache = settings.resolve(Request(science=0, template=0)).cache.value
        words = (str(pair), str(cache))
        supervise.ask(local().command(Job("diffrun.twinkles.cutout", words)), lambda _: None)
        answer = self._call(str(pair), "--show", "config")
        if "config.kernelSourcesFromRef=False" not in answer:
            raise DataError(
                "its configuration wants a reference catalogue: kernelSourcesFromRef is not False"
            )
        return f"--show config: {answer.count('config.')} fields, kernelSourcesFromRef=False"

    def subtracts(self) -> str:
        """A difference of the pair, under the names that the contract gives it."""
        pair, output, recipe = self.folder / "pair", self.folder / "output", self.folder / "diffimconfig.py"
        output.mkdir()
        shutil.copyfile(config_folder() / "diffimconfig.py", recipe)
        ids = ("--id", "visit=230", "--templateId", "visit=195529", "--output", str(output))
        config = ("--configfile", str(recipe), "--config", *_WITHOUT_BACKGROUND)
        self._call(str(pair), *ids, *config, writes=output, configs=(recipe,))
        files = check_outputs(output, [_PAIR])
        strangers = [f.name for f in files if (output / f.name).stat().st_uid != os.getuid()]
        if strangers:
            raise DataError(f"{strangers[0]} does not belong to the caller")
        return f"a pair of 256 pixels: {len(files)} files, all whole"
