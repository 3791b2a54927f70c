# SPDX-License-Identifier: BSD-3-Clause
"""The script of a job, without any Slurm: what it asks for, where each value comes from, what is refused."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurmdesk import Desk, desk

from diffrun.batch import resources, script
from diffrun.errors import ConfigError, UsageError

IDENTITY = "5b" * 32


@pytest.fixture
def away(tmp_path: Path, batch_source: Path) -> Desk:
    """A desk where there is no Slurm."""
    return desk(tmp_path, batch_source, None)


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("#SBATCH ") for line in done.stdout.splitlines() if line.startswith("#SBATCH")]


def command(text: str) -> list[str]:
    """The words that the script becomes."""
    return shlex.split(text[text.index("exec env") :].replace("\\\n", ""))


def test_what_perlmutter_is_asked_for(away: Desk) -> None:
    shown = away.submit("--site", "perlmutter", "--account", "m1727", "--dry-run")
    out = away.place / "out"
    assert lines(shown) == [
        "--job-name=run",
        "--account=m1727",
        "--qos=shared",
        "--constraint=cpu",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=1",
        "--mem=4G",
        "--time=00:30:00",
        "--signal=B:TERM@60",
        "--requeue",
        "--open-mode=append",
        "--export=NONE",
        f"--chdir={out}",
        f"--output={out}/run.slurm-%j.log",
    ]
    words = command(shown.stdout)
    assert words[words.index("--science") :] == [
        "--science", "230", "--template", "195529", "--filter", "r", "--template-filter", "r",
        "--raft", "2,2", "--sensor", "1,1", "--repo", str(away.place / "repo"), "--site", "perlmutter",
        "--program", "engine", "--runtime", "native", "--jobs", "1", "--output", str(out / "run"),
    ]  # fmt: skip
    assert not out.exists()


def test_image_and_volume_under_shifter(away: Desk) -> None:
    image = ("--runtime", "shifter", "--image", f"id:{IDENTITY}")
    shown = away.submit("--site", "perlmutter", "--account", "m1727", "--dry-run", *image)
    assert lines(shown)[-2:] == [f"--image=id:{IDENTITY}", f"--volume={away.place}/repo:/input:ro"]
    assert f"--image id:{IDENTITY}" in shown.stdout
    shown = away.submit("--account", "m1727", "--dry-run", *image)
    assert not any(line.startswith(("--image", "--volume")) for line in lines(shown))


def test_cori_is_history(away: Desk) -> None:
    image = ("--image", f"id:{IDENTITY}", "--account", "m1727")
    shown = away.submit("--site", "cori", "--dry-run", *image)
    assert {"--constraint=haswell", "--partition=shared", "--licenses=SCRATCH"} <= set(lines(shown))
    refused = away.submit("--site", "cori", *image)
    assert refused.returncode == 2 and "retired since 2023-05-31" in refused.stderr


def test_an_account_is_asked_for_by_name(away: Desk) -> None:
    refused = away.submit("--site", "perlmutter")
    assert refused.returncode == 2
    assert "a job at the site perlmutter needs --account; give it, or set DIFFRUN_ACCOUNT" in refused.stderr
    assert "--account=m1" in lines(away.submit("--site", "perlmutter", "--dry-run", SBATCH_ACCOUNT="m1"))
    both = {"SBATCH_ACCOUNT": "m1", "DIFFRUN_ACCOUNT": "m2"}
    assert "--account=m2" in lines(away.submit("--site", "perlmutter", "--dry-run", **both))
    words = ("--site", "perlmutter", "--dry-run", "--account", "m3")
    assert "--account=m3" in lines(away.submit(*words, **both))


def test_without_slurm_the_script_is_written(away: Desk) -> None:
    done = away.submit()
    path = away.run().with_name("run.sbatch")
    assert done.returncode == 7
    assert f"error: there is no sbatch here; the script is {path}; submit it where Slurm is" in done.stderr
    assert path.read_text().startswith("#!/bin/bash\n# diffrun ")


def test_a_site_as_a_table(away: Desk) -> None:
    shown = away.diffrun("site", "show", "perlmutter").stdout
    assert "batch account        must be given: --account  (site perlmutter)" in shown
    assert "batch qos            shared  (site perlmutter)" in shown
    assert "batch grace          60  (default)" in shown
    shown = away.diffrun("site", "show", "perlmutter", SBATCH_ACCOUNT="m1").stdout
    assert "batch account        m1  (SBATCH_ACCOUNT)" in shown
    listed = away.diffrun("site", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["cori", "laptop", "perlmutter", "slurm"]
    assert "retired since 2023-05-31" in away.diffrun("site", "show", "cori").stdout


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"time": "30 min"}, "--time '30 min' is not a time"),
        ({"time": "00:70:00"}, "is not a time"),
        ({"time": "0:00:00"}, "no time at all"),
        ({"time": "1"}, "leaves nothing before the last 60 s"),
        ({"memory": "4 GB"}, "is not an amount of memory"),
        ({"account": "m1\n#SBATCH --uid=0"}, "is not a word"),
        ({"qos": "a b"}, "is not a word"),
        ({"partition": "$(id)"}, "is not a word"),
    ],
)
def test_what_no_job_can_ask_for(typed: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resources.resolve("slurm", typed, {})


def test_times() -> None:
    assert [resources.seconds("--time", text) for text in ("5", "01:30:00", "1-00:00:01")] == [
        300,
        5400,
        86401,
    ]
    assert [resources.clock(each) for each in (300, 5400, 86401)] == ["00:05:00", "01:30:00", "1-00:00:01"]


def test_a_site_may_leave_only_what_can_be_given(tmp_path: Path) -> None:
    site = tmp_path / "here.yaml"
    site.write_text("batch:\n  needs: [colour]\n")
    with pytest.raises(ConfigError, match="needs is"):
        resources.needed(str(site))


@given(st.text(max_size=40))
def test_no_text_leaves_its_line(text: str) -> None:
    try:
        said = script.quoted(text)
    except UsageError:
        return
    assert "\n" not in said and "\\" not in text
    assert said == text or said == '"' + text.replace('"', '\\"') + '"'
