# SPDX-License-Identifier: BSD-3-Clause
"""A private Docker daemon, and both images in it: built from `containers/`, offline, on a base made here.

The daemon has its own socket and data, and ends with the tests. The base, a small Debian, comes from
debootstrap and is kept in the user's cache, as are the wheels. The tests that need any of it are marked
``containers``, so that they can be run in one process; without root or the programs they are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from platformdirs import user_cache_path

CHECKOUT = Path(__file__).resolve().parents[2]
FIXTURES = {"docker", "engine_image", "podman_engine_image", "podman_home", "stack_image"}
#: The client that has BuildKit inside; another one on PATH may not.
CLIENT = "/usr/bin/docker"
ENGINE, STANDIN = "diffrun-test-engine", "diffrun-test-stack"
#: What Podman needs where limits cannot be raised and the cgroups are of the old kind.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
"""
PACKAGES = "python3,python3-venv,git"
UNNEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that needs the daemon or an image."""
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("containers")


@dataclass(frozen=True)
class Docker:
    """A daemon of our own."""

    host: str

    @property
    def environment(self) -> dict[str, str]:
        """Ours, with the daemon named as the CLI, the SDK and diffrun find it."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("DOCKER_")}
        path = f"{Path(CLIENT).parent}:{os.environ['PATH']}"
        return kept | {"DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1", "PATH": path}

    def run(self, *words: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """``docker WORDS``."""
        done = subprocess.run(
            [CLIENT, *words], env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, done.stderr
        return done


def _need(*programs: str) -> None:
    if os.geteuid():
        pytest.skip("a Docker daemon of our own needs root")
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"no program {program}: apt-get install docker.io debootstrap")


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """The daemon, without a bridge and without firewall rules: no container of ours has a network."""
    _need("dockerd", CLIENT)
    home = tmp_path_factory.mktemp("docker")
    (home / "daemon.json").write_text("{}")
    host = f"unix://{home}/docker.sock"
    options = {"config-file": "daemon.json", "data-root": "data", "exec-root": "exec", "pidfile": "pid"}
    argv = ["dockerd", f"--host={host}", "--bridge=none", "--iptables=false", "--ip6tables=false"]
    argv += [f"--{option}={home / name}" for option, name in options.items()]
    with (home / "log").open("wb") as log:
        daemon = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        ours = Docker(host)
        _wait_for(ours, daemon, home / "log")
        yield ours
    finally:
        daemon.terminate()
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        shutil.rmtree(home / "data", ignore_errors=True)


def _wait_for(docker: Docker, daemon: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while docker.run("version", check=False).returncode:
        assert daemon.poll() is None and time.monotonic() < end, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)


@pytest.fixture(scope="session")
def cache() -> Path:
    """Where what is slow to make is kept from one session to the next."""
    folder = user_cache_path("diffrun-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def base_image(docker: Docker, cache: Path) -> str:
    """A small Debian with Python, as the base of both images."""
    _need("debootstrap")
    archive = cache / "base-1.tar"
    if not archive.exists():
        _debootstrap(archive)
    docker.run("import", str(archive), "diffrun-test-base")
    return "diffrun-test-base"


def _debootstrap(archive: Path) -> None:
    root = archive.with_suffix(".root")
    shutil.rmtree(root, ignore_errors=True)
    argv = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for folder in UNNEEDED:
        shutil.rmtree(root / folder, ignore_errors=True)
    partial = archive.with_suffix(".part")
    subprocess.run(["tar", "-C", root, "--sort=name", "--numeric-owner", "-cf", partial, "."], check=True)
    partial.replace(archive)
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def wheelhouse(cache: Path) -> Path:
    """The wheels of `containers/requirements.lock`, each with one of its sums."""
    folder = cache / "wheels"
    lock = CHECKOUT / "containers" / "requirements.lock"
    if not (folder / "complete").exists() or (folder / "complete").read_bytes() != lock.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        options = ["--only-binary", ":all:", "--no-deps", "--require-hashes", "--python-version", "3.11"]
        argv = [sys.executable, "-m", "pip", "download", "-q", *options, "-r", str(lock), "-d", str(folder)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        shutil.copyfile(lock, folder / "complete")
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The XDG_DATA_HOME in which the images built here are noted."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def engine_image(docker: Docker, base_image: str, wheelhouse: Path, data: Path) -> str:
    """The engine's image, by its sha256."""
    return _build(docker, data, "engine", "--base", base_image, "--wheelhouse", str(wheelhouse))


@pytest.fixture(scope="session")
def podman_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings and storage for Podman."""
    if not shutil.which("podman") or not shutil.which("catatonit", path="/usr/libexec/podman:/usr/bin"):
        pytest.skip("no program podman or catatonit: apt-get install podman catatonit runc")
    home = tmp_path_factory.mktemp("podman")
    (home / "containers.conf").write_text(CONTAINERS_CONF)
    storage = f'[storage]\ndriver="overlay"\ngraphroot="{home}/graph"\nrunroot="{home}/run"\n'
    (home / "storage.conf").write_text(storage)
    return home


@pytest.fixture(scope="session")
def podman_environment(podman_home: Path) -> dict[str, str]:
    """Ours, with Podman's settings and storage."""
    names = {"CONTAINERS_CONF": "containers.conf", "CONTAINERS_STORAGE_CONF": "storage.conf"}
    return dict(os.environ) | {name: str(podman_home / file) for name, file in names.items()}


@pytest.fixture(scope="session")
def podman_engine_image(docker: Docker, engine_image: str, podman_environment: dict[str, str]) -> str:
    """The files of the engine's image in Podman's storage, in one layer."""
    docker.run("create", "--name=exported", engine_image)
    export = subprocess.Popen([CLIENT, "export", "exported"], env=docker.environment, stdout=subprocess.PIPE)
    argv = ["podman", "import", "--quiet", "-", "diffrun-engine"]
    done = subprocess.run(argv, stdin=export.stdout, env=podman_environment, capture_output=True, text=True)
    assert export.stdout and not export.stdout.close()
    assert export.wait() == 0 and done.returncode == 0, done.stderr
    docker.run("rm", "exported")
    return "localhost/diffrun-engine"


@pytest.fixture(scope="session")
def stack_image(
    docker: Docker, engine_image: str, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """`containers/Dockerfile`, unchanged, on the stand-in for the stack."""
    context = tmp_path_factory.mktemp("standin") / "context"
    shutil.copytree(Path(__file__).parent / "standin", context)
    commit = _repository(context / "obs_lsstSim", context / "obs_lsstSim.git")
    docker.run("tag", engine_image, ENGINE)  # BuildKit takes a base by name only
    docker.run("build", "--network=none", f"--build-arg=ENGINE={ENGINE}", "-t", STANDIN, str(context))
    where = ("OBS_LSSTSIM_REPOSITORY=/opt/standin/obs_lsstSim.git", f"OBS_LSSTSIM_COMMIT={commit}")
    return _build(docker, data, "stack", "--base", STANDIN, *(f"--build-arg={each}" for each in where))


def _repository(tree: Path, bare: Path) -> str:
    """Make a Git repository of a folder; its commit."""

    def git(*words: str) -> str:
        who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        return subprocess.run(
            ["git", *who, *words], cwd=tree, check=True, capture_output=True, text=True
        ).stdout

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "stand-in")
    git("clone", "--quiet", "--bare", ".", str(bare))
    return git("rev-parse", "HEAD").strip()


def _build(docker: Docker, data: Path, program: str, *options: str) -> str:
    """``diffrun image build`` without a network: the image's sha256."""
    argv = [sys.executable, "-m", "diffrun.cli", "image", "build", program, "--engine", "docker"]
    environment = docker.environment | {"XDG_DATA_HOME": str(data)}
    done = subprocess.run(
        [*argv, "--network", "none", *options], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1].partition("@")[2]
