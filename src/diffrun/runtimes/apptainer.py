# SPDX-License-Identifier: BSD-3-Clause
"""The Apptainer runtime: spython finds the program, fetches and inspects images; the run is an argv of ours.

(spython drops empty arguments, holds all output in memory and gives no process to stop, so it runs no job.)
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffrun.errors import UsageError
from diffrun.runtimes import Command, Job
from diffrun.runtimes.container import ENVIRONMENT, PROGRAMS, mount_option
from diffrun.runtimes.image import ENTRY, Image
from diffrun.runtimes.mounts import of
from diffrun.runtimes.native import FIXED

_PROGRAMS = ("apptainer", "singularity")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: Shut in as far as it goes without root: nothing of the host's but the mounts, no network, no capability.
_FLAGS = (
    "--containall",
    "--cleanenv",
    "--no-home",
    "--no-privs",
    "--net",
    "--network",
    "none",
    "--pwd",
    "/tmp",
)


class Container:
    """Runs the program of an image under Apptainer, from a SIF file."""

    name = "apptainer"

    def __init__(self, image: Image) -> None:
        self.image = image

    def command(self, job: Job, host: Mapping[str, str] | None = None) -> Command:
        """The command for a job; no ``APPTAINER_*`` or ``SINGULARITY_*`` variable is in its environment."""
        host = os.environ if host is None else host
        program = next(
            (found for name in _PROGRAMS if (found := shutil.which(name, path=host.get("PATH")))), None
        )
        kept = {name: host[name] for name in ("HOME",) if name in host} | FIXED
        argv = (program or _PROGRAMS[0], *words(job, place(self.image.name)))
        return Command(argv, tuple(sorted(kept.items())), lifeline=True)


def words(job: Job, image: Path) -> tuple[str, ...]:
    """The arguments of ``apptainer`` (pure).

    Raises
    ------
    UsageError
        For a path that cannot or must not be mounted.
    """
    mounted = of(job)
    mounts = []
    for mount in mounted.mounts:
        if _CONTROL.search(f"{mount.source}{mount.target}"):
            raise UsageError(
                f"{str(mount.source)!r} cannot be mounted by Apptainer: a line break or control character",
                "rename the folder",
            )
        mounts += ["--mount", mount_option(str(mount.source), str(mount.target), mount.readonly)]
    variables = [part for name, value in ENVIRONMENT.items() for part in ("--env", f"{name}={value}")]
    program = (ENTRY, PROGRAMS[job.module], *mounted.arguments)
    return ("--quiet", "exec", *_FLAGS, *variables, *mounts, str(image), *program)


def place(reference: str) -> Path:
    """The SIF file of a reference: the file that it names, or the one fetched under that name."""
    from platformdirs import user_data_path

    if reference.endswith(".sif"):
        return Path(reference).absolute()
    return user_data_path("diffrun") / "apptainer" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', reference)}.sif"


def resolve(reference: str) -> Image:
    """The image of that name: a ``.sif`` file, or one that is fetched from a registry and kept.

    Its id is the sha256 of the SIF file.

    Raises
    ------
    UsageError
        If there is no Apptainer or no such image here, or it cannot be fetched.
    """
    client = _client()
    path = place(reference)
    if not path.is_file():
        if reference.endswith(".sif"):
            raise UsageError(f"there is no image {path}", "give another --image")
        _fetch(client, reference, path)
    found: Any = _asked(client.inspect, str(path), quiet=True)
    if not isinstance(found, dict) or "attributes" not in found:
        raise UsageError(f"Apptainer cannot read {path}", "remove it, or give another --image")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = str(path) if reference.endswith(".sif") else reference  # found again from any folder
    return Image(name, f"sha256:{digest}", (reference,) if "@sha256:" in reference else ())


def _client() -> Any:
    """spython's client, if it finds Apptainer."""
    try:
        from spython.main import get_client
        from spython.utils import check_install
    except ImportError:
        raise UsageError("--runtime apptainer needs spython", "pip install 'diffrun[apptainer]'") from None
    if not check_install(_PROGRAMS[1]):  # the name by which spython calls it; Apptainer has it as well
        raise UsageError(
            "there is no command singularity here", "install Apptainer, or use another --runtime"
        )
    return get_client(quiet=True)


def _fetch(client: Any, reference: str, path: Path) -> None:
    """Fetch an image beside its place, and move it there when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _asked(
            client.pull, f"docker://{reference}", name=path.name, pull_folder=folder, capture=True, quiet=True
        )
        fetched = Path(folder) / path.name
        if not fetched.is_file():
            raise UsageError(f"Apptainer cannot fetch docker://{reference}", "give a .sif file with --image")
        fetched.replace(path)


def _asked(call: Any, *words: str, **options: Any) -> Any:
    """What spython answers; it ends the whole program where it fails, which is taken as no answer."""
    try:
        return call(*words, **options)
    except (SystemExit, ValueError, KeyError, IndexError, OSError):
        return None
