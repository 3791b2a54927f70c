# SPDX-License-Identifier: BSD-3-Clause
"""What a container may see: the rules of mounts, over chosen cases and over 10,000 random plans."""

from __future__ import annotations

import csv
import io
import os
import random
import shlex
from pathlib import Path

import pytest

from diffrun.errors import RepositoryError, UsageError
from diffrun.runtimes import ENGINE, Job, choose, mounts
from diffrun.runtimes.container import Spec, mount_option
from diffrun.runtimes.image import Image

IMAGE = Image("diffrun-engine:1", "sha256:" + "ab" * 32)
HOME = Path.home()
#: Every option that `docker run` or `podman run` may get, and those that take a value.
VALUED = {
    "--pull", "--network", "--cap-drop", "--security-opt", "--user", "--pids-limit", "--memory",
    "--memory-swap", "--ipc", "--log-driver", "--tmpfs", "--env", "--mount", "--entrypoint", "--userns",
}  # fmt: skip
BARE = {"--rm", "-i", "--init", "--read-only", "--read-only-tmpfs=false", "--http-proxy=false"}
FIXED = {
    "--pull": "never", "--network": "none", "--cap-drop": "ALL", "--security-opt": "no-new-privileges",
    "--ipc": "private", "--userns": "keep-id", "--env": "DIFFRUN_LIFELINE=1",
    "--user": f"{os.getuid()}:{os.getgid()}", "--entrypoint": "/usr/local/bin/diffrun-entry",
}  # fmt: skip
FORBIDDEN = (
    "/", "/etc", "/etc/shadow", "/proc", "/sys", "/dev", "/dev/sda", "/usr", "/run", "/var/run/docker.sock",
    "/run/docker.sock", "/run/user/1000/docker.sock", "/run/podman/podman.sock", "/var", "/var/lib/docker",
    "/home", "/root", "/tmp", str(HOME), *map(str, HOME.parents), f"{HOME}/.docker/run/docker.sock",
    "/output", "/output/x", "/config", "relative", "/a/../etc",
)  # fmt: skip


def job(repository: Path, output: Path, *configs: Path, reads: tuple[Path, ...] = ()) -> Job:
    words = [str(repository), "--output", str(output), "--config", "doMerge=True"]
    words += [word for path in configs for word in ("--configfile", str(path))]
    return Job(ENGINE, tuple(words), (repository, *reads), output, configs)


def test_the_repository_keeps_its_path_and_the_rest_gets_its_place() -> None:
    found = mounts.of(job(Path("/data/repo"), Path("/out/.x.tmp"), Path("/c/a.py"), Path("/d/a b\n.py")))
    assert [(str(m.source), str(m.target), m.readonly) for m in found.mounts] == [
        ("/c/a.py", "/config/0-a.py", True),
        ("/d/a b\n.py", "/config/1-a_b_.py", True),
        ("/data/repo", "/data/repo", True),
        ("/out/.x.tmp", "/output", False),
    ]
    assert found.arguments == (
        "/data/repo", "--output", "/output", "--config", "doMerge=True",
        "--configfile", "/config/0-a.py", "--configfile", "/config/1-a_b_.py",
    )  # fmt: skip


def test_the_whole_line() -> None:
    made = job(Path("/data/a b"), Path("/out/.x.tmp"), Path("/c/a.py"))
    options = (
        "--rm -i --init --pull never --network none --read-only --cap-drop ALL"
        f" --security-opt no-new-privileges --user {os.getuid()}:{os.getgid()} --pids-limit 256"
        " --memory 8589934592 --memory-swap 8589934592 --ipc private --log-driver none"
        " --tmpfs /tmp:rw,noexec,nosuid,nodev,size=256m --env DIFFRUN_LIFELINE=1"
        " --mount type=bind,source=/c/a.py,target=/config/0-a.py,readonly"
        " --mount 'type=bind,source=/data/a b,target=/data/a b,readonly'"
        " --mount type=bind,source=/out/.x.tmp,target=/output"
        f" --entrypoint /usr/local/bin/diffrun-entry {IMAGE.id} imageDifference.py '/data/a b'"
        " --output /output --config doMerge=True --configfile /config/0-a.py"
    )
    assert str(choose("engine", "docker", IMAGE).command(made, {})) == f"docker run {options}"
    own = "--read-only-tmpfs=false --http-proxy=false" + (" --userns keep-id" if os.getuid() else "")
    podman = choose("engine", "podman", IMAGE).command(made, {"HOME": "/h", "PYTHONPATH": "/none"})
    assert str(podman) == f"env -i HOME=/h podman run {own} {options}"


@pytest.mark.parametrize("path", FORBIDDEN)
def test_what_is_never_mounted(path: str) -> None:
    with pytest.raises(UsageError):
        mounts.of(job(Path(path), Path("/out/x")))
    with pytest.raises(UsageError):
        mounts.of(job(Path("/data/repo"), Path("/out/x"), reads=(Path(path),)))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a b,c", 'type=bind,"source=/a b,c",target=/t'),
        ('/a"b', 'type=bind,"source=/a""b",target=/t'),
        ("/a:b=c", "type=bind,source=/a:b=c,target=/t"),
        ("/a\nb", 'type=bind,"source=/a\nb",target=/t'),
    ],
)
def test_mount_options_are_csv(path: str, expected: str) -> None:
    assert mount_option(path, "/t", False) == expected
    parsed = csv.reader(io.StringIO(mount_option(path, path, True), newline=""))
    assert next(parsed) == ["type=bind", f"source={path}", f"target={path}", "readonly"]


def test_links_that_lead_out_are_seen(tmp_path: Path) -> None:
    repo, other, third = (tmp_path / name for name in ("repo", "other", "third"))
    for folder in (repo / "calexp", other, third):
        folder.mkdir(parents=True)
    (third / "far.fits").touch()
    (other / "v2").symlink_to("../third")
    (repo / "inside.fits").touch()
    (repo / "calexp" / "near").symlink_to("../inside.fits")
    (repo / "calexp" / "v1").symlink_to(other)
    found = mounts.reached([repo], [repo / "calexp" / "near", repo / "calexp" / "v1" / "v2" / "far.fits"])
    assert set(found) == {repo, other, third}
    (repo / "round").symlink_to("round")
    with pytest.raises(RepositoryError, match="circle"):
        mounts.reached([repo], [repo / "round"])


def test_a_file_system_mounted_below_is_refused() -> None:
    below = next(
        Path(line.split()[4])
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split()[4].count("/") > 1
    )
    with pytest.raises(UsageError, match="another file system is mounted at"):
        mounts.reached([below.parent], [])


def random_job(dice: random.Random) -> Job:
    """Good and bad paths, names that look like options, any number of each."""
    words = ["data", "a b", "x,y", 'q"', "l\nf", "--privileged", "-v", "é", ":ro", "$HOME", "`id`", "etc"]

    def path() -> Path:
        if dice.random() < 0.04:
            return Path(dice.choice(FORBIDDEN))
        return Path("/" + "/".join(dice.choice(words) for _ in range(dice.randint(1, 4))))

    configs = tuple(path() for _ in range(dice.randint(0, 3)))
    made = job(path(), path(), *configs, reads=tuple(path() for _ in range(dice.randint(0, 3))))
    more = ("--config", f"name={dice.choice(words)}", "--privileged", "--volume=/:/host", "--cap-add=ALL")
    return Job(ENGINE, (*made.arguments, *more), made.reads, made.writes, configs, dice.randint(1, 1024))


def options(argv: list[str]) -> list[tuple[str, str]]:
    """What stands between ``run`` and the image."""
    words, found = iter(argv[argv.index("run") + 1 :]), []
    for word in words:
        if word == IMAGE.id:
            return found
        found.append((word, next(words) if word in VALUED else ""))
    raise AssertionError("no image")


def is_harmless(source: str) -> bool:
    path = Path(source)
    system = ("/etc", "/proc", "/sys", "/dev", "/usr", "/bin", "/run", "/var/run", "/var/lib/docker")
    wide = source == "/" or path == HOME or path in HOME.parents
    inside = any(source == tree or source.startswith(tree + "/") for tree in system)
    return not (wide or inside or source.endswith(".sock"))


def test_ten_thousand_random_plans_never_open_the_host() -> None:
    dice, allowed = random.Random(20161128), 0
    for _ in range(10_000):
        made = random_job(dice)
        try:
            docker = choose("engine", "docker", IMAGE).command(made, {})
        except UsageError:
            with pytest.raises(UsageError):
                choose("engine", "podman", IMAGE).command(made, {})
            continue
        allowed += 1
        spec = Spec.from_json(docker.argv[-1])
        podman = choose("engine", "podman", IMAGE).command(made, {}).argv
        for argv in (shlex.split(docker.line), list(podman)):
            given = options(argv)
            assert {name for name, _ in given} <= VALUED | BARE
            assert all(value == FIXED.get(name, value) for name, value in given)
            asked = [value for name, value in given if name == "--mount"]
            assert asked == [mount_option(*mount) for mount in spec.mounts]
        assert all(is_harmless(source) for source, _, _ in spec.mounts)
        assert [target for _, target, readonly in spec.mounts if not readonly] == ["/output"]
        assert spec.user == FIXED["--user"]
    assert allowed > 3000
