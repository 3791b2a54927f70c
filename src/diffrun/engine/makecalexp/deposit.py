# SPDX-License-Identifier: BSD-3-Clause
"""A small Gen2 repository that holds what was made."""

from __future__ import annotations

import json
from pathlib import Path

from diffrun.engine.makecalexp.make import Calexp
from diffrun.engine.makecalexp.sources import schema
from diffrun.files.afw.background import write_background
from diffrun.files.afw.catalog import write_catalog
from diffrun.files.afw.writer import write_exposure
from diffrun.files.atomic import write_bytes
from diffrun.files.fits import mapped
from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative
from diffrun.repository.register import MAPPER, enter


def write(root: Path, data_id: DataId, made: Calexp) -> list[Path]:
    """Write the calexp, its background and ``src``, and enter the visit into the repository's registry.

    The repository is made if it is not there; a visit that it has is replaced.

    Raises
    ------
    diffrun.errors.OutputError
        If it cannot be written.
    """
    names = {name: root / relative(name, data_id) for name in ("calexp", "calexpBackground", "src")}
    facts = names["calexp"].with_suffix(".json")
    write_bytes(root / "_mapper", MAPPER)
    write_catalog(root / relative("src_schema"), schema())
    write_background(names["calexpBackground"], made.background)
    write_catalog(names["src"], made.sources)
    if made.original:
        with mapped(made.original) as (_, content), memoryview(content) as view:
            write_bytes(names["calexp"], view)
    else:
        write_exposure(names["calexp"], made.exposure)
    write_bytes(facts, (json.dumps(made.facts, indent=2) + "\n").encode())
    enter(root, data_id, made.exposure.exposure_time)
    return [*names.values(), facts]
