# SPDX-License-Identifier: BSD-3-Clause
"""What every test may ask for: the real files, and the Twinkles subset unpacked once.

On the build machine (``CI=true``) a skipped test fails, so that nothing is left out unseen. The one
skip allowed there is that of the real files, which are not part of the repository.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

# Read once, when NumPy is imported: the workers of a parallel run would fight for the processors.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

NO_SHARED_DATA = "the shared data are absent"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files (Stripe 82, afw's own): ``DIFFRUN_SHARED_DATA``, or beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("DIFFRUN_SHARED_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"{NO_SHARED_DATA}: no folder {folder}; set DIFFRUN_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def subset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Twinkles subset, a Gen2 repository, unpacked once for all tests of this process."""
    from diffrun.twinkles import unpack

    return unpack(tmp_path_factory.mktemp("cache"))


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip on the build machine, unless it is for want of the shared data."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
    if NO_SHARED_DATA not in reason:
        report.outcome = "failed"
        report.longrepr = f"a skip counts as a failure here: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at the outcome of each test."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at the modules that skip themselves as a whole."""
    report = yield
    _refuse_skip(report)
    return report
