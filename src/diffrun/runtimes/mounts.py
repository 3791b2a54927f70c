# SPDX-License-Identifier: BSD-3-Clause
"""What of the host a container sees: the inputs, read-only and at the same path, and one private folder.

`of` is a pure function from a job to its mounts, the same for every container runtime; what must never be
mounted is refused there by name. `reached` looks at the disk: where the links of the inputs lead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from diffrun.errors import RepositoryError, UsageError
from diffrun.runtimes import Job

#: Where the container has its output and the configuration files.
OUTPUT = Path("/output")
CONFIG = Path("/config")

_OURS = ("/config", "/output")
#: Folders of the system: what lies in them is not data, and over them nothing can be mounted.
_SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "usr")
_SYSTEM_TREES = (*(f"/{name}" for name in _SYSTEM), "/var/run", "/var/lib/docker", "/var/lib/containers")
_TOO_WIDE = ("/", "/home", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var", "/var/tmp", "/var/lib")
_DRIVES = "/run/media"  # where desktops show a user's drives
_LINKS_FOLLOWED = 40
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A folder or file of the host, by its place in the container."""

    source: Path
    target: Path
    readonly: bool


@dataclass(frozen=True)
class Mounts:
    """All mounts of a job, sorted by target, and its arguments as they read in the container."""

    mounts: tuple[Mount, ...]
    arguments: tuple[str, ...]


def of(job: Job, home: Path | None = None) -> Mounts:
    """The mounts of a job.

    Parameters
    ----------
    job : `Job`
        ``reads`` are seen at the same path, ``configs`` as ``/config/N-NAME``, ``writes`` as ``/output``.
    home : `pathlib.Path`, optional
        The caller's home folder, which is never mounted as a whole.

    Raises
    ------
    UsageError
        For a path that must not or cannot be mounted.
    """
    home = home or Path.home()
    found: dict[Path, Mount] = {}
    for path in _widest(job.reads):
        if _within(str(path), _OURS):
            raise UsageError(f"{path} is where the container has its own files", "keep the data elsewhere")
        found[path] = Mount(path, path, True)
    places = {str(path): CONFIG / f"{n}-{_plain(path.name)}" for n, path in enumerate(job.configs)}
    for path in job.configs:
        found[places[str(path)]] = Mount(path, places[str(path)], True)
    if job.writes is not None:
        places[str(job.writes)] = OUTPUT
        found[OUTPUT] = Mount(job.writes, OUTPUT, False)
    for mount in found.values():
        _refuse(mount, home)
    arguments = tuple(str(places.get(word, word)) for word in job.arguments)
    return Mounts(tuple(found[target] for target in sorted(found)), arguments)


def _widest(paths: Iterable[Path]) -> list[Path]:
    """Without those that lie in another of them."""
    wanted = sorted(set(paths))
    return [path for path in wanted if not any(other in path.parents for other in wanted)]


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[-80:]


def _refuse(mount: Mount, home: Path) -> None:
    source = mount.source
    text = str(source)
    if not source.is_absolute() or ".." in source.parts or "\0" in text:
        raise UsageError(f"{text!r} cannot be mounted: it is not a plain whole path", "give another path")
    if text in _TOO_WIDE or source == home or source in home.parents:
        raise UsageError(
            f"{text} would be shown to the container as a whole", "put the data in a folder of its own"
        )
    if text != _DRIVES and _within(text, (_DRIVES,)):
        return
    if _within(text, _SYSTEM_TREES) or source.suffix == ".sock":
        raise UsageError(f"{text} belongs to the system and is not mounted", "keep the data elsewhere")


def _within(text: str, trees: Iterable[str]) -> bool:
    return any(text == tree or text.startswith(f"{tree}/") for tree in trees)


def reached(folders: Iterable[Path], files: Iterable[Path]) -> tuple[Path, ...]:
    """All that must be seen so that these files can be read: the folders, and where links lead out of them.

    Raises
    ------
    RepositoryError
        If links go round in a circle.
    UsageError
        If another file system is mounted below one of them: read-only would not reach it.
    """
    seen = _widest(folders)
    for path in (*seen, *files):
        for place in _led_to(path):
            if not any(place == each or each in place.parents for each in seen):
                seen = _widest((*seen, place))
    mounted = _mount_points()
    for folder in seen:
        below = next((point for point in mounted if folder in point.parents), None)
        if below is not None:
            raise UsageError(
                f"another file system is mounted at {below}, below {folder}", "use --runtime native"
            )
    return tuple(seen)


def _led_to(path: Path) -> Iterator[Path]:
    """The target of each link on the way to a file."""
    rest, here, followed = list(path.parts[1:]), Path("/"), 0
    while rest:
        here = here / rest.pop(0)
        if not here.is_symlink():
            continue
        followed += 1
        if followed > _LINKS_FOLLOWED:
            raise RepositoryError(f"the links of {path} go round in a circle", "mend them")
        target = Path(os.path.normpath(here.parent / here.readlink()))
        yield target
        rest, here = [*target.parts[1:], *rest], Path("/")


def _mount_points() -> list[Path]:
    """Where file systems are mounted (``proc(5)``, mountinfo); nothing where there is no ``/proc``."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [Path(_ESCAPE.sub(lambda found: chr(int(found[1], 8)), line.split(" ")[4])) for line in lines]
