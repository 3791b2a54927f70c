# SPDX-License-Identifier: BSD-3-Clause
"""The two ends of one difference: its inputs from the repository, its products into the output."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from diffrun.engine import metadata
from diffrun.engine.config import ImageDifferenceConfig
from diffrun.engine.task import Inputs, Result
from diffrun.errors import RepositoryError
from diffrun.files.afw.background import read_background
from diffrun.files.afw.catalog import Catalog, read_catalog, write_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import read_exposure
from diffrun.files.afw.writer import write_exposure, write_kernel
from diffrun.files.atomic import write_bytes
from diffrun.repository.dataid import SOURCE_BITS, DataId
from diffrun.repository.gen2 import Repository
from diffrun.repository.paths import relative

_LOG = logging.getLogger("imageDifference")


def read(repository: Repository, science: DataId, template: DataId, config: ImageDifferenceConfig) -> Inputs:
    """Read what one difference is made from.

    Parameters
    ----------
    repository : `Repository`
    science, template : `DataId`
    config : `ImageDifferenceConfig`
        Says whether backgrounds are added back and whether ``src`` is used.

    Raises
    ------
    RepositoryError
        If a file is not there; only ``src`` may be missing.
    DataError
        If a file is damaged.
    """
    exposure = _calexp(repository, science, config.doAddCalexpBackground)
    logging.getLogger("imageDifference.getTemplate").info("Fetching calexp (%s) as template.", template)
    reference = _calexp(repository, template, config.getTemplate.doAddCalexpBackground)
    if science.visit == template.visit:
        _LOG.warning("Science image and template are the same visit, %d", science.visit)
    if science.filter != template.filter:
        _LOG.info(
            "The science image is in filter %s, the template in filter %s: colours will pass for changes",
            science.filter, template.filter,
        )  # fmt: skip
    sources = _sources(repository, science) if config.doSelectSources else None
    return Inputs(exposure, reference, sources, science.ccd_exposure_id << SOURCE_BITS)


def _calexp(repository: Repository, data_id: DataId, add_background: bool) -> Exposure:
    """A calexp with the filter of its data id, as the butler hands it out, and with its sky if asked for."""
    path = repository.require("calexp", data_id)
    background = repository.require("calexpBackground", data_id) if add_background else None
    exposure = read_exposure(path).replace(filter=data_id.filter)
    if background is None:
        return exposure
    return exposure.replace(image=exposure.image + read_background(background).image(exposure.shape))


def _sources(repository: Repository, data_id: DataId) -> Catalog | None:
    try:
        return read_catalog(repository.require("src", data_id))
    except RepositoryError:
        _LOG.warning("Src product does not exist; running detection, measurement, selection")
        return None


def write(output: Path, science: DataId, result: Result, config: ImageDifferenceConfig) -> list[Path]:
    """Write the products in the stack's order; if one cannot be written, none of them stays.

    Returns
    -------
    paths : `list` [`pathlib.Path`]

    Raises
    ------
    OutputError
        If a product cannot be written.
    """
    prefix = f"{config.coaddName}Diff"
    products: list[tuple[bool, str, Callable[[Path], None]]] = [
        (config.doWriteMatchedExp, "matchedExp", lambda path: write_exposure(path, result.matched)),
        (config.doWriteSources, "diaSrc", lambda path: write_catalog(path, result.sources)),
        (config.doWriteSubtractedExp, "differenceExp", lambda path: write_exposure(path, result.difference)),
        (config.doWriteSubtractedExp, "kernel", lambda path: write_kernel(path, result.kernel)),
        (True, "metadata", lambda path: write_bytes(path, metadata.to_boost(result.metadata))),
    ]
    written: list[Path] = []
    _LOG.info("Writing products of %s", science)
    try:
        for wanted, name, put in products:
            if wanted:
                path = output / relative(f"{prefix}_{name}", science)
                put(path)
                written.append(path)
    except BaseException:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    return written
