# SPDX-License-Identifier: BSD-3-Clause
"""docs/cases.md names each case once, and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cases.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (U\d\d) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
LEFT_OUT = {2, 7, 9, 14, 23, 30, 33, 37, 48, 51, 62, 71, 77}  # numbers that no report has


def test_each_case_has_a_row():
    assert [row[0] for row in ROWS] == [f"U{n:02d}" for n in range(1, 85) if n not in LEFT_OUT]


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)) - {"tests/cases/benchpair.py"})
)
def test_each_test_that_it_names_is_there(name):
    path, _, function = name.partition("::")
    assert re.search(rf"^def {function}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=[row[0].lower() for row in ROWS])
def test_each_case_names_a_test_or_says_why_there_is_none(row):
    assert (row[3] == "-") == ("tests/" not in row[3])
