# SPDX-License-Identifier: BSD-3-Clause
"""The Shifter runtime: its argv, what it refuses, and whole runs through Shifter or its stand-in."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from containerprobe import (
    COPY,
    HOSTILE,
    job,
    launcher,
    left,
    products,
    run,
    stop_and_count,
    wait_until,
    whole_run,
)
from hostimage import IDENTITY, shifter_site, standin, tree
from hypothesis import given
from hypothesis import strategies as st

from diffrun import sites
from diffrun.errors import ConfigError, UsageError
from diffrun.runtimes import ENGINE, Job
from diffrun.runtimes.image import Image
from diffrun.runtimes.shifter import Container, Layout, resolve, words

IMAGE = Image("diffrun-engine:1", f"sha256:{IDENTITY}")
LAYOUT = Layout("docker", "/input", "/output", (("DIFFRUN_LIFELINE", "1"),))
needs_bubblewrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="apt-get install bubblewrap")
WAIT = "echo 'the program waits'; exec sleep {}"


def a_job(*reads: str, config: str = "/global/homes/u/my config.py") -> Job:
    """A run at NERSC."""
    arguments = (reads[0], "--id", "visit=230", "--output", "/pscratch/u/.run.tmp", "--configfile", config)
    return Job(ENGINE, arguments, tuple(map(Path, reads)), Path("/pscratch/u/.run.tmp"), (Path(config),))


def test_argv() -> None:
    assert words(a_job("/global/cscratch1/sd/u/repo"), IMAGE, LAYOUT) == (
        f"--image=id:{IDENTITY}",
        "--volume=/global/cscratch1/sd/u/repo:/input:ro",
        "--volume=/pscratch/u/.run.tmp:/output",
        "--",
        "/usr/bin/env",
        "DIFFRUN_LIFELINE=1",
        "/usr/local/bin/diffrun-entry",
        "imageDifference.py",
        "/input",
        "--id",
        "visit=230",
        "--output",
        "/output",
        "--configfile",
        "/global/homes/u/my config.py",
    )


def test_the_site_of_2016() -> None:
    site = sites.read("cori")
    assert (site["program"], site["runtime"]) == ("stack", "shifter")
    argv = words(a_job(site["repo"]), Image("diffrun-stack", IMAGE.id), LAYOUT)
    assert argv[:7] == (
        f"--image=id:{IDENTITY}",
        "--volume=/global/cscratch1/sd/desc/twinkles/work/4/output:/input:ro",
        "--volume=/pscratch/u/.run.tmp:/output",
        "--",
        "/usr/bin/env",
        "DIFFRUN_LIFELINE=1",
        "/usr/local/bin/diffrun-entry",
    )


def test_repository_whose_links_lead_out_keeps_its_path() -> None:
    argv = words(a_job("/global/u/repo", "/global/u/parent"), IMAGE, LAYOUT)
    assert [word for word in argv if word.startswith("--volume")] == ["--volume=/pscratch/u/.run.tmp:/output"]
    assert argv[argv.index("imageDifference.py") + 1] == "/global/u/repo"


def test_links_on_the_way_to_a_volume_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    repository, output = tmp_path / "link" / "repo", tmp_path / "link" / "out"
    wanted = Job(ENGINE, (str(repository), "--output", str(output)), (repository,), output)
    argv = words(wanted, IMAGE, LAYOUT)
    assert argv[1:3] == (
        f"--volume={tmp_path}/real/repo:/input:ro",
        f"--volume={tmp_path}/real/out:/output",
    )
    assert argv[-3:] == ("/input", "--output", "/output")


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_no_volume_has_a_letter_that_shifter_drops(name: str) -> None:
    try:
        argv = words(a_job(f"/global/u/{name}"), IMAGE, LAYOUT)
    except UsageError:
        return
    volume = next(word for word in argv if word.endswith(":/input:ro"))
    assert volume == f"--volume=/global/u/{name}:/input:ro"
    assert all(letter.isascii() and (letter.isalnum() or letter in "_.+-/") for letter in f"/global/u/{name}")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_by_name(name: str, tmp_path: Path) -> None:
    if name in ("-rf", "--help"):
        assert f"--volume={tmp_path}/repo/{name}:/input:ro" in words(job(tmp_path, name), IMAGE, LAYOUT)
        return
    with pytest.raises(UsageError, match="cannot be mounted by Shifter"):
        words(job(tmp_path, name), IMAGE, LAYOUT)


def test_the_hosts_variables_stay_out() -> None:
    host = {"PATH": "/none", "SHIFTER_VOLUME": "/a:/b", "SLURM_SPANK_SHIFTER_IMAGE": "x", "PYTHONPATH": "/p"}
    command = Container(IMAGE, LAYOUT).command(a_job("/global/u/repo"), host)
    assert dict(command.environment) == {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "TZ": "UTC"}
    assert command.argv[0] == "shifter"
    assert command.lifeline
    assert dict(command.seen) == {"/input": "/global/u/repo"}


def test_the_layout_that_comes_with_diffrun() -> None:
    from diffrun.runtimes.image import containers

    assert Layout.read(containers() / "shifter.yaml") == LAYOUT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "type: docker\n",
        "type: docker\ninput: /data/input\noutput: /output\nenvironment: {A: b}\n",
        "type: docker\ninput: /input\noutput: /elsewhere\nenvironment: {A: b}\n",
        "type: docker\ninput: /input\noutput: /output\nenvironment: {A: ''}\n",
        "type: docker\ninput: /input\noutput: /output\nenvironment: {a b: c}\n",
        "type: !!python/object/apply:os.system [id]\ninput: /input\noutput: /output\nenvironment: {}\n",
    ],
)
def test_bad_layouts_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "shifter.yaml").write_text(text)
    with pytest.raises(ConfigError):
        Layout.read(tmp_path / "shifter.yaml")


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the gateway's client, on PATH; its site file."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return standin(tmp_path / "bin", "shifterimg", shifter_site({}, []))


def test_lookup(gateway: Path) -> None:
    assert resolve("diffrun-engine:1") == IMAGE
    assert resolve("docker:diffrun-engine:1").id == IMAGE.id


def test_an_id_needs_no_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")
    assert resolve(f"id:{IDENTITY}").id == IMAGE.id
    with pytest.raises(UsageError, match="not an id"):
        resolve("id:5b5b")


def test_image_that_is_not_ready(gateway: Path) -> None:
    with pytest.raises(UsageError, match=r"no image docker:none:1.*") as caught:
        resolve("none:1")
    assert "shifterimg pull docker:none:1" in str(caught.value)


def test_gateway_that_is_down(gateway: Path) -> None:
    site = json.loads(gateway.read_text()) | {"gateway": {"down": True}}
    gateway.write_text(json.dumps(site))
    with pytest.raises(UsageError, match="failed to contact the image gateway"):
        resolve("diffrun-engine:1")


def test_no_shifter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")
    with pytest.raises(UsageError, match="no command shifterimg"):
        resolve("diffrun-engine:1")


def install(folder: Path, image: dict[str, str], *visible: Path) -> dict[str, str]:
    """An environment with both stand-ins on PATH, and all that could leak into a container."""
    for name in ("shifter", "shifterimg"):
        standin(folder, name, shifter_site(image, list(visible)))
    leaks = {"SHIFTER_VOLUME": "/none:/none", "SHIFTER_IMAGE": "x", "PYTHONHOME": "", "LANG": "de_DE"}
    return {**os.environ, **leaks, "PATH": f"{folder}:{os.environ['PATH']}"}


@needs_bubblewrap
def test_what_the_program_sees(tmp_path: Path) -> None:
    env = install(tmp_path / "bin", tree(tmp_path / "image", COPY))
    command = Container(IMAGE).command(job(tmp_path, "a+b_c.d-e"), env)
    status, said = run(command)
    assert (status, said[0]) == (0, "diffrun-entry: imageDifference.py")
    assert {"CapEff: 0000000000000000", "CapPrm: 0000000000000000", "NoNewPrivs: 1"} <= set(said)
    assert not [line for line in said if line.startswith("wrote")]
    assert (tmp_path / "out" / "a+b_c.d-e" / "copy").read_text() == "a+b_c.d-e"
    seen = next(line for line in said if line.startswith("variables:")).split()
    assert not {"SHIFTER_VOLUME", "PYTHONPATH", "LANG", "PYTHONHOME"} & set(seen)


@needs_bubblewrap
def test_the_same_bytes_as_native(tmp_path: Path, subset: Path) -> None:
    if shutil.which("shifter"):
        if "DIFFRUN_TEST_SHIFTER_IMAGE" not in os.environ:
            pytest.skip("Shifter is here: name an image of the engine in DIFFRUN_TEST_SHIFTER_IMAGE")
        env, image = dict(os.environ), os.environ["DIFFRUN_TEST_SHIFTER_IMAGE"]
    else:
        env, image = install(tmp_path / "bin", tree(tmp_path / "image"), subset, tmp_path), "diffrun-engine:1"
    native = whole_run(os.environ, tmp_path / "native", subset)
    shifter = whole_run(env, tmp_path / "shifter", subset, "--runtime", "shifter", "--image", image)
    assert native.endswith("status 0"), native
    assert shifter.endswith("status 0"), shifter
    assert products(tmp_path / "shifter") == products(tmp_path / "native")
    assert len(products(tmp_path / "native")) >= 8
    assert (tmp_path / "shifter" / "_parent").readlink() == (tmp_path / "native" / "_parent").readlink()
    record = json.loads((tmp_path / "shifter" / "record.json").read_text())
    assert IDENTITY in json.dumps(record)


@needs_bubblewrap
@pytest.mark.skipif(shutil.which("shifter") is not None, reason="only the stand-in can be told to fail")
def test_failure_before_the_program_is_shifters(tmp_path: Path, subset: Path) -> None:
    env = install(tmp_path / "bin", tree(tmp_path / "image"), subset, tmp_path)
    said = whole_run(env, tmp_path / "run", subset, "--runtime", "shifter", "--image", f"id:{'0' * 64}")
    assert "shifter did not start the program: FAILED to find requested image." in said
    assert not said.endswith("status 0")
    assert not (tmp_path / "run").exists()


@needs_bubblewrap
@pytest.mark.parametrize(
    ("number", "seconds"),
    [(signal.SIGKILL, 2), (signal.SIGTERM, 12), (signal.SIGINT, 12), (signal.SIGHUP, 12)],
)
def test_nothing_outlives_the_launcher(tmp_path: Path, subset: Path, number: int, seconds: float) -> None:
    mark = f"61.{os.getpid()}{number:02d}"
    env = install(tmp_path / "bin", tree(tmp_path / "image", WAIT.format(mark)), subset, tmp_path)
    child = launcher(
        "--repo", str(subset), "--science", "230", "--template", "195529", "--output", str(tmp_path / "run"),
        "--runtime", "shifter", "--image", "diffrun-engine:1", "-v", env=env,
    )  # fmt: skip
    assert stop_and_count(child, mark, number, seconds) == []
    assert wait_until(lambda: not left(str(tmp_path / "bin")), 2)
    assert not (tmp_path / "run").exists()
