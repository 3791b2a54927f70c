# SPDX-License-Identifier: BSD-3-Clause
"""The output repository before any data: its folder, the configuration and the schema of the sources."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from diffrun.engine import configfile
from diffrun.engine.config import ImageDifferenceConfig
from diffrun.errors import ConfigError, OutputError
from diffrun.files.atomic import write_bytes
from diffrun.repository.gen2 import Repository, create_output
from diffrun.repository.paths import relative

_LOG = logging.getLogger("imageDifference")


def remove(output: Path, source: Path) -> None:
    """``--clobber-output``: remove an earlier output repository, and nothing that could be anything else.

    Raises
    ------
    OutputError
        If the folder is not chained to an input repository, or holds the one that is to be read.
    """
    if not output.exists():
        return
    if source.resolve().is_relative_to(output.resolve()):
        raise OutputError(f"--clobber-output would remove {output}, which holds the input repository")
    if not (output / "_parent").is_symlink() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output} is not an output repository: it has no _parent", "remove it yourself")
    _LOG.info("Removing output repo %s for --clobber-output", output)
    try:
        shutil.rmtree(output)
    except OSError as error:
        raise OutputError(f"cannot remove {output}: {error.strerror}") from None


def prepare(
    repository: Repository,
    output: Path,
    config: ImageDifferenceConfig,
    schema: bytes,
    clobber: bool,
    backup: bool,
) -> None:
    """Make the output repository and write its configuration and schema, or compare them with those stored.

    Parameters
    ----------
    repository : `Repository`
        The input.
    output : `pathlib.Path`
        Root of the output; it may be the input itself.
    config : `ImageDifferenceConfig`
    schema : `bytes`
        The catalogue file without rows that stands for the schema.
    clobber, backup : `bool`
        Whether to replace what is stored, and whether to keep it as ``NAME~1`` then.

    Raises
    ------
    OutputError
        If the output cannot be written, or another configuration or schema is stored there; the message
        has the fields that differ and the ways on.
    """
    create_output(output, repository.root)
    prefix = f"{config.coaddName}Diff"
    stored = _open(output, repository)
    text = configfile.to_text(config).encode()
    old = stored.find(f"{prefix}_config")
    if old is None or clobber:
        _replace(output / relative(f"{prefix}_config"), old, text, backup)
    else:
        _compare_config(old, config)
    old = stored.find(f"{prefix}_diaSrc_schema")
    if old is None or clobber:
        _replace(output / relative(f"{prefix}_diaSrc_schema"), old, schema, backup)
    elif old.read_bytes() != schema:
        raise OutputError(
            f"New schema does not match schema '{prefix}_diaSrc' on disk; schemas must be consistent within "
            "the same output repo",
            "give another --output, or --clobber-config",
        )


def _open(output: Path, repository: Repository) -> Repository:
    """The output with its parents, where the stack looks for stored configurations too."""
    chain = [output.resolve(), *(root for root in repository.chain if root != output.resolve())]
    return Repository(output, tuple(chain), repository.mapper)


def _compare_config(path: Path, config: ImageDifferenceConfig) -> None:
    try:
        stored = configfile.read_stored(path)
    except ConfigError as error:
        raise OutputError(error.message, error.remedy) from None
    differences = configfile.compare(stored, config)
    for difference in differences:
        _LOG.critical(
            "Comparing configuration: Inequality in config.%s: %r != %r",
            difference.path, difference.stored, difference.present,
        )  # fmt: skip
    if differences:
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        raise OutputError(
            f"Config does not match existing task config {path} on disk ({differences[0]}{more}); tasks "
            "configurations must be consistent within the same output repo",
            "give another --output, or the stored settings, or --clobber-config to replace them",
        )


def _replace(path: Path, old: Path | None, data: bytes, backup: bool) -> None:
    """Write a file; what it replaces becomes ``NAME~1``, the older ``~1`` becomes ``~2`` and so on."""
    if old is not None and backup:
        number = 1
        while path.with_name(f"{path.name}~{number}").exists():
            number += 1
        for later in range(number, 1, -1):
            path.with_name(f"{path.name}~{later - 1}").replace(path.with_name(f"{path.name}~{later}"))
        write_bytes(path.with_name(f"{path.name}~1"), old.read_bytes())
    write_bytes(path, data)
