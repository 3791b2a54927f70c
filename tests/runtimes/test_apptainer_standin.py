# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa: E501 (a row is a line)
"""The stand-in for Apptainer against the rules in Apptainer's source: a row for each argv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hostimage import standin

pytestmark = pytest.mark.skipif(not shutil.which("bwrap"), reason="apt-get install bubblewrap")

MOUNT = "type=bind,source=@/in,target=/input"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with awkward names, and two image files, one of which is none."""
    top = tmp_path_factory.mktemp("apptainer")
    for name in ("in", "out", "a,b", "a:b", 'a"b', "a b"):
        (top / name).mkdir()
        (top / name / "file").write_text(f"{name}\n")
    root = {
        f"/{name}": f"/{name}" for name in ("bin", "lib", "lib64", "usr", "etc") if Path("/", name).exists()
    }
    image = {
        "standin": "sif",
        "tree": root,
        "env": {"FROM_IMAGE": "1"},
        "labels": {"org.diffrun.program": "engine"},
    }
    (top / "small.sif").write_text(json.dumps(image))
    (top / "broken.sif").write_text("nothing\n")
    standin(top / "bin", "apptainer", {"registry": {"docker://test/small:1": image}, "log": str(top / "log")})
    return top


def run(
    place: Path, argv: tuple[str, ...], env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the stand-in in its own small environment."""
    words = [word.replace("@", str(place)) for word in argv]
    variables = {"PATH": os.environ["PATH"], "HOME": "/root", "CALLER": "1"}
    variables |= {name: value.replace("@", str(place)) for name, value in (env or {}).items()}
    program = place / "bin" / "apptainer"
    return subprocess.run(
        [program, *words], env=variables, cwd=place, capture_output=True, text=True, timeout=30
    )


@dataclass
class Row:
    """One argv and what comes of it."""

    name: str
    argv: tuple[str, ...]
    code: int = 0
    out: str = ""
    err: str = ""
    env: dict[str, str] = field(default_factory=dict)


def shut(*flags: str) -> tuple[str, ...]:
    """The words up to the image, shut in."""
    return ("exec", "--containall", "--cleanenv", "--no-home", *flags, "@/small.sif")


SHOW = ("cat", "/input/file")
ROWS = [
    Row("version", ("--version",), 0, "apptainer version 1.3.0-standin\n"),
    Row("unknown command", ("jump",), 255, "", 'Error: unknown command "jump"'),
    Row("unknown flag", ("exec", "--privileged", "@/small.sif", "true"), 255, "", 'Error for command "exec": unknown flag: --privileged'),
    Row("unknown letter", ("exec", "-z", "@/small.sif", "true"), 255, "", 'Error for command "exec": unknown flag: -z'),
    Row("flag without its value", ("exec", "--env"), 255, "", 'Error for command "exec": flag needs an argument'),
    Row("no command", ("exec", "@/small.sif"), 255, "", 'Error for command "exec": requires at least 2 arg'),
    Row("no abbreviations", ("exec", "--contain", "@/small.sif", "true"), 255, "", 'Error for command "exec": unknown flag'),
    Row("stops at the image", (*shut(), "echo", "--env", "-z"), 0, "--env -z\n"),
    Row("all our flags", (*shut("--no-privs", "--net", "--network", "none", "--pwd", "/tmp"), "pwd"), 0, "/tmp\n"),
    Row("quiet", ("--quiet", *shut(), "echo", "1"), 0, "1\n"),
    Row("short flags", ("exec", "-C", "-e", "-n", "@/small.sif", "echo", "1"), 0, "1\n"),
    Row("no such image", ("exec", "@/none.sif", "true"), 255, "", "FATAL:   could not open image"),
    Row("not an image", ("exec", "@/broken.sif", "true"), 255, "", "FATAL:   could not open image"),
    Row("empty argument", (*shut(), "printf", "%s.", "a", "", "b"), 0, "a..b."),
    # --mount
    Row("mount", (*shut("--mount", MOUNT), *SHOW), 0, "in\n"),
    Row("mount by other keys", (*shut("--mount", "type=bind,src=@/in,dst=/input"), *SHOW), 0, "in\n"),
    Row("mount read-only", (*shut("--mount", f"{MOUNT},ro"), "touch", "/input/x"), 1, "", "touch: cannot touch"),
    Row("mount readonly", (*shut("--mount", f"{MOUNT},readonly"), "touch", "/input/x"), 1, "", "touch: cannot touch"),
    Row("mount, comma", (*shut("--mount", 'type=bind,"source=@/a,b",target=/input'), *SHOW), 0, "a,b\n"),
    Row("mount, quote", (*shut("--mount", 'type=bind,"source=@/a""b",target=/input'), *SHOW), 0, 'a"b\n'),
    Row("mount, colon", (*shut("--mount", "type=bind,source=@/a:b,target=/input"), *SHOW), 0, "a:b\n"),
    Row("mount, blank", (*shut("--mount", "type=bind,source=@/a b,target=/input"), *SHOW), 0, "a b\n"),
    Row("mount, unquoted comma", (*shut("--mount", "type=bind,source=@/a,b,target=/input"), "true"), 255, "", "FATAL:   while parsing mount"),
    Row("mount, other type", (*shut("--mount", "type=tmpfs,target=/input"), "true"), 255, "", "FATAL:   while parsing mount"),
    Row("mount, propagation", (*shut("--mount", f"{MOUNT},bind-propagation=rshared"), "true"), 255, "", "FATAL:   while parsing mount"),
    Row("mount, no target", (*shut("--mount", "type=bind,source=@/in"), "true"), 255, "", "FATAL:   while parsing mount"),
    Row("mount, missing source", (*shut("--mount", "type=bind,source=@/none,target=/input"), "true"), 255, "", "FATAL:   container creation failed"),
    # --bind
    Row("bind", (*shut("--bind", "@/in:/input"), *SHOW), 0, "in\n"),
    Row("bind at the same path", (*shut("-B", "@/in"), "cat", "@/in/file"), 0, "in\n"),
    Row("bind read-only", (*shut("--bind", "@/in:/input:ro"), "touch", "/input/x"), 1, "", "touch: cannot touch"),
    Row("bind, two", (*shut("--bind", "@/in:/input,@/a b:/b"), "cat", "/input/file", "/b/file"), 0, "in\na b\n"),
    Row("bind, escaped comma", (*shut("--bind", r"@/a\,b:/input"), *SHOW), 0, "a,b\n"),
    Row("bind, escaped colon", (*shut("--bind", r"@/a\:b:/input"), *SHOW), 0, "a:b\n"),
    Row("bind, unescaped comma", (*shut("--bind", "@/a,b:/input"), "true"), 255, "", "FATAL:"),
    Row("bind, unknown option", (*shut("--bind", "@/in:/input:rx"), "true"), 255, "", "FATAL:   while parsing bind"),
    # environment
    Row("caller's variables", ("exec", "@/small.sif", "sh", "-c", "echo $CALLER"), 0, "1\n"),
    Row("clean", (*shut(), "sh", "-c", "echo .$CALLER.$FROM_IMAGE"), 0, "..1\n"),
    Row("env", (*shut("--env", "A=x=y"), "sh", "-c", "echo $A"), 0, "x=y\n"),
    Row("env without value", (*shut("--env", "A"), "true"), 255, "", "FATAL:   invalid argument"),
    Row("APPTAINERENV_", (*shut(), "sh", "-c", "echo $LEAK"), 0, "1\n", env={"APPTAINERENV_LEAK": "1"}),
    Row("SINGULARITYENV_", (*shut(), "sh", "-c", "echo $LEAK"), 0, "1\n", env={"SINGULARITYENV_LEAK": "1"}),
    Row("APPTAINER_BIND", (*shut(), *SHOW), 0, "in\n", env={"APPTAINER_BIND": "@/in:/input"}),
    Row("SINGULARITY_BINDPATH", (*shut(), *SHOW), 0, "in\n", env={"SINGULARITY_BINDPATH": "@/in:/input"}),
    Row("APPTAINER_MOUNT", (*shut(), *SHOW), 0, "in\n", env={"APPTAINER_MOUNT": MOUNT}),
    Row("APPTAINER_CONTAINALL", ("exec", "@/small.sif", "ls", "@/in"), 2, "", "ls: cannot access", env={"APPTAINER_CONTAINALL": "1"}),
    # inside
    Row("own /tmp", (*shut(), "ls", "/tmp"), 0, ""),
    Row("host's /tmp otherwise", ("exec", "@/small.sif", "cat", "@/in/file"), 0, "in\n"),
    Row("root is read-only", (*shut(), "touch", "/x"), 1, "", "touch: cannot touch '/x': Read-only"),
    Row("no network", (*shut("--net", "--network", "none"), "grep", "-c", ":", "/proc/net/dev"), 0, "1\n"),
    Row("own processes", (*shut(), "sh", "-c", "ls -d /proc/[0-9]* | wc -l | grep -c '^[1-9]$'"), 0, "1\n"),
    Row("no capability", (*shut("--no-privs"), "grep", "CapEff", "/proc/self/status"), 0, "CapEff:\t0000000000000000\n"),
    # exit codes
    *(Row(f"code {code}", (*shut(), "sh", "-c", f"exit {code}"), code) for code in (0, 1, 42)),
    Row("SIGABRT", (*shut(), "sh", "-c", "kill -6 $$"), -6),
    Row("SIGKILL", (*shut(), "sh", "-c", "kill -9 $$"), -9),
    Row("not found", (*shut(), "nonesuch"), 255, "", 'FATAL:   "nonesuch": executable file not found'),
    # images
    Row("inspect", ("inspect", "--json", "@/small.sif"), 0, '{"data": {"attributes": {"labels": {"org.diffrun.program": "engine"}}}, "type": "container"}\n'),
    Row("inspect, not an image", ("inspect", "@/broken.sif"), 255, "", "FATAL:"),
    Row("pull", ("pull", "--name", "@/pulled.sif", "docker://test/small:1"), 0),
    Row("pull again", ("pull", "--name", "@/small.sif", "docker://test/small:1"), 255, "", "FATAL:   image file already exists"),
    Row("pull, unknown", ("pull", "--name", "@/x.sif", "docker://test/none:1"), 255, "", "FATAL:   while making image"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(place: Path, row: Row) -> None:
    done = run(place, row.argv, row.env)
    assert done.returncode == row.code, done.stderr
    assert done.stdout == row.out.replace("@", str(place))
    assert done.stderr.startswith(row.err), done.stderr
