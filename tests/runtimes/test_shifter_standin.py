# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa: E501 (a row is a line)
"""The stand-in for Shifter against what the real program was seen to do: a row for each argv."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from containerprobe import wait_until
from hostimage import standin

pytestmark = pytest.mark.skipif(not shutil.which("bwrap"), reason="apt-get install bubblewrap")

ID, OTHER = "a1" * 32, "b2" * 32
IMAGE = "--image=docker:test/small:1"
RUN = (IMAGE, "--")
USAGE = "Usage:"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders, a site's file systems, and an image made of this machine's programs."""
    top = tmp_path_factory.mktemp("shifter")
    for name in ("in", "out", "ab", "scratch/user/data", "image/opt/tool", "image/data", "elsewhere"):
        (top / name).mkdir(parents=True)
    (top / "in" / "file").write_text("in\n")
    (top / "ab" / "file").write_text("ab\n")
    (top / "image" / "plain").write_text("no program\n")
    (top / "env").write_text('# a comment\n\nFROM_FILE="kept"\nBOTH=file\n')
    (top / "bad-env").write_text("EMPTY=\n")
    (top / "link").symlink_to(top / "in")
    return top


def site(place: Path, **more: Any) -> dict[str, Any]:
    """A site with one image, under two names."""
    root = {
        f"/{name}": f"/{name}"
        for name in ("bin", "lib", "lib64", "usr", "etc", "var")
        if Path("/", name).exists()
    }
    root |= {"/opt": str(place / "image" / "opt"), "/data": str(place / "image" / "data")}
    root |= {"/plain": str(place / "image" / "plain")}
    image = {
        "tree": root,
        "env": {"PATH": "/usr/bin:/bin", "HOME": "/image-home", "BOTH": "image", "NOTHING": ""},
        "entry": ["/bin/echo", "entry"],
        "cmd": ["cmd"],
        "workdir": "/opt/tool",
    }
    return {
        "images": {"tags": {"docker:test/small:1": ID, "docker:other:latest": ID}, "ids": {ID: image}},
        "site_fs": [str(place / "scratch")],
        "modules": {"mpi": {"env": {"MODULE": "mpi"}}},
        "allow_root": True,
        **more,
    }


def run(
    place: Path,
    argv: tuple[str, ...],
    env: dict[str, str] | None = None,
    program: str = "shifter",
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """Run the stand-in in its own small environment."""
    folder = place / "bin"
    standin(folder, program, site(place, **more))
    words = [word.replace("@", str(place)) for word in argv]
    variables = {"PATH": os.environ["PATH"], "CALLER": "1"}
    variables |= {name: value.replace("@", str(place)) for name, value in (env or {}).items()}
    return subprocess.run(
        [folder / program, *words], env=variables, cwd=place, capture_output=True, text=True, timeout=30
    )


@dataclass
class Row:
    """One argv and what comes of it."""

    name: str
    argv: tuple[str, ...]
    code: int = 0
    out: str | None = None
    err: str = ""
    env: dict[str, str] = field(default_factory=dict)
    site: dict[str, Any] = field(default_factory=dict)


SHOW = ("cat", "/input/file")
ROWS = [
    # 1.1: options
    Row("no command runs sh", (IMAGE,), 0, ""),
    Row("abbreviations", ("--im=docker:test/small:1", "--vol=@/in:/input", "--", *SHOW), 0, "in\n"),
    Row("separate values", ("--image", "docker:test/small:1", "--volume", "@/in:/input", *SHOW), 0, "in\n"),
    Row("short options", ("-i", "docker:test/small:1", "-V@/in:/input", *SHOW), 0, "in\n"),
    Row("ambiguous", ("--v", IMAGE, "true"), 1, USAGE, "shifter: option '--v' is ambiguous"),
    Row("ambiguous env", ("--en", IMAGE, "true"), 1, USAGE, "shifter: option '--en' is ambiguous"),
    Row("stops at the first word", (IMAGE, "echo", "--image=x", "-h"), 0, "--image=x -h\n"),
    Row("two dashes", (IMAGE, "--", "echo", "--", "-n"), 0, "-- -n\n"),
    Row("unknown option", ("--nonesuch", IMAGE, "true"), 1, USAGE, "shifter: unrecognized option"),
    Row("unknown letter", ("-x", IMAGE, "true"), 1, USAGE, "shifter: invalid option"),
    Row("no argument", ("--image",), 1, USAGE, "shifter: option '--image' requires an argument"),
    Row("unwanted argument", ("--clearenv=1", IMAGE, "true"), 1, USAGE, "shifter: option '--clearenv' doesn't"),
    Row("help", ("--help",), 0, USAGE),
    Row("nothing option", ("-n", IMAGE, "echo", "1"), 0, "1\n"),
    Row("no image", ("true",), 1, USAGE, "No image specified"),
    Row("empty image", ("--image=", "true"), 1, USAGE, "Incorrect format for image"),
    Row("type alone", ("--image=docker:", "true"), 1, USAGE, "Incorrect format for image"),
    Row("no type, no default", ("--image=test/small:1", "true"), 1, USAGE, "Incorrect format for image"),
    Row("default type", ("--image=test/small:1", "echo", "1"), 0, "1\n", site={"default_image_type": "docker"}),
    Row("latest", ("--image=docker:other", "echo", "1"), 0, "1\n"),
    Row("last image wins", ("--image=docker:none:1", IMAGE, "echo", "1"), 0, "1\n"),
    Row("by id", (f"--image=id:{ID}", "echo", "1"), 0, "1\n"),
    Row("id needs no gateway", (f"--image=id:{ID}", "echo", "1"), 0, "1\n", site={"gateway": {"down": True}}),
    Row("short id", (f"--image=id:{ID[:10]}", "true"), 1, "", "FAILED to find requested image"),
    Row("unknown image", ("--image=docker:none:1", "true"), 1, USAGE, "FAILED to lookup docker image none:1"),
    Row("gateway down", (IMAGE, "true"), 1, USAGE, "FAILED to lookup", site={"gateway": {"down": True}}),
    Row("entry point not used", (IMAGE, "echo", "1"), 0, "1\n"),
    Row("entry point", (IMAGE, "--entrypoint"), 0, "entry cmd\n"),
    Row("entry point, words", (IMAGE, "--entrypoint", "/bin/ls"), 0, "entry /bin/ls\n"),
    Row("entry point given", (IMAGE, "--entrypoint=/bin/echo", "1"), 0, "1\n"),
    Row("caller's folder", (IMAGE, "pwd"), 0, "@\n"),
    Row("workdir", (IMAGE, "--workdir=/usr", "pwd"), 0, "/usr\n"),
    Row("image's workdir", (IMAGE, "--workdir", "pwd"), 0, "/opt/tool\n"),
    Row("workdir missing", (IMAGE, "--workdir=/none", "pwd"), 0, "/\n", "Failed to switch to working dir: /none"),
    Row("env", (IMAGE, "--env=A=1", "-e", "B=x=y", "sh", "-c", "echo $A $B"), 0, "1 x=y\n"),
    *(
        Row(f"env {text}", (IMAGE, f"--env={text}", "true"), 1, "", "Improperly formatted environment")
        for text in ("NAME", "NAME=", "=V")
    ),
    Row("env file", (IMAGE, "--env-file=@/env", "sh", "-c", "echo $FROM_FILE"), 0, '"kept"\n'),
    Row("bad env file", (IMAGE, "--env-file=@/bad-env", "true"), 1, "", "Failed to process env-file"),
    Row("env file unseen", (IMAGE, "--env-file=/none", "true"), 1, "", "Failed to process env-file"),
    Row("clearenv", (IMAGE, "-E", "sh", "-c", "echo .$CALLER"), 0, ".\n"),
    Row("module", (IMAGE, "--module=mpi", "sh", "-c", "echo $MODULE"), 0, "mpi\n"),
    Row("last module wins", (IMAGE, "-m", "mpi", "-m", "none", "sh", "-c", "echo .$MODULE"), 0, ".\n"),
    Row("unknown module", (IMAGE, "--module=x", "true"), 1, USAGE, "Invalid shifter module selection: x"),
    # generations
    Row("2016: -e is ignored", ("-e", "A=1", *RUN, "sh", "-c", "echo .$A"), 0, ".\n", site={"generation": "16.08"}),
    Row("2016: --env runs its value", (IMAGE, "--env", "A=1", "true"), 127, "", "shifter: A=1: No such", site={"generation": "16.08"}),
    *(
        Row(f"2016 has no {option}", (option, *RUN, "true"), 1, USAGE, "shifter:", site={"generation": "16.08"})
        for option in ("--env-file=x", "--clearenv", "--module=mpi", "--workdir=/", "--env=A=1")
    ),
    *(
        Row(f"{year}: our argv", (IMAGE, "--volume=@/in:/input:ro", "--volume=@/out:/output", "--", "/usr/bin/env",
            "A=1", "sh", "-c", "echo $A; cat /input/file; echo >/output/made"), 0, "1\nin\n", site={"generation": year})
        for year in ("16.08", "18.03", "22.02")
    ),
    # 1.2: volumes
    Row("read-only", (IMAGE, "-V", "@/in:/input:ro", "touch", "/input/x"), 1, "", "touch: cannot touch"),
    Row("flag in capitals", (IMAGE, "-V", "@/in:/input:RO", "touch", "/input/x"), 1, "", "touch: cannot touch"),
    Row("flags with comma", (IMAGE, "-V", "@/in:/input:ro,rec", "true"), 1, USAGE, "Unknown flag: ro,rec"),
    Row("rw", (IMAGE, "-V", "@/in:/input:rw", "true"), 1, USAGE, "Unknown flag: rw"),
    *(
        Row(f"{flag} is refused", (IMAGE, "-V", f"@/in:/input:{flag}", "true"), 1, USAGE, "Invalid Volume Map: @/in")
        for flag in ("rec", "slave", "private")
    ),
    Row("flag twice", (IMAGE, "-V", "@/in:/input:ro:ro", "true"), 1, USAGE, "Invalid Volume Map: @/in:/input:ro:ro, aborting! 3"),
    Row("not for users: code 2", (IMAGE, "-V", "@/in:/input:rec", "true"), 1, USAGE, "Invalid Volume Map: @/in:/input:rec, aborting! 2"),
    Row("two options", (IMAGE, "-V", "@/in:/input", "-V", "@/ab:/input2", "cat", "/input/file", "/input2/file"), 0, "in\nab\n"),
    Row("semicolon", (IMAGE, "-V", "@/in:/input;@/ab:/input2", "cat", "/input2/file"), 0, "ab\n"),
    Row("quoted", (IMAGE, "-V", '"@/in:/input"', *SHOW), 0, "in\n"),
    Row("empty", (IMAGE, "--volume=", "echo", "1"), 0, "1\n"),
    Row("semicolon alone", (IMAGE, "--volume=;", "echo", "1"), 0, "1\n"),
    Row("no target", (IMAGE, "-V", "@/in", "true"), 1, USAGE, "Invalid Volume Map: @/in, aborting! 1"),
    Row("relative source", (IMAGE, "-V", "in:/input", "true"), 1, USAGE, "Invalid Volume Map: in:/input, aborting! 1"),
    Row("relative target", (IMAGE, "-V", "@/in:input", "true"), 1, USAGE, "Invalid Volume Map: @/in:input, aborting! 1"),
    Row("dots", (IMAGE, "-V", "@/a..b:/input", "true"), 1, USAGE, "Invalid Volume Map: @/a..b:/input, aborting! 1"),
    Row("a space is dropped", (IMAGE, "-V", "@/a b:/input", *SHOW), 0, "ab\n"),
    Row("so is an accent", (IMAGE, "-V", "@/éin:/input", *SHOW), 0, "in\n"),
    Row("and a comma, a quote, a line break", (IMAGE, "-V", "@/i,n'\n:/input", *SHOW), 0, "in\n"),
    *(
        Row(f"target {target}", (IMAGE, "-V", f"@/in:{target}", "true"), 1, USAGE, f"Invalid Volume Map: @/in:{target}")
        for target in ("/etc", "/etcetera", "/etc/x", "/var", "/variable", "/opt", "/opt/udiImage", "/opt/udiImage2")
    ),
    Row("target root", (IMAGE, "-V", "@/in:/", "true"), 1, "", "Invalid destination"),
    Row("target /var/tmp", (IMAGE, "-V", "@/in:/var/tmp", "cat", "/var/tmp/file"), 0, "in\n"),
    Row("target /var/tmp in 2016", (IMAGE, "-V", "@/in:/var/tmp", "true"), 1, USAGE, "Invalid Volume Map", site={"generation": "16.08"}),
    Row("target below /opt", (IMAGE, "-V", "@/in:/opt/tool", "cat", "/opt/tool/file"), 0, "in\n"),
    Row("source is a file", (IMAGE, "-V", "@/in/file:/input", "true"), 1, "", 'FAILED "from" location is not directory'),
    Row("source is not there", (IMAGE, "-V", "@/none:/input", "true"), 1, "", "FAILED to find real path"),
    Row("source not brought in", (IMAGE, "-V", "/root:/input", "true"), 1, "", "FAILED to find real path"),
    Row("source of the site", (IMAGE, "-V", "@/scratch/user:/input", "ls", "/input"), 0, "data\n"),
    Row("target is made at the top", (IMAGE, "-V", "@/in:/made", "cat", "/made/file"), 0, "in\n"),
    Row("not below the image", (IMAGE, "-V", "@/in:/data/x", "true"), 1, "", 'FAILED to create volume "to": /data/x'),
    Row("not two at once", (IMAGE, "-V", "@/in:/x/y", "true"), 1, "", 'FAILED to create volume "to": /x/y'),
    Row("not over a site's root", (IMAGE, "-V", "@/in:@/scratch", "true"), 1, "", "Mount request path"),
    Row("over a folder below", (IMAGE, "-V", "@/in:@/scratch/user", "cat", "@/scratch/user/file"), 0, "in\n"),
    Row("the later wins", (IMAGE, "-V", "@/in:/input", "-V", "@/ab:/input", *SHOW), 0, "ab\n"),
    Row("cache of the node", (IMAGE, "-V", "@/in:/cache:perNodeCache=size=1G", "ls", "/cache"), 0, ""),
    Row("cache without size", (IMAGE, "-V", "@/in:/cache:perNodeCache=size=x", "true"), 1, USAGE, "Invalid size for perNodeCache"),
    # 1.3: environment
    Row("caller's variables", (IMAGE, "sh", "-c", "echo $CALLER"), 0, "1\n"),
    Row("image beats caller", (IMAGE, "sh", "-c", "echo $HOME"), 0, "/image-home\n", env={"HOME": "/caller"}),
    Row("empty image value", (IMAGE, "sh", "-c", "echo .$NOTHING"), 0, ".caller\n", env={"NOTHING": "caller"}),
    Row("file beats image", (IMAGE, "--env-file=@/env", "sh", "-c", "echo $BOTH"), 0, "file\n"),
    Row("env beats file", (IMAGE, "--env-file=@/env", "--env=BOTH=env", "sh", "-c", "echo $BOTH"), 0, "env\n"),
    Row("site beats env", (IMAGE, "--env=SHIFTER_RUNTIME=9", "sh", "-c", "echo $SHIFTER_RUNTIME"), 0, "1\n"),
    Row("LD_ and TMPDIR are gone", (IMAGE, "sh", "-c", "echo .$LD_X.$TMPDIR"), 0, "..\n", env={"LD_X": "1", "TMPDIR": "/x"}),
    Row("what Shifter sets", (IMAGE, "sh", "-c", "echo $SHIFTER_IMAGEREQUEST $SHIFTER_IMAGE"), 0, f"docker:test/small:1 {ID}\n"),
    Row("image by variables", ("echo", "1"), 0, "1\n", env={"SHIFTER_IMAGETYPE": "id", "SHIFTER_IMAGE": ID}),
    Row("one of the two is none", ("true",), 1, USAGE, "No image specified", env={"SHIFTER_IMAGE": ID}),
    Row("image by request", ("echo", "1"), 0, "1\n", env={"SHIFTER_IMAGEREQUEST": "docker:test/small:1"}),
    Row("image by Slurm", ("echo", "1"), 0, "1\n", env={"SLURM_SPANK_SHIFTER_IMAGEREQUEST": "docker:test/small:1"}),
    Row("SHIFTER is not read", ("true",), 1, USAGE, "No image specified", env={"SHIFTER": "docker:test/small:1"}),
    Row("volume by variable", (IMAGE, *SHOW), 0, "in\n", env={"SHIFTER_VOLUME": "@/in:/input"}),
    Row("first option discards it", (IMAGE, "-V", "@/ab:/other", *SHOW), 1, "", "cat: /input/file", env={"SHIFTER_VOLUME": "@/in:/input"}),
    Row("module by variable", (IMAGE, "sh", "-c", "echo $MODULE"), 0, "mpi\n", env={"SHIFTER_MODULE": "mpi"}),
    # 1.4: inside
    Row("root is refused", (IMAGE, "true"), 1, "", "Failed to lookup username or attempted to run as root", site={"allow_root": False}),
    Row("root is read-only", (IMAGE, "touch", "/x"), 1, "", "touch: cannot touch '/x': Read-only"),
    Row("image is read-only", (IMAGE, "touch", "/usr/x"), 1, "", "touch: cannot touch '/usr/x': Read-only"),
    Row("tmp is the host's", (IMAGE, "cat", "@/in/file"), 0, "in\n"),
    Row("no capability", (IMAGE, "grep", "CapEff", "/proc/self/status"), 0, "CapEff:\t0000000000000000\n"),
    Row("no new privileges", (IMAGE, "grep", "NoNewPrivs", "/proc/self/status"), 0, "NoNewPrivs:\t1\n"),
    Row("no shifter inside", (IMAGE, "shifter"), 127, "", "shifter: shifter: No such file"),
    Row("standard input", (IMAGE, "cat"), 0, ""),
    # 1.5: exit codes
    *(Row(f"code {code}", (IMAGE, "sh", "-c", f"exit {code}"), code, "") for code in (0, 1, 42)),
    Row("SIGTERM", (IMAGE, "sh", "-c", "kill -15 $$"), -15, ""),
    Row("SIGKILL", (IMAGE, "sh", "-c", "kill -9 $$"), -9, ""),
    Row("not found", (IMAGE, "nonesuch"), 127, "", "shifter: nonesuch: No such file"),
    Row("not executable", (IMAGE, "/plain"), 127, "", "shifter: /plain:"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(place: Path, row: Row) -> None:
    if row.name == "root is refused" and os.getuid():
        pytest.skip("only root is refused")
    if row.name == "source not brought in" and os.getuid():
        row.argv = (IMAGE, "-V", f"{Path.home()}:/input", "true")
    done = run(place, row.argv, row.env, **row.site)
    expected = (row.out or "").replace("@", str(place))
    assert done.returncode == row.code, done.stderr
    assert done.stdout.startswith(USAGE) if row.out == USAGE else done.stdout == expected
    assert done.stderr.startswith(row.err.replace("@", str(place))), done.stderr


def test_note_of_what_is_mounted(place: Path) -> None:
    done = run(place, (IMAGE, "-V", "@/in:/input:ro", "cat", "/var/shifterConfig.json"))
    note = json.loads(done.stdout)
    assert note["identifier"] == ID
    assert note["volMap"] == [{"source": f"{place}/in", "target": "/input", "flags": ["ro"]}]


def test_argv_is_logged(place: Path) -> None:
    run(place, (IMAGE, "echo", "a b", ""), log=f"{place}/log")
    assert json.loads((place / "log").read_text().splitlines()[-1]) == ["shifter", IMAGE, "echo", "a b", ""]


def start(place: Path, *words: str, setup: float) -> subprocess.Popen[bytes]:
    """The stand-in as the head of a process group."""
    table = standin(place / "bin", "shifter", site(place, setup_seconds=setup))
    argv = [table.with_suffix(""), IMAGE, *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, process_group=0)


def ignores(process: int, number: int) -> bool:
    """Whether a process ignores a signal (``proc(5)``, SigIgn)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    return bool(mask >> (number - 1) & 1)


def test_deaf_while_it_sets_up(place: Path) -> None:
    with start(place, "echo", "done", setup=1.0) as child:
        assert wait_until(lambda: ignores(child.pid, signal.SIGTERM), 20)
        os.killpg(child.pid, signal.SIGTERM)
        assert child.communicate(timeout=20) == (b"done\n", None)
    assert child.returncode == 0


def test_signals_reach_the_payload_then(place: Path) -> None:
    with start(place, "sh", "-c", "echo ready; exec sleep 30", setup=0.0) as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        os.killpg(child.pid, signal.SIGTERM)
        assert child.wait(20) == -signal.SIGTERM


def test_outlives_a_parent_that_asked_for_its_death(place: Path) -> None:
    table = standin(place / "bin", "shifter", site(place))
    parent = f"""
import ctypes, os, signal, subprocess
ask = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
child = subprocess.Popen({[str(table.with_suffix("")), IMAGE, "sh", "-c", "echo $$; exec sleep 30"]!r}, preexec_fn=ask)
os.read(0, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    argv = [sys.executable, "-c", parent]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout
        payload = int(child.stdout.readline())
        child.stdin.write(b".")
        child.stdin.close()
        assert child.wait(20) == -signal.SIGKILL
        time.sleep(0.3)
        os.kill(payload, signal.SIGKILL)  # ProcessLookupError if it were gone


STATES = {"docker:new:1": ["INIT", "PULLING", "READY"], "docker:bad:1": ["INIT", "FAILURE"]}
IMAGES = f"{'standin':<10} {'docker':<10} {'READY':<8} {ID[:10]}"
GATEWAY = [
    Row("lookup", ("lookup", "docker:test/small:1"), 0, f"{ID}\n"),
    Row("lookup, latest", ("lookup", "docker:other"), 0, f"{ID}\n"),
    Row("lookup, not ready", ("lookup", "docker:none:1"), 1, ""),
    Row("lookup, gateway down", ("lookup", "docker:other"), 1, "ERROR: failed to contact the image gateway.\n",
        site={"gateway": {"down": True}}),
    Row("pull", ("-v", "pull", "docker:new:1"), 0, "READY"),
    Row("a pull that fails exits with 0", ("-v", "pull", "docker:bad:1"), 0, "FAILURE"),
    Row("pull, unknown", ("pull", "docker:none:1"), 1, ""),
    Row("pullnb, pending", ("pullnb", "docker:new:1"), 0, "INIT"),
    Row("pullnb, done", ("pullnb", "docker:done:1"), 1, "READY"),
    Row("images", ("images",), 0, IMAGES),
    Row("-u is none", ("-u", "me", "pull", "docker:new:1"), 1, USAGE, "shifterimg: invalid option -- 'u'"),
    Row("--user", ("--user", "me", "lookup", "docker:other"), 0, f"{ID}\n"),
    Row("no mode", (), 1, USAGE, "Must specify mode"),
    Row("bad mode", ("fetch", "docker:other"), 1, USAGE, "Invalid mode specified"),
    Row("bad image", ("lookup", "docker:"), 1, USAGE, "FAILED to parse image descriptor"),
    Row("help", ("-h",), 0, USAGE),
]  # fmt: skip


@pytest.mark.parametrize("row", GATEWAY, ids=lambda row: row.name)
def test_gateway(place: Path, row: Row) -> None:
    more = {"gateway": {"pulls": STATES | {"docker:done:1": ["READY"]}}} | row.site
    done = run(place, row.argv, program="shifterimg", **more)
    assert done.returncode == row.code, done.stderr
    assert done.stderr.startswith(row.err)
    assert row.out is not None
    if row.out in ("READY", "FAILURE", "INIT", USAGE, IMAGES):
        assert row.out in done.stdout
    else:
        assert done.stdout == row.out


def test_quiet_pull_rewrites_its_line(place: Path) -> None:
    table = standin(place / "bin", "shifterimg", site(place, gateway={"pulls": STATES}))
    done = subprocess.run([table.with_suffix(""), "pull", "docker:new:1"], capture_output=True, timeout=30)
    assert done.returncode == 0
    assert done.stdout.count(b"\r\x1b[2K") == 3
