# SPDX-License-Identifier: BSD-3-Clause
"""The two ends of one difference: its inputs from the repository, its products into the output."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from diffrun.engine import blocks, candidates, metadata, overlap
from diffrun.engine.config import ImageDifferenceConfig
from diffrun.engine.task import Inputs
from diffrun.errors import DataError, RepositoryError
from diffrun.files.afw import photocalib
from diffrun.files.afw.background import read_background
from diffrun.files.afw.catalog import Catalog, read_catalog, write_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.reader import ExposureSummary, Part, read_exposure, read_summary
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
    summary = read_summary(repository.require("calexp", science))
    exposure = _calexp(repository, science, config.doAddCalexpBackground)
    logging.getLogger("imageDifference.getTemplate").info("Fetching calexp (%s) as template.", template)
    reach = config.subtract.kernel.active.kernelSizeMax // 2
    beneath = partial(overlap.beneath, science=summary, reach=reach)
    reference = _calexp(repository, template, config.getTemplate.doAddCalexpBackground, beneath)
    if science.visit == template.visit:
        _LOG.warning("Science image and template are the same visit, %d", science.visit)
    if science.filter != template.filter:
        _LOG.info(
            "The science image is in filter %s, the template in filter %s: colours will pass for changes",
            science.filter, template.filter,
        )  # fmt: skip
    sources = _sources(repository, science) if config.doSelectSources else None
    return Inputs(summary, exposure, reference, sources, science.ccd_exposure_id << SOURCE_BITS)


def _calexp(
    repository: Repository,
    data_id: DataId,
    add_background: bool,
    part: Callable[[ExposureSummary], Part] = lambda _summary: None,
) -> Callable[[], Exposure]:
    """What reads a calexp, with the filter of its data id as the butler hands it out, and with its sky."""
    path = repository.require("calexp", data_id)
    background = repository.require("calexpBackground", data_id) if add_background else None

    told = False

    def load() -> Exposure:
        nonlocal told
        taken: list[tuple[tuple[int, int], Part]] = []

        def take(summary: ExposureSummary) -> Part:
            taken.append((summary.shape, part(summary)))
            return taken[0][1]

        exposure, filled = blocks.marked(read_exposure(path, take).replace(filter=data_id.filter))
        if filled and not told:
            _LOG.warning(
                "%d pixels of visit %d are blocks of one value: taken as NO_DATA", filled, data_id.visit
            )
            told = True
        if background is not None:
            read_background(background).added_to(exposure.image, *taken[0])
        return photocalib.flattened(exposure)

    return load


def _sources(repository: Repository, data_id: DataId) -> Catalog | None:
    try:
        path = repository.require("src", data_id)
    except RepositoryError:
        _LOG.warning("Src product does not exist; running detection, measurement, selection")
        return None
    sources = read_catalog(path)
    lacking = candidates.lacking(sources)
    if lacking:
        raise DataError(
            f"{path} has no {' and no '.join(lacking)}",
            "process the visit again, or add -c doSelectSources=False to detect its stars",
        )
    return sources


class Writer:
    """Writes products while the task goes on; if one cannot be written, or the task fails, none stays.

    One thread writes one product after the other, so that no more than one is held twice.

    Parameters
    ----------
    output : `pathlib.Path`
        Root of the output repository.
    science : `DataId`
    config : `ImageDifferenceConfig`
        Says which products are wanted.
    """

    def __init__(self, output: Path, science: DataId, config: ImageDifferenceConfig) -> None:
        self._output, self._science = output, science
        self._prefix = f"{config.coaddName}Diff"
        self._wanted = {
            "matchedExp": config.doWriteMatchedExp,
            "diaSrc": config.doWriteSources,
            "differenceExp": config.doWriteSubtractedExp,
            "kernel": config.doWriteSubtractedExp,
            "metadata": True,
        }
        self._thread = ThreadPoolExecutor(1)
        self._begun: list[Future[None]] = []
        self._written: list[Path] = []

    def __enter__(self) -> Writer:
        return self

    def __call__(self, name: str, product: Any) -> None:
        """Take a product; `OutputError` if an earlier one could not be written."""
        for one in self._begun:
            if one.done():
                one.result()
        if self._wanted[name]:
            self._begun.append(self._thread.submit(self._put, name, product))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all is written; `OutputError` if a product could not be."""
        try:
            if error is None:
                _LOG.info("Writing products of %s", self._science)
                for one in self._begun:
                    one.result()
        except BaseException as failure:
            error = failure
            raise
        finally:
            self._thread.shutdown(cancel_futures=error is not None)
            if error is not None:
                for path in self._written:
                    with contextlib.suppress(OSError):
                        path.unlink()

    def _put(self, name: str, product: Any) -> None:
        path = self._output / relative(f"{self._prefix}_{name}", self._science)
        if isinstance(product, Exposure):
            write_exposure(path, product, missing=("NO_DATA",))
            if name == "differenceExp":  # the last of them
                _LOG.info("Images written of %s", self._science)
        elif isinstance(product, Catalog):
            write_catalog(path, product)
        elif isinstance(product, LinearCombinationKernel):
            write_kernel(path, product)
        else:
            write_bytes(path, metadata.to_boost(product))
        self._written.append(path)
