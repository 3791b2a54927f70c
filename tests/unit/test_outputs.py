# SPDX-License-Identifier: BSD-3-Clause
"""What the launcher makes sure of before it believes a program."""

from pathlib import Path

import numpy as np
import pytest

from diffrun import outputs
from diffrun.errors import OutputError
from diffrun.files.afw.catalog import Catalog, Field, write_catalog
from diffrun.repository.dataid import SOURCE_BITS, DataId

SCIENCE = DataId(230, "r", "2,2", "1,1")
FIRST = 988882665473  # of visit 230, R22 S11, by obs_lsstSim's rule


def left_by_a_program(folder: Path, first_id: int) -> Path:
    names = ("id", "coord_ra", "coord_dec", "parent")
    fields = tuple(Field(name, "Angle" if "coord" in name else "L") for name in names)
    columns = {
        "id": first_id + np.arange(3),
        "coord_ra": np.full(3, 0.9),
        "coord_dec": np.full(3, -0.4),
        "parent": np.zeros(3, np.int64),
    }
    products = folder / "deepDiff/v230-fr/R22"
    products.mkdir(parents=True)
    write_catalog(products / "diaSrc-S11.fits", Catalog(fields, columns, {}, {}))
    (products / "metadata-S11.boost").write_text("")
    (folder / "config").mkdir()
    switches = ("doWriteSubtractedExp", "doWriteMatchedExp")
    (folder / "config/deepDiff.py").write_text("".join(f"config.{name}=False\n" for name in switches))
    return folder


def test_the_sources_of_the_exposure_are_believed(tmp_path: Path) -> None:
    assert (SCIENCE.ccd_exposure_id << SOURCE_BITS) + 1 == FIRST
    names = [each.name for each in outputs.check(left_by_a_program(tmp_path / "run", FIRST), [SCIENCE])]
    assert "deepDiff/v230-fr/R22/diaSrc-S11.fits" in names


def test_the_sources_of_another_exposure_are_refused(tmp_path: Path) -> None:
    of_visit_250 = (DataId(250, "g", "2,2", "1,1").ccd_exposure_id << SOURCE_BITS) + 1
    folder = left_by_a_program(tmp_path / "run", of_visit_250)
    with pytest.raises(OutputError, match=r"diaSrc-S11\.fits with sources of another exposure than .*230"):
        outputs.check(folder, [SCIENCE])
