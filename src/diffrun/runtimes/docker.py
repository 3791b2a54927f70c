# SPDX-License-Identifier: BSD-3-Clause
"""The Docker runtime: a small program of ours drives the Docker SDK, and ends with the launcher."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from diffrun.errors import UsageError
from diffrun.runtimes import Command, Job, container
from diffrun.runtimes.image import Image
from diffrun.runtimes.native import python

#: What tells the SDK where the server is; nothing of it reaches the container.
PASSED = (
    "HOME", "PATH", "TMPDIR", "XDG_RUNTIME_DIR",
    "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY",
)  # fmt: skip


class Container:
    """Runs the program of an image by a Docker server, found as the command ``docker`` finds it."""

    name = "docker"

    def __init__(self, image: Image) -> None:
        self.image = image

    def command(self, job: Job, host: Mapping[str, str] | None = None) -> Command:
        """The command for a job; it prints as the ``docker run`` line that does the same."""
        wanted = container.spec(job, self.image)
        host = os.environ if host is None else host
        passed = {name: host[name] for name in PASSED if name in host}
        argv, environment = python("diffrun.runtimes.dockerrun", (wanted.to_json(),), passed)
        line = shlex.join(["docker", *container.words(wanted)])
        return Command(argv, environment, lifeline=True, line=line)


def resolve(reference: str) -> Image:
    """The image of that name on the server.

    Raises
    ------
    UsageError
        If the server cannot be reached, or has no such image.
    """
    from docker.errors import APIError, DockerException, NotFound
    from requests.exceptions import RequestException

    from diffrun.runtimes.dockerrun import connect, said

    remedy = "start Docker, or use another --runtime"
    try:
        client = connect(os.environ)
    except (DockerException, RequestException, OSError) as error:
        raise UsageError(f"cannot reach a Docker server: {said(error)}", remedy) from None
    try:
        for name in (
            reference,
            *reference.partition("@")[2:],
        ):  # one built here has no NAME@sha256, only its id
            try:
                found = client.api.inspect_image(name) if name else None
            except NotFound:
                found = None
            if found:
                return Image(reference, str(found["Id"]), tuple(sorted(found.get("RepoDigests") or ())))
    except (APIError, RequestException) as error:
        raise UsageError(f"Docker cannot look for the image {reference}: {said(error)}", remedy) from None
    finally:
        client.close()
    raise UsageError(f"Docker has no image {reference}", f"fetch it with: docker pull {reference}")
