# SPDX-License-Identifier: BSD-3-Clause
"""What may be typed, and what is refused before anything is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffrun.errors import ConfigError, UsageError
from diffrun.request import Request, overrides

BOTH = {"science": "230", "template": "250"}

HOSTILE_VISITS = [
    "", " ", "230 ", " 230", "0230", "+230", "-1", "230.0", "1e3", "0x10", "2_30", "23O", "230;ls", "$(id)",
    "230\n", "../230", "..", "230..232", "230^231", "٢٣٠", "²", "230\x00", "None", "9" * 30, "\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_VISITS)
@pytest.mark.parametrize("side", ["science", "template"])
def test_a_visit_is_a_plain_number(side: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"--{side}"):
        Request.parse({**BOTH, side: text})


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    try:
        visit = Request.parse({**BOTH, "science": text}).science
    except UsageError:
        return
    assert str(visit) == text


def test_both_visits_are_needed() -> None:
    with pytest.raises(UsageError, match=r"--template is missing; give both visits"):
        Request.parse({"science": "230"})


@pytest.mark.parametrize(("typed", "meant"), [("R22", "2,2"), ("2,2", "2,2")])
def test_rafts_and_sensors_in_both_spellings(typed: str, meant: str) -> None:
    assert Request.parse({**BOTH, "raft": typed}).raft == meant
    assert Request.parse({**BOTH, "sensor": typed.replace("R", "S")}).sensor == meant


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("raft", "22"),
        ("raft", "R222"),
        ("sensor", "S1"),
        ("sensor", "../S11"),
        ("filter", "r/g"),
        ("filter", ".."),
    ],
)
def test_impossible_ids_are_refused_with_the_form_expected(option: str, text: str) -> None:
    with pytest.raises(UsageError, match=rf"^--{option} .* cannot be understood; write it as"):
        Request.parse({**BOTH, option: text})


@pytest.mark.parametrize("text", ["doMerge", "=3", "doMerge=", "a b=1", "1a=2", "", "--id=3", "a..b=1"])
def test_an_override_has_a_key_and_a_value(text: str) -> None:
    with pytest.raises(ConfigError, match="is not KEY=VALUE"):
        overrides([text])


def test_overrides_keep_their_order_and_their_text() -> None:
    texts = ["doMerge=False", "subtract.kernel['AL'].alardNGauss=3", "a.b=x=y\nz"]
    assert overrides(texts) == tuple(texts)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", "1025", "", "01"])
def test_jobs_are_a_number(text: str) -> None:
    with pytest.raises(UsageError, match="--jobs"):
        Request.parse({**BOTH, "jobs": text})


def test_a_config_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a file"):
        Request.parse({**BOTH, "configfile": [str(tmp_path / "none.py")]})


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_a_path_that_no_file_can_have(text: str) -> None:
    with pytest.raises(UsageError, match="is not a path"):
        Request.parse({**BOTH, "output": text})


def test_the_name_of_the_run() -> None:
    assert Request.parse(BOTH).name == "230-250"
    chosen = {"raft": "R22", "sensor": "S11", "filter": "r", "template_filter": "g"}
    assert Request.parse({**BOTH, **chosen}).name == "230r-250g-R22-S11"
