# SPDX-License-Identifier: BSD-3-Clause
"""Paths against the policy of obs_lsstSim 12.1 and the files that the stack wrote."""

from pathlib import Path

import pytest

from diffrun.errors import UsageError
from diffrun.repository.dataid import DataId
from diffrun.repository.paths import TEMPLATES, relative

RECIPE = DataId(230, "r", "2,2", "1,1")


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("calexp", "calexp/v230-fr/R22/S11.fits"),
        ("calexpBackground", "calexp/v230-fr/R22/bkgd-S11.fits"),
        ("src", "src/v230-fr/R22/S11.fits"),
        ("deepDiff_differenceExp", "deepDiff/v230-fr/R22/diffexp-S11.fits"),
        ("deepDiff_matchedExp", "deepDiff/v230-fr/R22/matchexp-S11.fits"),
        ("deepDiff_diaSrc", "deepDiff/v230-fr/R22/diaSrc-S11.fits"),
        ("deepDiff_metadata", "deepDiff/v230-fr/R22/metadata-S11.boost"),
        ("deepDiff_config", "config/deepDiff.py"),
        ("deepDiff_diaSrc_schema", "schema/deepDiff_diaSrc.fits"),
        ("goodSeeingDiff_diaSrc_schema", "schema/goodSeeingDiffSrc.fits"),
        ("goodSeeingDiff_differenceExp", "goodSeeingDiff/v230-fr/R22/diffexp-S11.fits"),
    ],
)
def test_recipe_paths(dataset: str, expected: str) -> None:
    assert str(relative(dataset, RECIPE)) == expected


def test_an_eimage() -> None:
    path = relative("eimage", DataId(840, "r", "2,2", "1,1"), snap=0)
    assert str(path) == "eimage/v840-fr/E000/R22/eimage_840_R22_S11_E000.fits.gz"


def test_half_sensors_and_channels_lose_their_commas() -> None:
    path = relative("raw", DataId(1, "u", "0,4", "0,0,A"), snap=1, channel="1,7")
    assert str(path) == "raw/v1-fu/E001/R04/S00A/imsim_1_R04_S00A_C17_E001.fits.gz"


def test_every_template_formats() -> None:
    for dataset in TEMPLATES:
        path = relative(dataset, RECIPE, snap=0, channel="0,0", tract=0, patch="0,0", subfilter=0)
        assert "%" not in str(path)
        assert not path.is_absolute()


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match="no dataset 'calxep'"):
        relative("calxep", RECIPE)
    with pytest.raises(UsageError, match="needs the key 'visit'"):
        relative("calexp")


def test_the_stacks_own_repository(shared_data: Path) -> None:
    root = shared_data / "stripe82_repo"
    for visit in (4192, 6377, 14192):
        for dataset in ("calexp", "calexpBackground", "src"):
            assert (root / relative(dataset, DataId(visit, "r", "2,2", "1,1"))).is_file()
