# SPDX-License-Identifier: BSD-3-Clause
"""The parts of a campaign: its pairs, its ledger, the causes of failures, what stands out."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as arrow
import pytest
from astropy.table import Table

from diffrun.campaign import causes, pairs, report
from diffrun.campaign.ledger import DONE, FAILED, STARTED, Entry, Ledger
from diffrun.campaign.standing import Standing, run_folder
from diffrun.errors import UsageError
from diffrun.record import READABLE, RECORD
from diffrun.request import Request


def test_pairs_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(
        "science,template,raft,sensor\n# a note\n230,195529,R22,S11\n250,195549,,\n230,195529,R22,S11\n"
    )
    found = pairs.read(path)
    assert [pair.name for pair in found] == ["230-195529-R22-S11", "250-195549"]
    pairs.write(path, found)
    assert pairs.read(path) == found


@pytest.mark.parametrize("delimiter", [" ", ","])
def test_pairs_of_astropys_ecsv(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "pairs.ecsv"
    table = Table({"science": [230, 185595], "template": [195529, 195529], "filter": ["r", "r"]})
    table.write(path, format="ascii.ecsv", delimiter=delimiter)
    assert [(p.science, p.template, p.filter) for p in pairs.read(path)] == [
        (230, 195529, "r"),
        (185595, 195529, "r"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no line"),
        ("science,reference\n1,2\n", "columns science, reference"),
        ("science,template\n230,x\n", "line 2: --template 'x' is not a visit"),
        ("science,template\n\n230\n", "line 3 has 1 values"),
        (f"science,template\n230,{'1' * 200_000}\n", "is no table: field larger than"),
        ("science,template,sensor\n230,1,11\n", "--sensor '11' cannot be understood"),
    ],
)
def test_pairs_that_cannot_be_meant(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(UsageError) as refusal:
        pairs.read(path)
    assert words in str(refusal.value)


def test_pairs_of_visits() -> None:
    found = pairs.of_visits({"science": "230^185595^195529", "template": "195529", "raft": "R22"})
    assert [pair.name for pair in found] == ["230-195529-R22", "185595-195529-R22"]


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add(Entry("1-2", STARTED))
    with ledger.path.open("ab") as file:
        file.write(b'{"pair": "1-2", "state": "do')
    ledger.add(Entry("3-4", DONE, digest="sha256:0"))
    ledger.add(Entry("3-4", FAILED, cause="killed"))
    latest = ledger.latest()
    assert latest["1-2"].state == STARTED and latest["3-4"].state == DONE
    assert ledger.path.read_bytes().count(b"\n") == 4


def test_many_processes_write_one_ledger(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from diffrun.campaign.ledger import Entry, Ledger\n"
        "for n in range(100): Ledger(pathlib.Path(sys.argv[1])).add(Entry(f'{sys.argv[2]}-{n}', 'done'))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)]) for n in range(3)]
    assert [each.wait() for each in running] == [0, 0, 0]
    assert len(Ledger(tmp_path).latest()) == 300


@pytest.mark.parametrize(
    ("status", "message", "cause"),
    [
        (-9, "", "killed"),
        (137, "", "killed"),
        (143, "", "stopped"),
        (1, "the engine was ended by SIGKILL", "killed"),
        (1, "the engine ended with 1", "fault"),
        (2, "unknown key", "configuration"),
        (3, "no visit 999", "not there"),
        (4, "2 kernel candidates in the field, 3 needed", "no stars"),
        (4, "the template does not overlap the science image at all", "no overlap"),
        (4, "damaged file", "bad data"),
        (5, "no room to make out", "disk full"),
        (1, "the engine ended with 1: OSError: [Errno 28] No space left on device", "disk full"),
        (5, "cannot make out", "output"),
    ],
)
def test_causes(status: int, message: str, cause: str) -> None:
    assert causes.of(status, message) == cause


def test_what_stands_out() -> None:
    rows = [
        {"pair": f"{n}-0", "band": "r", "noise_ratio": 1 + 0.002 * (n % 3), "sources": 40} for n in range(20)
    ]
    rows += [{"pair": f"{n}-1", "band": "g", "noise_ratio": 2.0, "sources": None} for n in range(4)]
    assert report.outliers(rows) == {}
    rows[7]["noise_ratio"] = 1.3
    rows[8]["sources"] = 400
    assert report.outliers(rows) == {
        7: ["noise_ratio 1.3, median in r 1.002"],
        8: ["sources 400, median in r 40"],
    }


def test_table_of_pairs_says_what_stands_out(tmp_path: Path) -> None:
    """Records of six pairs with two sensors each, one noisy, one without sources, and a pair that failed."""
    done = tuple(Request.parse({"science": str(n), "template": "9"}) for n in range(1, 7))
    for pair in done:
        place = [{"visit": pair.science, "filter": "r", "raft": "2,2", "sensor": f"1,{k}"} for k in (1, 2)]
        noise = [1.0, 1.4 if pair.science == 3 else 1.01]
        sources = [None if pair.science == 5 else {"total": 7}, {"total": 7}]
        summaries = {
            str(k): {"science": place[k], "noise_ratio": noise[k], "sources": sources[k]} for k in (0, 1)
        }
        record = {
            "schema": READABLE[-1],
            "plan": {"science": place, "template": place},
            "summaries": summaries,
        }
        folder = run_folder(tmp_path, pair)
        folder.mkdir(parents=True)
        (folder / RECORD).write_text(json.dumps(record))
    lost = Request.parse({"science": "7", "template": "9"})
    entry = Entry(lost.name, FAILED, cause="no stars", message="none")
    table, catalogue, told, notes = report.write(Standing(tmp_path, 7, done, ((lost, entry),), ()))
    assert (catalogue, notes) == (None, [])
    assert told == ["3-9 R22 S12: noise_ratio 1.4, median in r 1.005"]
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 13
    assert [(row["pair"], row["sensor"]) for row in rows if row["stands_out"]] == [("3-9", "1,2")]
    assert (rows[12]["state"], rows[12]["cause"], rows[12]["sources"]) == ("failed", "no stars", "")
    same = arrow.read_table(table.with_suffix(".parquet")).to_pylist()
    assert [row["sources"] for row in same] == [*[7] * 8, None, *[7] * 3, None]
    assert same[5]["stands_out"] == rows[5]["stands_out"] == "noise_ratio 1.4, median in r 1.005"
