# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa: PTH115, PTH118, PTH120 (most paths here are those of a container)
"""What a container sees: image, host folders and volumes, as looked up inside; bubblewrap enters it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_LINKS_FOLLOWED = 40
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Bind:
    """A host path at a place in the container; without one, a text or an empty folder in memory."""

    source: Path | None
    target: str
    readonly: bool = False
    text: str | None = None


@dataclass
class View:
    """The root of a container: binds in the order in which they are made, and links at its top."""

    binds: list[Bind] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_image(cls, tree: str | Mapping[str, str]) -> View:
        """An image as an unpacked folder, or as ``{target: host path}``; read-only."""
        if isinstance(tree, str):
            tree = {f"/{entry.name}": str(entry) for entry in sorted(Path(tree).iterdir())}
        view = cls()
        for target, source in tree.items():
            view._show(Path(source), target)
        return view

    def _show(self, source: Path, target: str) -> None:
        """An entry of the image's top; ``/var`` is a folder of the root's own, to which more can be added."""
        if source.is_symlink():
            self.links[target] = os.readlink(source)
        elif target == "/var":
            for entry in sorted(source.iterdir()):
                self._show(entry, f"{target}/{entry.name}")
        else:
            self.binds.append(Bind(source, target, True))

    def bind(self, source: Path | None, target: str, readonly: bool = False) -> None:
        """Mount something more, over what is there."""
        self.binds.append(Bind(source, target, readonly))

    def write(self, text: str, target: str) -> None:
        """Put a small file there."""
        self.binds.append(Bind(None, target, True, text))

    def covering(self, place: str) -> Bind | None:
        """The mount that a place (without links) lies on; `None` for the root itself."""
        found = None
        for each in self.binds:
            if (place == each.target or place.startswith(f"{each.target}/")) and (
                found is None or len(each.target) >= len(found.target)
            ):
                found = each
        return found

    def real(self, path: str) -> str | None:
        """The place that a path leads to inside, links followed there; `None` if it is not there."""
        rest, here, followed = [part for part in PurePosixPath(path).parts[1:] if part != "."], "", 0
        while rest:
            part = rest.pop(0)
            here = os.path.dirname(here).rstrip("/") if part == ".." else f"{here}/{part}"
            link = self.links.get(here) or self._link(here)
            if link is not None:
                followed += 1
                if followed > _LINKS_FOLLOWED:
                    return None
                rest = [*PurePosixPath(link).parts, *rest]
                here = os.path.dirname(here).rstrip("/")
                if link.startswith("/"):
                    rest, here = rest[1:], ""
            elif not self._is_there(here):
                return None
        return here or "/"

    def on_host(self, place: str) -> Path | None:
        """Where a real place is on the host; `None` where it is on the root or in memory."""
        cover = self.covering(place)
        if cover is None or cover.source is None:
            return None
        return cover.source / place[len(cover.target) :].lstrip("/")

    def is_folder(self, place: str) -> bool:
        """Whether a real place is a folder."""
        host = self.on_host(place)
        return self._is_there(place) if host is None else host.is_dir()

    def is_executable(self, path: str) -> bool:
        """Whether a path inside can be executed."""
        place = self.real(path)
        host = self.on_host(place) if place else None
        return host is not None and host.is_file() and os.access(host, os.X_OK)

    def _link(self, here: str) -> str | None:
        if any(here == each.target for each in self.binds):
            return None
        host = self.on_host(here)
        return os.readlink(host) if host is not None and host.is_symlink() else None

    def _is_there(self, here: str) -> bool:
        host = self.on_host(here)
        if host is not None:
            return host.exists()
        return any(each.target == here or each.target.startswith(f"{here}/") for each in self.binds)

    def make_room(self, target: str) -> None:
        """Make a place that is not there, over read-only folders: the folder above is made anew in memory."""
        above = self.real(os.path.dirname(target))
        host = self.on_host(above) if above else None
        if self.real(target) is None and above and host is not None:
            self.bind(None, above)
            for entry in sorted(host.iterdir()):
                if not entry.is_symlink():
                    self.bind(entry, f"{above}/{entry.name}", True)

    def words(self) -> list[str]:
        """The arguments of bubblewrap that make this view."""
        found = []
        for target, link in self.links.items():
            found += ["--symlink", link, target]
        for each in self.binds:
            if each.text is not None:
                found += ["--ro-bind-data", str(_descriptor(each.text)), each.target]
            elif each.source is None:
                found += ["--tmpfs", each.target]
            else:
                kind = "--ro-bind" if each.readonly else "--dev-bind"
                found += [kind, str(each.source), each.target]
        return found


def found_program(view: View, word: str, search: str, cwd: str) -> bool:
    """Whether ``execvpe`` would find a program inside."""
    if "/" in word:
        return view.is_executable(os.path.join(cwd, word))
    return any(view.is_executable(os.path.join(cwd, folder, word)) for folder in search.split(":"))


def set_up_undisturbed(seconds: float) -> None:
    """As a set-uid program: forget the parent-death signal, and be deaf to the gentle signals for a while."""
    ctypes.CDLL(None).prctl(1, 0)
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    time.sleep(seconds)


def enter(
    view: View, words: Sequence[str], environment: Mapping[str, str], cwd: str, flags: Sequence[str]
) -> int:
    """Run a program inside and return its status; if a signal ended it, die of the same.

    The gentle signals stay ignored here and in bubblewrap; ``env --default-signal`` gives them back to the
    payload, which is in the same process group.
    """
    wrapper = shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin")
    if wrapper is None:
        raise SystemExit("the stand-in needs bubblewrap (bwrap)")
    argv = [wrapper, *view.words(), *flags, "--cap-drop", "ALL", "--die-with-parent", "--chdir", cwd, "--"]
    argv += ["/usr/bin/env", "--default-signal=TERM,INT,HUP", *words]
    status = subprocess.run(argv, env=dict(environment), check=False, close_fds=False).returncode
    if status > 128:
        number = status - 128
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return status


def _descriptor(text: str) -> int:
    """A descriptor from which bubblewrap reads a text."""
    descriptor = os.memfd_create("standin", 0)
    os.write(descriptor, text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
