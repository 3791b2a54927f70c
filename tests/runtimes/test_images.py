# SPDX-License-Identifier: BSD-3-Clause
"""Both images: what is in them, who may run them, and that they end when their caller does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

ENTRY = "/usr/local/bin/diffrun-entry"
#: What Shifter mounts over, or a site has there.
SHIFTER = ("tmp", "var/tmp", "home", "root", "global", "scratch", "pscratch", "project", "dvs_ro", "cvmfs")
WITHOUT_BACKGROUND = ("--config", "doAddCalexpBackground=False", "getTemplate.doAddCalexpBackground=False")
SLEEP = "print('up', flush=True); time.sleep(60)"
HARDENED = (
    "run", "--rm", "--init", "--network=none", "--read-only", "--cap-drop=ALL", "--user=1500:1500",
    "--security-opt=no-new-privileges", "--tmpfs=/tmp:rw,noexec,nosuid,nodev",
)  # fmt: skip


@pytest.fixture(params=["engine", "stack"])
def program(request):
    return request.param


@pytest.fixture
def image(program, request):
    return request.getfixturevalue(f"{program}_image")


@pytest.fixture
def diffrun(docker, data):
    def run(*words):
        argv = [sys.executable, "-m", "diffrun.cli", *words]
        environment = docker.environment | {"XDG_DATA_HOME": str(data)}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)

    return run


def test_check_holds_for_what_build_made(program, image, diffrun):
    done = diffrun("image", "check", program, "--engine", "docker")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"docker has {image}"
    assert ("makeCalexp.py --help: ok" in done.stdout) == (program == "engine")
    assert "kernelSourcesFromRef=False" in done.stdout
    assert "7 files, all whole" in done.stdout


def test_check_holds_in_podman(podman_environment, podman_engine_image):
    argv = [sys.executable, "-m", "diffrun.cli", "image", "check", "engine", "--engine", "podman"]
    done = subprocess.run(
        [*argv, "--image", podman_engine_image], env=podman_environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "7 files, all whole" in done.stdout


def test_list_shows_both(engine_image, stack_image, diffrun):
    lines = diffrun("image", "list").stdout.splitlines()
    for line, name, sha256 in zip(lines, ("engine", "stack"), (engine_image, stack_image), strict=True):
        assert line.startswith(f"diffrun-{name}@{sha256}  in docker  ")


def test_labels_and_user(docker, program, image):
    config = json.loads(docker.run("image", "inspect", image).stdout)[0]["Config"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"diffrun-{program}"
    assert labels["org.diffrun.program"] == program
    assert labels["org.opencontainers.image.licenses"]
    assert config["User"] == "65534:65534"
    assert not config["Volumes"]
    assert not [each for each in config["Env"] if each.startswith("HOME=")]


def test_nothing_is_where_shifter_mounts_and_all_is_readable(docker, image, base_image):
    script = f"""
        cd /; find {" ".join(SHIFTER)} -mindepth 1 -type f -newer /etc/hostname 2>/dev/null
        find /opt /usr/local/bin/diffrun-entry ! -type l ! -perm -o+r -o -type d ! -perm -o+x
        find /opt /usr/local -perm /6000
        ls -d /input /output /config
    """
    words = ("--entrypoint=/bin/sh", "--user=0:0", image, "-c", script)
    assert docker.run("run", "--rm", "--network=none", *words).stdout.split() == [
        "/config",
        "/input",
        "/output",
    ]


def test_first_line_tells_that_the_program_was_reached(docker, image):
    done = docker.run(*HARDENED, image, "imageDifference.py", "--help")
    assert done.stderr.splitlines()[0] == "diffrun-entry: imageDifference.py"
    assert done.stdout.startswith("usage: imageDifference.py input [options]")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no program named"),
        (("no-such-program",), "this image has no program no-such-program"),
        (
            ("imageDifference.py", "/input", "--output", "/etc/x"),
            "--output /etc/x is outside /output and /tmp",
        ),
        (("imageDifference.py", "/input", "--output=/output/../etc"), "is outside /output and /tmp"),
        (("imageDifference.py", "/input", "--outp", "/outputs"), "is outside /output and /tmp"),
        (("imageDifference.py", "/input", "--rerun", "a"), "--rerun writes into the repository"),
    ],
)
def test_entry_refuses(docker, engine_image, words, said):
    done = docker.run(*HARDENED, f"--entrypoint={ENTRY}", engine_image, *words, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("diffrun-entry: error: ")


def test_entry_passes_arguments_status_and_signals(docker, engine_image):
    script = "import sys; print(sys.argv[1:]); sys.exit(7)"
    words = ["a b", "", "c'd\"", "$HOME", "*", "e\nf", "é"]
    done = docker.run(*HARDENED, engine_image, "python3", "-c", script, *words, check=False)
    assert done.returncode == 7
    assert done.stdout.strip() == str(words)
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert docker.run(*HARDENED, engine_image, "python3", "-c", killed, check=False).returncode == 137


def test_stop_is_clean(docker, engine_image):
    script = f"import signal, sys, time; signal.signal(15, lambda *_: sys.exit(5)); {SLEEP}"
    argv = ["/usr/bin/docker", *HARDENED, "--name=stopped", engine_image, "python3", "-c", script]
    with subprocess.Popen(argv, env=docker.environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "up\n"
        start = time.monotonic()
        docker.run("stop", "stopped")
        assert running.wait(10) == 5
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("deaf", [False, True])
def test_all_ends_with_standard_input(docker, engine_image, deaf):
    """A program that hears SIGTERM, or does not, is gone soon after its caller is."""
    heard = "signal.SIG_IGN" if deaf else "signal.SIG_DFL"
    script = f"import signal, time; signal.signal(15, {heard}); {SLEEP}"
    options = ("-i", "--env=DIFFRUN_LIFELINE=1", f"--name=lifeline-{deaf}")
    argv = ["/usr/bin/docker", *HARDENED, *options, engine_image, "python3", "-c", script]
    running = subprocess.Popen(argv, env=docker.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert running.stdout.readline() == b"up\n"
        start = time.monotonic()
        running.kill()
        while docker.run("ps", "-q", "--filter", f"name=lifeline-{deaf}").stdout:
            assert time.monotonic() - start < 2
            time.sleep(0.05)
    finally:
        running.kill()
        running.communicate()


def test_compiled_kernels_are_found_by_any_user(docker, engine_image, pair, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    os.chown(output, 1500, 1500)
    mounts = (f"--mount=type=bind,source={pair},target=/input,readonly", f"--volume={output}:/output")
    words = ("/input", "--id", "visit=230", "--templateId", "visit=195529", "--output", "/output")
    retarget = "/opt/diffrun/lib/diffrun/configs/diffimconfig.py"
    program = ("imageDifference.py", *words, "--configfile", retarget, *WITHOUT_BACKGROUND)
    done = docker.run(*HARDENED, *mounts, "--env=NUMBA_DEBUG_CACHE=1", engine_image, *program)
    assert "data loaded from" in done.stdout + done.stderr
    assert "data saved to" not in done.stdout + done.stderr
    assert {path.lstat().st_uid for path in output.rglob("*")} == {1500}


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    from diffrun.twinkles import cutout

    root = tmp_path_factory.mktemp("pair") / "repo"
    cutout.write(root, tmp_path_factory.mktemp("cache"))
    for path in (root, *root.parents):
        if path.stat().st_uid == os.getuid() and path.parts[1:2] == ("tmp",) and len(path.parts) > 2:
            path.chmod(0o755)
    return root


def test_light_curves_are_made_in_the_image(docker, engine_image, pair, tmp_path):
    """The tables of a campaign, which was done outside, are those that are made outside."""
    campaign = tmp_path / "campaign"
    (tmp_path / "pairs.csv").write_text("science,template\n230,195529\n")
    words = ["run", "--pairs", tmp_path / "pairs.csv", "--repo", pair, "--output", campaign]
    words += ["--workers", "1", "--config", WITHOUT_BACKGROUND[1], "--config", WITHOUT_BACKGROUND[2]]
    tables = []
    for line in (words, ["lightcurves", campaign]):
        argv = [sys.executable, "-m", "diffrun.cli", "campaign", *map(str, line)]
        assert subprocess.run(argv, capture_output=True, timeout=120).returncode == 0
    for where in ("outside", "inside"):
        if where == "inside":
            shutil.rmtree(campaign / "report")
            subprocess.run(["chown", "-R", "1500:1500", campaign], check=True)
            mounts = [f"--volume={campaign}:{campaign}", f"--volume={pair}:{pair}:ro"]
            line = ("diffrun", "campaign", "lightcurves", str(campaign), "--workers", "2")
            docker.run(*HARDENED, *mounts, engine_image, *line)
        tables.append(Table.read(campaign / "report/lightcurves.csv", format="ascii.csv").filled())
    assert len(tables[0]) > 1 and tables[0].colnames == tables[1].colnames
    for name in tables[0].colnames:
        outside, inside = (table[name] for table in tables)
        assert list(inside) == list(outside) if outside.dtype.kind == "U" else np.allclose(inside, outside)


def test_stack_has_the_manners_of_12_1(docker, stack_image, pair, tmp_path):
    """A template that is not there: exit status 0, no difference, and a word in the log."""
    output = tmp_path / "output"
    output.mkdir()
    os.chown(output, 1500, 1500)
    mounts = (f"--mount=type=bind,source={pair},target=/input,readonly", f"--volume={output}:/output")
    words = ("/input", "--id", "visit=230", "--templateId", "visit=250", "--output", "/output")
    program = (
        "imageDifference.py",
        *words,
        "--configfile",
        "/opt/diffrun/diffimconfig.py",
        *WITHOUT_BACKGROUND,
    )
    done = docker.run(*HARDENED, *mounts, stack_image, *program)
    assert done.returncode == 0
    assert "FATAL: Failed on dataId=" in done.stderr
    assert "v250-fr" in done.stderr
    assert not list(output.rglob("diffexp*"))


def test_stack_image_lacks_nothing_but_says_what_it_changed(docker, stack_image):
    shown = docker.run("run", "--rm", "--network=none", "--entrypoint=cat", stack_image,
                       "/opt/diffrun/obs_lsstSim/config/imageDifference.py").stdout  # fmt: skip
    assert shown.splitlines()[-3:] == [
        "config.doDecorrelation = True",
        "# diffrun: no reference catalogue is in this image",
        "config.kernelSourcesFromRef=False",
    ]
    assert (
        Path(__file__).parents[2].joinpath("configs/diffimconfig.py").read_text()
        == docker.run(
            "run", "--rm", "--network=none", "--entrypoint=cat", stack_image, "/opt/diffrun/diffimconfig.py"
        ).stdout
    )
