# SPDX-License-Identifier: BSD-3-Clause
"""What Docker and Podman are asked for: one container, shut in as far as a program that only computes can be.

No network, no capability, no way to gain one, a read-only root, the caller's user, bounded memory and number
of processes, and of the host only the mounts of `mounts.of`. The program ends when its standard input does.
"""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import asdict, dataclass

from diffrun.runtimes import ENGINE, MAKECALEXP, Job
from diffrun.runtimes.image import ENTRY, Image
from diffrun.runtimes.mounts import of

#: The scratch folder: nothing on it can be run.
TMPFS = "rw,noexec,nosuid,nodev,size=256m"
#: A name space of its own with a small /dev/shm: without it there are no semaphores, and numba complains.
IPC = "private"
ENVIRONMENT = {"DIFFRUN_LIFELINE": "1"}
#: What an image calls each program.
PROGRAMS = {ENGINE: "imageDifference.py", MAKECALEXP: "makeCalexp.py"}
_GIB = 2**30
_MEMORY = 8 * _GIB
_PIDS = 256
_PIDS_EACH = 16


@dataclass(frozen=True)
class Spec:
    """One container, decided.

    Attributes
    ----------
    image : `str`
        ``sha256:...``
    command : `tuple` [`str`, ...]
        Program and arguments, given to the image's entry command.
    user : `str`
        ``UID:GID`` of the caller.
    mounts : `tuple` [(`str`, `str`, `bool`), ...]
        Source, target, whether read-only.
    memory : `int`
        Bytes, without swap.
    pids : `int`
        Processes and threads.
    """

    image: str
    command: tuple[str, ...]
    user: str
    mounts: tuple[tuple[str, str, bool], ...]
    memory: int
    pids: int

    def to_json(self) -> str:
        """One line; `from_json` reads it."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The spec that `to_json` wrote."""
        fields = json.loads(text)
        fields["command"] = tuple(fields["command"])
        fields["mounts"] = tuple((source, target, readonly) for source, target, readonly in fields["mounts"])
        return cls(**fields)


def spec(job: Job, image: Image) -> Spec:
    """The container that does a job (pure, but for the caller's own ids and home folder)."""
    mounted = of(job)
    return Spec(
        image=image.id,
        command=(PROGRAMS[job.module], *mounted.arguments),
        user=f"{os.getuid()}:{os.getgid()}",
        mounts=tuple((str(m.source), str(m.target), m.readonly) for m in mounted.mounts),
        memory=_MEMORY * job.parallel,
        pids=max(_PIDS, _PIDS_EACH * job.parallel),
    )


def words(wanted: Spec) -> list[str]:
    """The options and arguments of ``docker run`` and ``podman run`` that both understand."""
    mounts = [part for m in wanted.mounts for part in ("--mount", mount_option(*m))]
    variables = [part for name, value in ENVIRONMENT.items() for part in ("--env", f"{name}={value}")]
    return [
        "run", "--rm", "-i", "--init", "--pull", "never", "--network", "none", "--read-only",
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", wanted.user,
        "--pids-limit", str(wanted.pids), "--memory", str(wanted.memory), "--memory-swap", str(wanted.memory),
        "--ipc", IPC, "--log-driver", "none", "--tmpfs", f"/tmp:{TMPFS}",
        *variables, *mounts, "--entrypoint", ENTRY, wanted.image, *wanted.command,
    ]  # fmt: skip


def mount_option(source: str, target: str, readonly: bool) -> str:
    """The value of ``--mount``: fields of CSV, so that commas, quotes and colons in a path are no matter."""
    fields = ["type=bind", f"source={source}", f"target={target}"]
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([*fields, "readonly"] if readonly else fields)
    return text.getvalue().removesuffix("\r\n")
