# SPDX-License-Identifier: BSD-3-Clause
"""Data ids against the numbers and rules of obs_lsstSim 12.1."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffrun.errors import UsageError
from diffrun.repository.dataid import DataId, parse_id, parse_raft, parse_sensor, parse_visit

HOSTILE = [
    "..",
    "230..",
    "0230",
    "1e3",
    "-1",
    "+1",
    " 230",
    "230\n",
    "2_3",
    "²",
    "٣",
    "",
    "230;ls",
    "$(id)",
    "9" * 40,
]


@pytest.mark.parametrize(("visit", "expected"), [(230, 117884), (250, 128124)])
def test_ccd_exposure_id(visit: int, expected: int) -> None:
    assert DataId(visit, "r", "2,2", "1,1").ccd_exposure_id == expected


def test_first_dia_source_of_the_recipe() -> None:
    assert (DataId(230, "r", "2,2", "1,1").ccd_exposure_id << 23) + 1 == 988882665473


def test_names() -> None:
    data_id = DataId(230, "r", "2,2", "1,1")
    assert data_id.detector == "R:2,2 S:1,1"
    assert str(data_id) == "{'visit': 230, 'filter': 'r', 'raft': '2,2', 'sensor': '1,1'}"


@pytest.mark.parametrize(
    "typed",
    [
        [("raft", "2,2"), ("sensor", "1,1")],
        [("raft", "R22"), ("sensor", "S11")],
        [("raftName", "R22"), ("detectorName", "S11")],
        [("raft", "2,2"), ("ccd", "1,1")],
        [("detectorName", "R22_S11")],
        [("ccdName", "R:2,2 S:1,1")],
        [("raft", "R22"), ("ccdName", "R:2,2 S:1,1")],
    ],
)
def test_every_spelling_gives_the_same_id(typed: list[tuple[str, str]]) -> None:
    assert parse_id(typed) == {"raft": "2,2", "sensor": "1,1"}


@pytest.mark.parametrize("typed", ["22", "2;2", "R2,2", "2,22", "S22", "2,2\n", "Ｒ22"])
def test_raft_of_another_form_is_refused_with_the_form_expected(typed: str) -> None:
    with pytest.raises(UsageError, match="write it as raft=2,2 or raft=R22"):
        parse_raft(typed)


@pytest.mark.parametrize(("typed", "expected"), [("1,1,A", "1,1,A"), ("S40B", "4,0,B"), ("0,2", "0,2")])
def test_sensor_forms(typed: str, expected: str) -> None:
    assert parse_sensor(typed) == expected


@pytest.mark.parametrize("text", HOSTILE)
def test_a_visit_is_a_plain_number(text: str) -> None:
    with pytest.raises(UsageError):
        parse_visit(text)


@given(st.text(max_size=20))
def test_no_text_becomes_a_visit_unless_it_reads_the_same_back(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert str(parse_visit(text)) == text


@pytest.mark.parametrize("key", ["tract", "patch", "snap", "vist"])
def test_an_unknown_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(
        UsageError, match=rf"'{key}'; valid keys are: \['filter', 'raft', 'sensor', 'visit'\]"
    ):
        parse_id([(key, "0")])


def test_two_values_for_one_key_are_refused() -> None:
    with pytest.raises(UsageError, match="raft is given twice"):
        parse_id([("raft", "2,3"), ("ccdName", "R:2,2 S:1,1")])


@pytest.mark.parametrize("name", ["../r", "", "r/..", ".r", "r\n"])
def test_a_filter_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(UsageError):
        DataId(230, name, "2,2", "1,1")
