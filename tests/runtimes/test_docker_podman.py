# SPDX-License-Identifier: BSD-3-Clause
"""Docker and Podman for real: what a container can do, how it ends, what it may leave behind.

The containers are of a small image with the project's own entry command; the true engine's image is in the
tests of the products.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import smallimage

from diffrun import outputs, plan, record, settings
from diffrun.errors import OutputError, UsageError
from diffrun.repository.dataid import DataId
from diffrun.request import Request
from diffrun.runtimes import ENGINE, Job, choose, container, resolve, supervise
from diffrun.runtimes import podman as _before_the_fork  # noqa: F401
from diffrun.runtimes.dockerrun import connect, create, owner
from diffrun.runtimes.image import Image

pytestmark = pytest.mark.containers
ENTERED = "diffrun-entry: imageDifference.py"


@dataclass(frozen=True)
class House:
    """A runtime with storage of its own."""

    runtime: str
    environment: dict[str, str]

    def run(self, *words: str, data: bytes | None = None) -> str:
        """The runtime's own command."""
        done = subprocess.run([self.runtime, *words], env=self.environment, input=data, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    def image(self, script: str, tag: str) -> Image:
        """A small image, imported and resolved."""
        return self.keep(smallimage.tar(script), tag)

    def keep(self, tar: bytes, tag: str) -> Image:
        """Import an image."""
        self.run("import", "--change", "ENV PATH=/usr/local/bin:/bin", "-", tag, data=tar)
        found = resolve("engine", self.runtime, tag)
        assert found
        return found

    def containers(self) -> list[str]:
        """All there are, running or not."""
        return self.run("ps", "--all", "--quiet").split()

    def call(self, script: str, job: Job, tag: str) -> tuple[int, list[str]]:
        """One container, and what it said after the entry's own line."""
        return self.start(self.image(script, tag), job)

    def start(self, image: Image, job: Job) -> tuple[int, list[str]]:
        """The same with an image that is there."""
        said: list[str] = []
        command = choose("engine", self.runtime, image).command(job)
        status = supervise.follow(command, said.append)
        assert ENTERED in said, said
        return status, said[said.index(ENTERED) + 1 :]


@pytest.fixture(params=["docker", "podman"])
def house(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Each of both runtimes in turn; no container is left by any test."""
    if request.param == "docker":
        monkeypatch.setenv("DOCKER_HOST", request.getfixturevalue("docker").host)
    else:
        home = request.getfixturevalue("podman_home")
        monkeypatch.setenv("CONTAINERS_CONF", str(home / "containers.conf"))
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(home / "storage.conf"))
    made = House(request.param, dict(os.environ))
    yield made
    assert gone(made.containers), "a container was left"


def gone(look: Callable[[], object], seconds: float = 2.0) -> bool:
    """Whether there is nothing to be seen before the time is over."""
    end = time.monotonic() + seconds
    while look():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def folders(tmp_path: Path) -> Job:
    """A job that reads one folder and writes another."""
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "file").write_text("input")
    (tmp_path / "out").mkdir(mode=0o700)
    return Job(ENGINE, (str(tmp_path / "repo"),), (tmp_path / "repo",), tmp_path / "out")


PROBES = {
    "write input": 'echo x >"$1/file"',
    "create in input": 'touch "$1/new"',
    "write root": "touch /new",
    "write programs": "touch /bin/new",
    "make a device": "mknod /output/device b 8 0",
    "change owner": "touch /output/o && chown 1:1 /output/o",
    "new name space": "unshare -m true",
    "kernel settings": "echo 1 >/proc/sys/kernel/panic",
    "run from scratch": "cp /bin/ls /tmp/ls && /tmp/ls",
    "docker socket": "ls /var/run/docker.sock /run/docker.sock",
    "open the network": "exec 9<>/dev/tcp/127.0.0.1/80",
    "link input to output": 'ln "$1/file" /output/linked',
}


def test_what_a_container_cannot_do(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "set +e\n"
    script += "\n".join(
        f"( {probe} ) >/dev/null 2>&1 && echo 'DONE {name}'" for name, probe in PROBES.items()
    )
    script += """
    while read -r key value; do
        case $key in Cap*|NoNewPrivs:) echo "$key $value" ;; esac
    done </proc/self/status
    while read -r name _; do case $name in *:) echo "net $name";; esac; done </proc/net/dev
    echo "id $(id -u):$(id -g)"; cat "$1/file"; echo; env; echo good >/output/good
    """
    host = {"LD_PRELOAD": "/none.so", "PYTHONPATH": "/none", "PYTHONHOME": "/none", "SECRET": "x"}
    with monkeypatch.context() as patched:
        for name, text in host.items():
            patched.setenv(name, text)
        status, said = house.call(script, folders(tmp_path), "small:probes")
    assert status == 0
    assert not [line for line in said if line.startswith("DONE")]
    zero = "0" * 16
    for line in (f"CapEff: {zero}", f"CapPrm: {zero}", f"CapBnd: {zero}", "NoNewPrivs: 1", "input"):
        assert line in said
    assert [line for line in said if line.startswith("net ")] in ([], ["net lo:"])
    assert f"id {os.getuid()}:{os.getgid()}" in said
    named = {line.partition("=")[0] for line in said if "=" in line}
    assert named.isdisjoint(host)
    assert (tmp_path / "out" / "good").read_text() == "good\n"
    assert (tmp_path / "out" / "good").stat().st_uid == os.getuid()


def test_output_and_exit_status_are_exact(house: House, tmp_path: Path) -> None:
    script = r"""printf 'caf\xc3\xa9 \xff\n'; for i in {1..20000}; do echo "line $i"; done; exit 37"""
    status, said = house.call(script, folders(tmp_path), "small:says")
    assert status == 37
    assert said == ["café \ufffd", *(f"line {i}" for i in range(1, 20001))]


NAMES = [
    "a b", "a,b", "a:b", 'a"b', "a'b", "a=b", "a\\b", "a\nb", "a\tb", "é", "日本", "-v", "--privileged",
    "$HOME",
    "$(id)", "`id`", "a;b", "a|b", "a&b", "a>b", "*", "?", "[a]", "{a,b}", "~", "#a", "!a", "%s", "a\x1bb",
    " a",
    "a ", ".a", "...", "source=x", "readonly", "a,readonly=false", "@", "^", "(a)", "a" * 200,
]  # fmt: skip


def test_hostile_folder_names(house: House, tmp_path: Path) -> None:
    places = tuple(tmp_path / "repo" / name for name in NAMES)
    for number, place in enumerate(places):
        place.mkdir(parents=True)
        (place / "seen").write_text(f"{number}\n")
    (tmp_path / "out").mkdir()
    job = Job(ENGINE, tuple(str(place) for place in places), places, tmp_path / "out")
    script = (
        'for place in "$@"; do cat "$place/seen" || echo missing; touch "$place/x" 2>/dev/null; done; true'
    )
    status, said = house.call(script, job, "small:names")
    assert (status, said) == (0, [str(number) for number in range(len(NAMES))])
    assert not list(tmp_path.rglob("x"))


TRICKS = {
    "link": ("ln -s /etc/shadow /output/a", "a, which is not a plain file"),
    "linked folder": ("ln -s /etc /output/a", "a, which is not a plain file"),
    "pipe": ("mkfifo /output/a", "a, which is not a plain file"),
    "set-uid": ("cp /bin/ls /output/a; chmod 4755 /output/a", "a, which has a set-uid or set-gid bit"),
    "hard link": ("echo >/output/a; ln /output/a /output/b", "a, which has another name elsewhere"),
    "sparse": ("truncate -s 1T /output/a", "a, which is larger than 8 GiB"),
    "many": ("for i in {1..10000}; do :>/output/$i; done", "more than 128 files"),
    "parent": ("ln -s /etc /output/_parent", "_parent, a link to /etc, not to the repository"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_in_the_output_is_followed(house: House, tmp_path: Path, trick: str) -> None:
    script, told = TRICKS[trick]
    job = folders(tmp_path)
    house.call(script, job, "small:trick")
    science = DataId(visit=1, filter="r", raft="2,2", sensor="1,1")
    with pytest.raises(OutputError) as refused:
        outputs.examine(tmp_path / "out", [science], tmp_path / "repo")
    assert told in str(refused.value)


def test_what_is_left_gets_the_modes_of_the_callers_umask(house: House, tmp_path: Path) -> None:
    script = """
    mkdir -p /output/config /output/deepDiff/v1-fr/R22
    for name in SubtractedExp MatchedExp Sources; do
        echo "config.doWrite$name=False"
    done >/output/config/deepDiff.py
    echo >/output/deepDiff/v1-fr/R22/metadata-S11.boost
    chmod 777 /output/config /output/config/deepDiff.py
    ln -s "$1" /output/_parent
    """
    job = folders(tmp_path)
    (tmp_path / "li nk").symlink_to("repo")
    job = replace(job, arguments=(str(tmp_path / "li nk"),), reads=(*job.reads, tmp_path / "li nk"))
    assert house.call(script, job, "small:modes") == (0, [])
    science = [DataId(visit=1, filter="r", raft="2,2", sensor="1,1")]
    before = os.umask(0o027)
    try:
        outputs.examine(tmp_path / "out", science, tmp_path / "li nk")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o7777 for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes == {0o640}
    assert (tmp_path / "out" / "config").stat().st_mode & 0o7777 == 0o750
    assert (tmp_path / "out" / "_parent").readlink() == tmp_path / "repo"


def command(house: House, tmp_path: Path, *more: str) -> list[str]:
    words = ["--science", "230", "--template", "195529", "--runtime", house.runtime]
    return [sys.executable, "-m", "diffrun.cli", *words, "--output", str(tmp_path / "run"), *more]


def running(tag: str) -> list[int]:
    """Processes on this machine that have this word in their command line, ours excluded."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", tag.encode()]:
            found.append(int(place.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_outlives_the_launcher(house: House, tmp_path: Path, number: signal.Signals) -> None:
    mark = f"{3000 + os.getpid() % 1000}.{int(number)}"
    image = house.image(f"sleep {mark}", "small:sleeps")
    argv = command(house, tmp_path, "--image", image.name)
    launcher = subprocess.Popen(argv, env=house.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + 20
    while not running(mark):
        assert launcher.poll() is None and time.monotonic() < end, launcher.communicate()
        time.sleep(0.02)
    launcher.send_signal(number)
    assert gone(lambda: running(mark) or house.containers(), 2.0)
    launcher.communicate(timeout=12)
    assert launcher.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert not (tmp_path / "run").exists()


def test_exit_status_0_is_not_believed(house: House, tmp_path: Path) -> None:
    words = "imageDifference FATAL: Failed on dataId={'visit': 230}: no stars in common"
    image = house.image(f'echo "{words}" >&2; exit 0', "small:lies")
    argv = command(house, tmp_path, "--program", "stack", "--image", image.name)
    done = subprocess.run(argv, env=house.environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "no stars in common" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_killed_program_is_told_as_such(house: House, tmp_path: Path) -> None:
    image = house.image("kill -KILL $$", "small:killed")
    argv = command(house, tmp_path, "--image", image.name)
    done = subprocess.run(argv, env=house.environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "killed in its container; most often it wants more memory" in done.stderr


def test_a_moved_tag_is_another_plan(house: House, subset: Path, tmp_path: Path) -> None:
    request = Request(science=230, template=195529, repo=subset, output=tmp_path / "run", image="small:moves")
    request = Request(**{**vars(request), "runtime": house.runtime})
    first = house.image("exit 1", "small:moves")
    before = plan.make(request, settings.resolve(request, {}))
    assert before.identity()["image"] == first.id == before.as_dict()["container"]["id"]
    house.image("exit 2", "small:moves")
    after = plan.make(request, settings.resolve(request, {}))
    assert after.digest != before.digest
    with pytest.raises(OutputError, match=r"holds another plan \(image: sha256:"):
        record.refuse_other_plan(tmp_path / "run", {"plan": before.as_dict()}, after)


def test_the_printed_line_does_the_same(house: House, tmp_path: Path) -> None:
    image = house.image('echo "$# $2"; exit 5', "small:line")
    job = folders(tmp_path)
    job = Job(job.module, (*job.arguments, 'it\'s "quoted"'), job.reads, job.writes)
    line = str(choose("engine", house.runtime, image).command(job))
    words = shlex.split(line)
    assert house.runtime in words[:20]
    pasted = subprocess.Popen(
        ["bash", "-c", line], env=house.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert pasted.stdout and pasted.stdin
    assert pasted.stdout.read().decode() == '2 it\'s "quoted"\n'
    assert pasted.wait() == 5
    pasted.stdin.close()
    pasted.stdout.close()


def test_an_image_that_is_not_there(house: House) -> None:
    with pytest.raises(UsageError, match="has no image nothing:here"):
        resolve("engine", house.runtime, "nothing:here")


def test_the_image_of_the_lock_file_is_found_by_its_id(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = house.image("exit 0", "small:locked")
    (tmp_path / "diffrun").mkdir()
    (tmp_path / "diffrun" / "images.lock").write_text(
        f"# built here\nlocal/diffrun-engine@{image.id} # today\n"
    )
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    found = resolve("engine", house.runtime, None)
    assert found and found.id == image.id
    assert json.dumps(found.as_dict())


@pytest.fixture
def nobody_special() -> Iterator[Path]:
    """The home folder of an ordinary user with subordinate ids, as `useradd` makes it."""
    if os.geteuid() or not all(map(shutil.which, ("podman", "newuidmap", "useradd"))):
        pytest.skip("needs root to make an ordinary user, and: apt-get install podman uidmap")
    name = f"diffrun{os.getpid()}"
    home = Path("/home") / name
    subprocess.run(["useradd", "--create-home", "--home-dir", home, name], check=True)
    try:
        yield home
    finally:
        for file in home.rglob("pause.pid"):  # Podman's holder of the name space
            os.kill(int(file.read_text()), signal.SIGKILL)
        subprocess.run(["userdel", "--force", "--remove", name], check=True, capture_output=True)


def test_podman_without_root(nobody_special: Path, podman_home: Path) -> None:
    """Everything is done by a child that has become the ordinary user."""
    home = nobody_special
    (home / "containers.conf").write_bytes((podman_home / "containers.conf").read_bytes())
    (home / "storage.conf").write_text(f'[storage]\ndriver="vfs"\ngraphroot="{home}/g"\nrunroot="{home}/r"\n')
    script = """echo "$(id -u):$(id -g)"; echo good >/output/mine
    while read -r key value; do [ $key != CapEff: ] || echo $value; done </proc/self/status; true"""
    tar = smallimage.tar(script)
    child = os.fork()
    if child == 0:
        os._exit(_as_user(home, tar))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, (home / "said").read_text()
    made = home / "work" / "out" / "mine"
    assert (made.read_text(), made.stat().st_uid) == ("good\n", home.stat().st_uid)


def _as_user(home: Path, tar: bytes) -> int:
    """Whether a container ran as the caller, and without a capability: the exit status of the child."""
    state = home.stat()
    os.setgroups([])
    os.setgid(state.st_gid)
    os.setuid(state.st_uid)
    os.chdir(home)
    settings_of = {"CONTAINERS_CONF": "containers.conf", "CONTAINERS_STORAGE_CONF": "storage.conf"}
    os.environ.update({"HOME": str(home), "XDG_RUNTIME_DIR": str(home)})
    os.environ.update({name: str(home / file) for name, file in settings_of.items()})
    try:
        (home / "work").mkdir()
        house = House("podman", dict(os.environ))
        status, said = house.start(house.keep(tar, "small:mine"), folders(home / "work"))
        (home / "said").write_text(f"{status} {said}")
        good = (status, said) == (0, [f"{state.st_uid}:{state.st_gid}", "0" * 16])
        return 0 if good and not house.containers() else 1
    except BaseException as error:
        (home / "said").write_text(repr(error))
        return 3


@pytest.fixture
def in_docker(docker: object, monkeypatch: pytest.MonkeyPatch) -> House:
    """The daemon of the tests."""
    monkeypatch.setenv("DOCKER_HOST", docker.host)  # type: ignore[attr-defined]
    return House("docker", dict(os.environ))


@pytest.mark.parametrize("way", ["named", "in use", "own socket"])
def test_the_server_is_found_as_the_command_finds_it(
    in_docker: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    image = in_docker.image("exit 0", "small:found")
    host = os.environ["DOCKER_HOST"]
    for name, text in {"DOCKER_CONFIG": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv("DOCKER_HOST")
    if way == "own socket":
        if Path("/var/run/docker.sock").exists():
            pytest.skip("this machine's own Docker server is found first")
        (tmp_path / "docker.sock").symlink_to(host.removeprefix("unix://"))
    else:
        here = House("docker", dict(os.environ))
        here.run("context", "create", "ours", "--docker", f"host={host}")
        if way == "in use":
            here.run("context", "use", "ours")
        else:
            monkeypatch.setenv("DOCKER_CONTEXT", "ours")
            with pytest.raises(UsageError, match="there is no context 'ours', or"):
                resolve("engine", "docker", "small:found")
            (tmp_path / "config.json").write_text("{}")
    found = resolve("engine", "docker", "small:found")
    assert found and found.id == image.id
    (tmp_path / "job").mkdir()
    command = choose("engine", "docker", image).command(folders(tmp_path / "job"))
    assert supervise.follow(command, lambda line: None) == 0


def test_what_a_dead_maker_left_is_removed(in_docker: House, tmp_path: Path) -> None:
    image = in_docker.image("exit 0", "small:left")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    alive = owner(os.getpid())
    for label in (f"{boot} 999999999 1", f"{boot} {os.getpid()} 1", alive, "another-machine 1 1"):
        in_docker.run("create", "--label", f"org.diffrun.owner={label}", image.id, "/bin/true")
    assert in_docker.start(image, folders(tmp_path)) == (0, [])
    form = '{{index .Config.Labels "org.diffrun.owner"}}'
    left = in_docker.containers()
    kept = {in_docker.run("inspect", "--format", form, each) for each in left}
    in_docker.run("rm", *left)
    assert kept == {alive, "another-machine 1 1"}


def test_the_end_of_our_own_input_ends_the_container(in_docker: House, tmp_path: Path) -> None:
    image = in_docker.image("echo up; sleep 100", "small:input")
    command = choose("engine", "docker", image).command(folders(tmp_path))
    argv, environment = command.argv, dict(command.environment)
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"up\n"
        child.stdin.close()
        assert child.wait(5) == 128 + signal.SIGTERM
    assert gone(in_docker.containers)


def test_the_server_was_asked_for_what_the_line_says(in_docker: House, tmp_path: Path) -> None:
    image = in_docker.image("exit 0", "small:asked")
    spec = container.spec(folders(tmp_path), image)
    client = connect(os.environ)
    try:
        identity = create(client.api, spec)
        seen = client.api.inspect_container(identity)
        client.api.remove_container(identity)
    finally:
        client.close()
    host, config = seen["HostConfig"], seen["Config"]
    asked = {
        "AutoRemove": True, "Init": True, "NetworkMode": "none", "ReadonlyRootfs": True, "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"], "PidsLimit": 256, "Memory": 8 * 2**30, "MemorySwap": 8 * 2**30,
        "IpcMode": "private", "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=256m"}, "Privileged": False,
        "CapAdd": None, "Devices": None, "PidMode": "", "UTSMode": "", "UsernsMode": "", "Binds": None,
    }  # fmt: skip
    assert {name: host[name] or None for name in asked} == {name: asked[name] or None for name in asked}
    assert [(m["Source"], m["Target"], m.get("ReadOnly", False)) for m in host["Mounts"]] == list(spec.mounts)
    assert (config["User"], config["OpenStdin"], config["StdinOnce"]) == (spec.user, True, True)
    assert [line for line in config["Env"] if not line.startswith("PATH=")] == ["DIFFRUN_LIFELINE=1"]
