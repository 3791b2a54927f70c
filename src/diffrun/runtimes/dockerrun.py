# SPDX-License-Identifier: BSD-3-Clause
"""``python -m diffrun.runtimes.dockerrun SPEC``: one container by the Docker SDK, as a child of the launcher.

The connection that carries the container's output also holds its standard input. When this program dies, by
whatever signal, the server closes that input (StdinOnce), the image's entry command ends the work, and the
server removes the container. Output is handed on byte for byte, as it comes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import docker
from docker.errors import DockerException, ImageNotFound, NotFound
from docker.types import Mount
from docker.utils.socket import frames_iter
from requests.exceptions import RequestException

from diffrun.runtimes.container import ENVIRONMENT, IPC, TMPFS, Spec
from diffrun.runtimes.image import ENTRY

#: The label that tells who made a container, and the exit status of ``docker run`` for its own failures.
OWNER = "org.diffrun.owner"
FAILED = 125
_GRACE = 1.5
_SYSTEM_SOCKET = Path("/var/run/docker.sock")


class Stopped(BaseException):
    """A signal asked us to stop."""


def connect(environment: Mapping[str, str]) -> Any:
    """A client of the server that ``docker`` would use: DOCKER_HOST, the context, or the usual sockets."""
    if not environment.get("DOCKER_HOST"):
        name = environment.get("DOCKER_CONTEXT")
        server = docker.ContextAPI.kwargs_from_context(environment=environment).get("base_url")
        if name and not server:  # the SDK would take the default, and looks beside a config.json only
            raise DockerException(f"there is no context {name!r}, or no config.json beside it")
        own = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "docker.sock"
        if server == f"unix://{_SYSTEM_SOCKET}" and not _SYSTEM_SOCKET.exists() and own.is_socket():
            return docker.DockerClient(base_url=f"unix://{own}")
    return docker.from_env()


def said(error: BaseException) -> str:
    """An error of the SDK as one line."""
    text = getattr(error, "explanation", None) or str(error)
    return " ".join(str(text).split())


def main(arguments: list[str] | None = None) -> int:
    """Run the container and return its exit status."""
    spec = Spec.from_json((sys.argv[1:] if arguments is None else arguments)[0])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        client = connect(os.environ)
        sweep(client.api)
        threading.Thread(target=_lifeline, daemon=True).start()
        return run(client.api, spec)
    except ImageNotFound:
        return _complain(f"the image {spec.image} is gone")
    except (DockerException, RequestException, OSError) as error:
        return _complain(said(error))
    except Stopped as stopped:
        return 128 + int(stopped.args[0])


def run(api: Any, spec: Spec) -> int:
    """Create, attach, start, hand on the output, wait until the container is removed."""
    identity = create(api, spec)
    ended: list[int] = []
    waiter = threading.Thread(target=_wait, args=(api, identity, ended), daemon=True)
    try:
        stream = api.attach_socket(identity, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        waiter.start()
        api.start(identity)
        for which, data in frames_iter(stream, tty=False):
            _write(which, data)
        waiter.join()
    except BaseException:
        with contextlib.suppress(DockerException, RequestException, OSError):
            api.remove_container(identity, force=True)
        if waiter.is_alive():
            waiter.join(_GRACE)
        raise
    return ended[0] if ended else FAILED


def create(api: Any, spec: Spec) -> str:
    """The container, not yet started."""
    host = api.create_host_config(
        auto_remove=True,
        init=True,
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=spec.pids,
        mem_limit=spec.memory,
        memswap_limit=spec.memory,
        ipc_mode=IPC,
        tmpfs={"/tmp": TMPFS},
        log_config={"Type": "none", "Config": {}},
        mounts=[Mount(target, source, type="bind", read_only=ro) for source, target, ro in spec.mounts],
    )
    made = api.create_container(
        spec.image,
        entrypoint=[ENTRY],
        command=list(spec.command),
        user=spec.user,
        environment=ENVIRONMENT,
        stdin_open=True,
        labels={OWNER: owner(os.getpid())},
        host_config=host,
    )
    return str(made["Id"])


def owner(process: int) -> str:
    """A process, told from all others: the machine's start, its number and its own start; empty if gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        started = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
    return f"{boot} {process} {started}"


def sweep(api: Any) -> None:
    """Remove what a maker left that died between creating a container and starting it."""
    boot = owner(os.getpid()).partition(" ")[0]
    for found in api.containers(all=True, filters={"status": "created", "label": OWNER}):
        label = found["Labels"][OWNER].split()
        if len(label) == 3 and label[0] == boot and owner(int(label[1])) != " ".join(label):
            with contextlib.suppress(DockerException):
                api.remove_container(found["Id"])


def _wait(api: Any, identity: str, ended: list[int]) -> None:
    with contextlib.suppress(NotFound, RequestException):
        ended.append(int(api.wait(identity, timeout=None, condition="removed")["StatusCode"]))


def _lifeline() -> None:
    """Stop at the end of our own standard input, whose other end the launcher holds."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _write(which: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(2 if which == 2 else 1, rest) :]


def _complain(text: str) -> int:
    print(f"docker: {text}", file=sys.stderr, flush=True)
    return FAILED


def _stop(number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


if __name__ == "__main__":
    sys.exit(main())
