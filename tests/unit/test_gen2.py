# SPDX-License-Identifier: BSD-3-Clause
"""Repositories made by hand after the rules of the Gen2 butler, and one of the stack."""

import sqlite3
from pathlib import Path

import pytest

from diffrun.errors import OutputError, RepositoryError, UsageError
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository, create_output

ROWS = [
    (230, "r", "2,2", "1,1"),
    (230, "r", "2,2", "1,2"),
    (250, "g", "2,2", "1,1"),
    (195529, "r", "2,2", "1,1"),
]


def make(root: Path, rows: list[tuple[object, ...]] | None = None) -> Path:
    """A repository as ``ingestSimImages.py`` leaves it, without any image."""
    root.mkdir(parents=True)
    (root / "_mapper").write_text("lsst.obs.lsstSim.LsstSimMapper\n")
    registry = sqlite3.connect(root / "registry.sqlite3")
    registry.execute(
        "create table raw (id integer primary key autoincrement, sensor text, visit int, snap int,"
        " raft text, filter text, channel text)"
    )
    registry.executemany(
        "insert into raw (visit, filter, raft, sensor, snap, channel) values (?,?,?,?,0,'0,0')",
        ROWS if rows is None else rows,
    )
    registry.commit()
    registry.close()
    return root


def test_a_visit_is_completed_from_the_registry(tmp_path: Path) -> None:
    repository = Repository.open(make(tmp_path / "input"))
    assert repository.select(visit=250) == [DataId(250, "g", "2,2", "1,1")]
    assert [data_id.sensor for data_id in repository.select(visit=230)] == ["1,1", "1,2"]
    assert repository.visits() == {230: "r", 250: "g", 195529: "r"}


def test_four_keys_need_no_registry(tmp_path: Path) -> None:
    root = make(tmp_path / "input")
    (root / "registry.sqlite3").unlink()
    repository = Repository.open(root)
    assert repository.select(visit=1, filter="r", raft="2,2", sensor="1,1") == [DataId(1, "r", "2,2", "1,1")]
    with pytest.raises(RepositoryError, match=r"no registry\.sqlite3"):
        repository.select(visit=1)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"visit": 231}, r"no visit 231 .* 230 \(r\), 250 \(g\), 195529 \(r\)"),
        ({"visit": 250, "filter": "r"}, "visit 250 has no filter 'r'; it has g"),
        (
            {"visit": 230, "raft": "2,3", "sensor": "1,1"},
            "no raft '2,3' sensor '1,1'; it has R22 S11, R22 S12",
        ),
        ({"filter": "y"}, "has no filter 'y'; it has g, r"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(
    tmp_path: Path, known: dict[str, int | str], message: str
) -> None:
    with pytest.raises(RepositoryError, match=message):
        Repository.open(make(tmp_path / "input")).select(**known)


def test_unknown_keys_never_reach_the_registry(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'1=1; drop table raw'"):
        Repository.open(make(tmp_path / "input")).select(**{"1=1; drop table raw": 1})


def test_datasets_are_found_through_the_parents(tmp_path: Path) -> None:
    data_id = DataId(230, "r", "2,2", "1,1")
    raw, processed, output = make(tmp_path / "a b'c"), tmp_path / "processed", tmp_path / "deep" / "output"
    create_output(processed, raw)
    create_output(output, processed)
    calexp = processed / "calexp/v230-fr/R22/S11.fits"
    calexp.parent.mkdir(parents=True)
    calexp.write_bytes(b"")
    repository = Repository.open(output)
    assert repository.chain == (output, processed, raw)
    assert repository.require("calexp", data_id) == calexp
    assert repository.find("src", data_id) is None
    assert repository.visits()[250] == "g"
    with pytest.raises(RepositoryError, match=r"no src of .*src/v230-fr/R22/S11\.fits"):
        repository.require("src", data_id)


def test_the_registry_is_not_touched(tmp_path: Path) -> None:
    root = make(tmp_path / "input")
    before = {path.name: path.stat().st_mtime_ns for path in root.iterdir()}
    Repository.open(root).select(visit=230)
    assert {path.name: path.stat().st_mtime_ns for path in root.iterdir()} == before


def test_what_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="is not a folder"):
        Repository.open(tmp_path / "missing")
    with pytest.raises(RepositoryError, match="no _mapper"):
        Repository.open(tmp_path)
    (tmp_path / "_mapper").write_text("lsst.obs.subaru.HscMapper")
    with pytest.raises(RepositoryError, match="only LsstSimMapper"):
        Repository.open(tmp_path)


def test_parents_that_lead_nowhere(tmp_path: Path) -> None:
    root = make(tmp_path / "input")
    (root / "_parent").symlink_to(root)
    with pytest.raises(RepositoryError, match="circle"):
        Repository.open(root)
    (root / "_parent").unlink()
    (root / "_parent").symlink_to(tmp_path / "gone")
    with pytest.raises(RepositoryError, match="gone"):
        Repository.open(root)


def test_damaged_registries(tmp_path: Path) -> None:
    root = make(tmp_path / "input")
    (root / "registry.sqlite3").write_bytes(b"not a database, but long enough to be looked at" * 99)
    with pytest.raises(RepositoryError, match="cannot read the registry"):
        Repository.open(root).visits()
    outside = make(tmp_path / "outside", [(230, "../../x", "2,2", "1,1")])
    with pytest.raises(RepositoryError, match="impossible data id"):
        Repository.open(outside).visits()
    nothing = make(tmp_path / "nothing", [])
    with pytest.raises(RepositoryError, match="empty"):
        Repository.open(nothing).select(visit=1)


def test_an_output_belongs_to_one_input(tmp_path: Path) -> None:
    first, second, output = make(tmp_path / "first"), make(tmp_path / "second"), tmp_path / "output"
    create_output(output, first)
    create_output(output, first)
    assert (output / "_parent").readlink() == first
    with pytest.raises(OutputError, match="already exists and differs"):
        create_output(output, second)
    create_output(first, first)
    assert not (first / "_parent").is_symlink()


def test_an_output_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the output repository"):
        create_output(tmp_path / "file" / "output", tmp_path)


def test_the_stacks_own_repository(shared_data: Path) -> None:
    repository = Repository.open(shared_data / "stripe82_repo")
    assert repository.visits() == {4192: "r", 6377: "r", 14192: "r"}
    (data_id,) = repository.select(visit=4192)
    assert repository.require("calexp", data_id).stat().st_size > 1_000_000
