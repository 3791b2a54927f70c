# SPDX-License-Identifier: BSD-3-Clause
"""The Podman runtime: the command ``podman`` by its own argv.

Its Docker-compatible socket is not used: it cuts long logs, creates missing mount sources on the host, and
refuses paths with commas and quotes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping

from diffrun.errors import UsageError
from diffrun.runtimes import Command, Job, container
from diffrun.runtimes.image import Image

#: What Podman needs to find its storage and its settings; nothing of it reaches the container.
PASSED = (
    "HOME", "PATH", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "DBUS_SESSION_BUS_ADDRESS",
)  # fmt: skip
_PATIENCE = 60.0


class Container:
    """Runs the program of an image by ``podman run``: as root, or rootless with the caller's own user id."""

    name = "podman"

    def __init__(self, image: Image) -> None:
        self.image = image

    def command(self, job: Job, host: Mapping[str, str] | None = None) -> Command:
        """The command for a job."""
        wanted = container.spec(job, self.image)
        returned = next((source for source, _, _ in wanted.mounts if "\r" in source), None)
        if returned is not None:  # Podman reads it as another path
            raise UsageError(f"podman cannot mount {returned!r}", "rename it, or use another --runtime")
        run, *rest = container.words(wanted)
        own = ["--read-only-tmpfs=false", "--http-proxy=false"]
        if not wanted.user.startswith("0:"):
            own += ["--userns", "keep-id"]
        return Command(("podman", run, *own, *rest), _environment(host), lifeline=True, tidy=True)


def _environment(host: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    host = os.environ if host is None else host
    return tuple(sorted((name, host[name]) for name in PASSED if name in host))


def resolve(reference: str) -> Image:
    """The image of that name in Podman's storage.

    Raises
    ------
    UsageError
        If there is no Podman, or it has no such image.
    """
    program = shutil.which("podman")
    if program is None:
        raise UsageError("there is no command podman", "install Podman, or use another --runtime")
    said = ""
    for name in filter(None, (reference, reference.partition("@sha256:")[2])):
        argv = (program, "image", "inspect", "--format", "json", "--", name)
        try:
            done = subprocess.run(
                argv,
                env=dict(_environment(None)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"podman does not answer: {error}", "try: podman info") from None
        if done.returncode == 0:
            found = json.loads(done.stdout)[0]
            identity = "sha256:" + str(found["Id"]).removeprefix("sha256:")
            return Image(reference, identity, tuple(sorted(found.get("RepoDigests") or ())))
        said = said or done.stderr.decode("utf-8", "replace").strip()
    last = said.splitlines()[-1] if said else "it said nothing"
    raise UsageError(f"Podman has no image {reference} ({last})", f"fetch it with: podman pull {reference}")
