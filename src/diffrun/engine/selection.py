# SPDX-License-Identifier: BSD-3-Clause
"""Which data ids of a repository the typed ones stand for, and the template of each."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from diffrun.engine.arguments import TypedId
from diffrun.errors import RepositoryError, UsageError
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository

_LOG = logging.getLogger("imageDifference")


def expand(repository: Repository, typed: Sequence[TypedId]) -> tuple[list[DataId], int]:
    """All data ids that have a calexp, in the order typed, each once.

    Returns
    -------
    found : `list` [`DataId`]
    failed : `int`
        How many typed ids stand for nothing; ids of a range are not counted, for ranges have gaps.
    """
    found: dict[DataId, None] = {}
    failed = 0
    for each in typed:
        matching, reason = _existing(repository, each)
        found.update(dict.fromkeys(matching))
        if not matching:
            _LOG.warning("No data found for dataId=%s: %s", each.keys, reason)
            failed += not each.ranged
    return list(found), failed


def _existing(repository: Repository, typed: TypedId) -> tuple[list[DataId], str]:
    try:
        rows = repository.select(**typed.keys)
    except RepositoryError as error:
        return [], str(error)
    existing = [data_id for data_id in rows if repository.find("calexp", data_id)]
    if existing:
        return existing, ""
    try:
        repository.require("calexp", rows[0])
        return [], ""
    except RepositoryError as error:
        return [], str(error)


def template_keys(typed: Sequence[TypedId]) -> dict[str, int | str]:
    """The keys of the first template id, with the stack's warning if there are more.

    Raises
    ------
    UsageError
        If there is none, or it names no visit.
    """
    if not typed:
        raise UsageError(
            "No template supplied! Please supply a template visit id.", "add --templateId visit=250"
        )
    keys = typed[0].keys
    if "visit" not in keys:
        raise UsageError(f"--templateId {keys} names no visit", "write --templateId visit=250")
    if len(typed) > 1:
        _LOG.warning(
            "Multiple template visits supplied. Getting template from first visit: %s", keys["visit"]
        )
    return keys


def template_for(repository: Repository, science: DataId, keys: dict[str, int | str]) -> DataId:
    """The template of a science exposure: its sensor, unless typed, and the template visit's own filter.

    pipe_tasks 12.1 takes the science exposure's filter instead, and so never finds a visit of another band.

    Raises
    ------
    RepositoryError
        If the visit or sensor is not there; the message says what is.
    """
    wanted = {"raft": science.raft, "sensor": science.sensor, **keys}
    matching = repository.select(**wanted)
    if len(matching) > 1:
        filters = ", ".join(data_id.filter for data_id in matching)
        raise RepositoryError(
            f"visit {wanted['visit']} has several filters: {filters}", "type one in --templateId"
        )
    return matching[0]
