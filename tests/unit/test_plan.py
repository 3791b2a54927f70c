# SPDX-License-Identifier: BSD-3-Clause
"""A plan decides everything, changes nothing, and has a digest that follows the products."""

from __future__ import annotations

import hashlib
import shlex
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from diffrun.errors import DiffrunError, RepositoryError, UsageError
from diffrun.plan import Plan, make
from diffrun.request import Request
from diffrun.runtimes.image import Image
from diffrun.settings import resolve

ROWS = [
    (230, "r", "2,2", "1,1"),
    (230, "r", "2,2", "1,2"),
    (250, "g", "2,2", "1,1"),
    (250, "g", "2,2", "1,2"),
    (260, "i", "2,2", "1,1"),
]


def make_repository(root: Path) -> Path:
    root.mkdir(parents=True)
    (root / "_mapper").write_text("lsst.obs.lsstSim.LsstSimMapper\n")
    registry = sqlite3.connect(root / "registry.sqlite3")
    registry.execute("create table raw (visit int, filter text, raft text, sensor text)")
    registry.executemany("insert into raw values (?, ?, ?, ?)", ROWS)
    registry.commit()
    registry.close()
    for visit, band, raft, sensor in ROWS:
        for dataset in ("calexp", "src"):
            name = f"v{visit}-f{band}/R{raft.replace(',', '')}/S{sensor.replace(',', '')}.fits"
            path = root / dataset / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{dataset} {name}".encode())
    return root


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo")


def plan(repo: Path, environment: dict[str, str] | None = None, **more: object) -> Plan:
    request = replace(Request(230, 250, sensor="1,1", repo=repo), **more)  # type: ignore[arg-type]
    return make(request, resolve(request, environment or {}))


def test_everything_is_decided_and_nothing_done(repo: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    made = plan(repo, output=tmp_path / "out")
    assert [str(data_id) for data_id in made.science] == [
        "{'visit': 230, 'filter': 'r', 'raft': '2,2', 'sensor': '1,1'}"
    ]
    assert made.template[0].filter == "g"
    assert made.output == tmp_path / "out"
    assert sorted(tmp_path.rglob("*")) == before
    path = repo / "calexp/v230-fr/R22/S11.fits"
    sums = {item.name: item.sha256 for item in made.inputs}
    assert sums["calexp/v230-fr/R22/S11.fits"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(sums) == {
        f"{dataset}/{visit}/R22/S11.fits" for dataset in ("calexp", "src") for visit in ("v230-fr", "v250-fg")
    }


def test_calexps_are_made_where_the_program_is_that_makes_them(repo: Path) -> None:
    made = plan(repo)
    assert made.maker.name == "native"
    boxed = replace(made, runtime="docker", image=Image("engine", "sha256:" + "0" * 64))
    assert boxed.maker.name == "docker"
    assert replace(boxed, program="stack").maker.name == "native"


def test_the_digest_follows_what_decides_the_products(repo: Path, tmp_path: Path) -> None:
    first = plan(repo).digest
    assert first.startswith("sha256:")
    assert plan(repo, output=tmp_path / "x", jobs=2).digest == first
    assert plan(make_repository(tmp_path / "elsewhere")).digest == first
    (tmp_path / "c.py").write_text("config.doMerge=True\n")
    others = [
        plan(repo, template=260),
        plan(repo, config=("doMerge=False",)),
        plan(repo, configfile=(tmp_path / "c.py",)),
    ]
    (repo / "src/v230-fr/R22/S11.fits").write_bytes(b"other")
    others.append(plan(repo))
    assert len({first, *(other.digest for other in others)}) == 5


def test_all_sensors_of_a_visit_each_with_its_template(repo: Path) -> None:
    made = plan(repo, sensor=None)
    assert [data_id.sensor for data_id in made.science] == ["1,1", "1,2"]
    assert [data_id.sensor for data_id in made.template] == ["1,1", "1,2"]
    assert str(made).count("--id") == 2
    assert str(made).count("--templateId") == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"science": 231}, r"no visit 231 .*nearest of its 3 visits: 230 \(r\)"),
        ({"template": 99}, "no visit 99"),
        ({"sensor": "2,2"}, "visit 230 has no sensor '2,2'; it has R22 S11, R22 S12"),
        ({"raft": "0,1"}, "visit 230 has no raft '0,1'"),
        ({"filter": "z"}, "visit 230 has no filter 'z'; it has r"),
        ({"template_filter": "r"}, "visit 250 has no .*filter 'r'"),
        ({"template": 260, "sensor": "1,2"}, "visit 260 has no .*'1,2'; it has R22 S11"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(
    repo: Path, more: dict[str, object], words: str
) -> None:
    with pytest.raises(RepositoryError, match=words):
        plan(repo, **more)


def test_a_visit_without_its_calexp(repo: Path) -> None:
    (repo / "calexp/v250-fg/R22/S11.fits").unlink()
    with pytest.raises(RepositoryError, match=r"no calexp.*v250-fg/R22/S11\.fits"):
        plan(repo)


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="is not a folder"):
        plan(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RepositoryError, match="no _mapper"):
        plan(tmp_path / "empty")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DIFFRUN_PROGRAM": "stack"}, "--program stack runs in an image only; give --runtime docker"),
        ({"DIFFRUN_IMAGE": "diffrun-engine"}, "--runtime native takes no --image"),
        ({"DIFFRUN_RUNTIME": "apptainer"}, "apptainer is not available|no image is known"),
        ({"DIFFRUN_RUNTIME": "shifter"}, "shifter is not available|no image is known"),
        ({"DIFFRUN_SITE": "cori"}, "shifter is not available|no image is known for the program stack"),
    ],
)
def test_what_this_release_cannot_do_is_refused_by_name(
    repo: Path, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        plan(repo, environment)


def test_an_output_inside_the_repository(repo: Path) -> None:
    for output in (repo, repo / "deep/er"):
        with pytest.raises(UsageError, match="lies in the repository"):
            plan(repo, output=output)


def test_a_configfile_that_is_too_large(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("#" * 70000)
    with pytest.raises(DiffrunError, match="larger than 64 KiB"):
        plan(repo, configfile=(tmp_path / "large.py",))


def test_the_command_in_the_words_of_the_stack(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("config.doMerge=True\n")
    made = plan(repo, output=tmp_path / "out", config=("a=b c",), configfile=(tmp_path / "my.py",), jobs=2)
    words = shlex.split(str(made))
    start = words.index("diffrun.engine")
    recipe = words[words.index("--configfile") + 1]
    assert Path(recipe).name == "diffimconfig.py"
    assert words[start + 1 :] == [
        str(repo), "--id", "visit=230", "filter=r", "raft=2,2", "sensor=1,1",
        "--templateId", "visit=250", "filter=g", "--output", str(tmp_path / "out"),
        "--configfile", recipe, "--configfile", str(tmp_path / "my.py"), "--config", "a=b c", "-j", "2",
    ]  # fmt: skip
