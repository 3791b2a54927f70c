# SPDX-License-Identifier: BSD-3-Clause
"""``imageDifference.py`` from its arguments to its exit status, in the order of pipe_base 12.1."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diffrun.engine import logs
from diffrun.engine.arguments import PROGRAM, Arguments, Help, parse
from diffrun.errors import DiffrunError, UsageError
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository

_LOG = logging.getLogger("imageDifference")
_ROOT = logging.getLogger("root")

_USAGE, _NOT_STARTED, _INTERRUPTED, _MOST = 2, 1, 130, 127


def main(argv: Sequence[str]) -> int:
    """Run the program.

    Returns
    -------
    status : `int`
        The number of data ids that failed, at most 127; 2 for a wrong command line or configuration; 1 if
        nothing could be started.
    """
    try:
        arguments = parse(argv)
        logs.configure(arguments.log_levels, arguments.long_log)
        return _run(arguments)
    except Help as help_:
        print(help_.text, end="")
        if help_.error:
            print(help_.error, file=sys.stderr)
        return _NOT_STARTED if help_.error else 0
    except UsageError as error:
        print(f"usage: {PROGRAM} input [options]\n{PROGRAM}: error: {_printable(error)}", file=sys.stderr)
        return _USAGE
    except DiffrunError as error:
        _LOG.critical("Failed in task initialization: %s", error)
        return _NOT_STARTED
    except KeyboardInterrupt:
        _LOG.critical("Interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # whoever read standard output has had enough; nothing may be flushed into the closed pipe at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOT_STARTED
    except Exception as error:
        if "--doraise" in argv or _LOG.isEnabledFor(logging.DEBUG):
            raise
        _LOG.critical(
            "Failed: %s: %s; this is a fault of diffrun: please report it", type(error).__name__, error
        )
        return _NOT_STARTED


def _printable(error: Exception) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))


def _run(arguments: Arguments) -> int:
    from diffrun.engine import config as tree
    from diffrun.engine import overrides

    config = tree.ImageDifferenceConfig()
    settings = tuple(_settings(arguments))
    origins = overrides.apply(config, settings)
    for what, place in (("input", arguments.input), ("calib", arguments.calib), ("output", arguments.output)):
        _ROOT.info("%s=%s", what, place)
    _show(arguments, config)
    if arguments.only_shows and "data" not in arguments.show:
        return 0
    repository = Repository.open(arguments.input)
    if "data" in arguments.show:
        _show_data(arguments, repository)
    if arguments.only_shows:
        return 0
    tree.check(config, origins)
    return _process(arguments, config, settings, repository)


def _settings(arguments: Arguments) -> Iterator[Any]:
    """The overrides in the order of the command line."""
    from diffrun.engine import overrides

    for kind, text in arguments.overrides:
        if kind == "file":
            yield from overrides.read_configfile(Path(text))
        else:
            yield overrides.read_argument(text, kind)


def _show(arguments: Arguments, config: Any) -> None:
    from diffrun.engine import configfile

    for what in arguments.show:
        name, _, pattern = what.partition("=")
        if name == "config":
            sys.stdout.writelines(configfile.show(config, pattern or None))
        elif name == "tasks":
            sys.stdout.writelines(configfile.show_tasks(config))


def _show_data(arguments: Arguments, repository: Repository) -> None:
    from diffrun.engine.selection import expand

    for name, typed in (("id", arguments.ids), ("templateId", arguments.template_ids)):
        for data_id in expand(repository, typed)[0]:
            print(f"{name} dataRef.dataId = {data_id}")


def _process(arguments: Arguments, config: Any, settings: tuple[Any, ...], repository: Repository) -> int:
    from diffrun.engine.config import require_calexp_template
    from diffrun.engine.selection import expand, template_keys

    output = arguments.output
    if output is None:
        raise UsageError("no output directory specified", "give --output or --rerun")
    found, failed = expand(repository, arguments.ids)
    if not found:
        _LOG.warning(
            "Not running the task because there is no data to process; "
            'you may preview data using "--show data"'
        )
        return min(failed, _MOST)
    require_calexp_template(config)
    template = template_keys(arguments.template_ids)
    with _profile(arguments.profile):
        return min(
            failed + _difference(arguments, config, settings, repository, output, found, template), _MOST
        )


def _difference(
    arguments: Arguments,
    config: Any,
    settings: tuple[Any, ...],
    repository: Repository,
    output: Path,
    found: list[DataId],
    template: dict[str, int | str],
) -> int:
    from diffrun.engine import blas, diasrc, outputrepository
    from diffrun.engine.processing import Job, process_all
    from diffrun.files.afw.catalog import catalog_to_bytes

    if arguments.clobber_output:
        outputrepository.remove(output, repository.root)
    schema = bytes(catalog_to_bytes(diasrc.catalogue(diasrc.empty(0))))
    outputrepository.prepare(
        repository, output, config, schema, arguments.clobber_config, arguments.backup_config
    )
    _LOG.info("Linear algebra: %s", blas.describe())
    jobs = [Job(arguments, settings, data_id, template) for data_id in found]
    return process_all(jobs, config, output, arguments.processes, arguments.timeout)


@contextlib.contextmanager
def _profile(path: Path | None) -> Iterator[None]:
    """``--profile``: statistics of what runs in this process."""
    if path is None:
        yield
        return
    from cProfile import Profile

    profile = Profile()
    _ROOT.info("Enabling cProfile profiling")
    with profile:
        yield
    profile.dump_stats(path)
    _ROOT.info("cProfile stats written to %s", path)
