# SPDX-License-Identifier: BSD-3-Clause
"""The run that every case is compared with."""

from __future__ import annotations

import pytest
from benchpair import Difference, clean_pair, difference


@pytest.fixture(scope="session")
def clean() -> Difference:
    """The difference of the unaltered pair: both transients and nothing else."""
    return difference(*clean_pair())
