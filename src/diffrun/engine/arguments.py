# SPDX-License-Identifier: BSD-3-Clause
"""The command line of pipe_base 12.1 (``argumentParser.py``), judged without a repository."""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from diffrun.errors import UsageError
from diffrun.repository.dataid import canonical_key, parse_id

PROGRAM = "imageDifference.py"
LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")

_RANGE = re.compile(r"(\d+)\.\.(\d+)(?::(\d+))?", re.ASCII)
_MOST_IDS = 1_000_000
_SHOW = re.compile(r"config(=.*)?|data|tasks|run", re.DOTALL)


@dataclass(frozen=True)
class TypedId:
    """One data id as it was typed.

    Attributes
    ----------
    keys : `dict`
        Under the stack's keys, in the registry's form.
    ranged : `bool`
        Whether a value came from a range ``1..3``, where gaps are to be expected.
    """

    keys: dict[str, int | str]
    ranged: bool = False


@dataclass(frozen=True)
class Arguments:
    """What was asked for."""

    input: Path
    calib: Path | None
    output: Path | None
    rerun: tuple[str, ...]
    overrides: tuple[tuple[str, str], ...]
    ids: tuple[TypedId, ...]
    template_ids: tuple[TypedId, ...]
    log_levels: tuple[tuple[str, str], ...]
    long_log: bool
    do_raise: bool
    profile: Path | None
    show: tuple[str, ...]
    processes: int
    timeout: float
    clobber_output: bool
    clobber_config: bool
    backup_config: bool

    @property
    def only_shows(self) -> bool:
        """Whether ``--show`` stands without ``run``."""
        return bool(self.show) and "run" not in self.show


class Help(Exception):
    """Help was asked for, or is due; carries the text and the message that follows it."""

    def __init__(self, text: str, error: str = "") -> None:
        super().__init__(text, error)
        self.text = text
        self.error = error


def parse(argv: Sequence[str]) -> Arguments:
    """Read the arguments.

    Raises
    ------
    UsageError
        For anything that pipe_base 12.1 ends with status 2.
    Help
        For ``--help``, and for a first argument that is no path.
    """
    parser = _parser()
    if not argv or argv[0].startswith(("-", "@")):
        asked = list(argv) in (["-h"], ["--help"])
        message = "" if asked else f"{PROGRAM}: error: Must specify input as first argument"
        raise Help(parser.format_help(), message)
    root = _under("PIPE_INPUT_ROOT", argv[0])
    if not root.is_dir():
        raise UsageError(f"Error: input={str(root)!r} not found")
    try:
        found = parser.parse_args(list(argv))
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UsageError(f"cannot read the arguments of an @file: {error}") from None
    return _arguments(root, found)


def _arguments(root: Path, found: argparse.Namespace) -> Arguments:
    if found.processes < 1:
        raise UsageError(f"argument -j/--processes: {found.processes} is not a number of processes")
    if found.debug:
        raise UsageError(
            "--debug is not implemented: the engine has no hooks for a debug module", "leave it out"
        )
    for what in found.show:
        if not _SHOW.fullmatch(what):
            raise UsageError(f"Unknown value for show: {what}", "choose from config[=GLOB], data, tasks, run")
    root, output, rerun = _directories(root, found)
    if found.clobber_output and output is None:
        raise UsageError("--clobber-output is only valid with --output or --rerun")
    if found.clobber_output and output == root:
        raise UsageError("--clobber-output is not valid when the output and input repos are the same")
    return Arguments(
        input=root,
        calib=None if found.calib is None else _under("PIPE_CALIB_ROOT", found.calib),
        output=output,
        rerun=rerun,
        overrides=tuple(found.overrides),
        ids=tuple(found.id),
        template_ids=tuple(found.templateId),
        log_levels=tuple(found.loglevel),
        long_log=found.longlog,
        do_raise=found.doraise,
        profile=found.profile,
        show=tuple(found.show),
        processes=found.processes,
        timeout=found.timeout if found.timeout and found.timeout > 0 else 9999.0,
        clobber_output=found.clobber_output,
        clobber_config=found.clobber_config,
        backup_config=not found.no_backup_config,
    )


def _under(variable: str, path: str) -> Path:
    """An absolute path; a relative one is taken from the variable's folder if that is set."""
    return Path(os.path.normpath(Path.cwd() / os.environ.get(variable, "") / path))


def _directories(root: Path, found: argparse.Namespace) -> tuple[Path, Path | None, tuple[str, ...]]:
    """Input and output after ``--output`` and ``--rerun [INPUT:]OUTPUT``."""
    if found.rerun is None:
        return root, _under("PIPE_OUTPUT_ROOT", found.output) if found.output else None, ()
    if found.output:
        raise UsageError("Error: cannot specify both --output and --rerun")
    names = tuple(found.rerun.split(":"))
    if len(names) > 2 or not all(names):
        raise UsageError(f"Error: invalid argument for --rerun: {found.rerun}", "write [INPUT:]OUTPUT")
    folders = [root / "rerun" / name for name in names]
    if len(folders) == 2:
        if not folders[0].is_dir():
            raise UsageError(f"Error: input={str(folders[0])!r} not found")
        return folders[0], folders[1], names
    if (folders[0] / "_parent").exists():
        return (folders[0] / "_parent").resolve(), folders[0], names
    return root, folders[0], names


class _Parser(argparse.ArgumentParser):
    """argparse that raises, and splits the lines of an ``@FILE`` as pipe_base does."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        line = arg_line.strip()
        if not line or line.startswith("#"):
            return []
        return [word for word in shlex.split(line, comments=True, posix=True) if word.strip()]


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> NoReturn:
        raise Help(parser.format_help())


class _Override(argparse.Action):
    """Keeps ``-c`` and ``-C`` in the order in which they stand."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        kind = "file" if self.dest == "configfile" else str(option_string)
        namespace.overrides += [(kind, value) for value in values]


class _Level(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        for typed in values:
            component, _, level = typed.rpartition("=")
            if level.upper() not in LEVELS:
                raise UsageError(f"loglevel={level!r} not one of {LEVELS}")
            namespace.loglevel = [*namespace.loglevel, (component, level.upper())]


class _Id(argparse.Action):
    """One ``--id``: the cross product of its keys' values, the first key varying slowest."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        typed: dict[str, list[tuple[str, bool]]] = {}
        for pair in values:
            name, equals, text = pair.partition("=")
            if not equals:
                raise UsageError(f"{option_string} {pair} must be in form KEY=VALUE")
            canonical_key(name)
            if name in typed:
                raise UsageError(f"{name} appears multiple times in one ID argument: {option_string}")
            typed[name] = [value for part in text.split("^") for value in _values(part)]
        if _product(len(choices) for choices in typed.values()) > _MOST_IDS:
            raise UsageError(f"{option_string} stands for more than {_MOST_IDS} data ids")
        ids = list(getattr(namespace, self.dest))
        for chosen in itertools.product(*typed.values()):
            keys = parse_id(zip(typed, (value for value, _ in chosen), strict=True))
            ids.append(TypedId(keys, any(ranged for _, ranged in chosen)))
        setattr(namespace, self.dest, ids)


def _values(part: str) -> Iterator[tuple[str, bool]]:
    """The value, or those of a range ``first..last[:stride]``, and whether it was one."""
    match = _RANGE.fullmatch(part)
    if not match:
        yield part, False
        return
    first, last, stride = int(match[1]), int(match[2]), int(match[3] or 1)
    if stride == 0 or last < first or (last - first) // stride >= _MOST_IDS:
        raise UsageError(
            f"the range {part} holds no data ids, or too many", "write first..last or first..last:stride"
        )
    for value in range(first, last + 1, stride):
        yield str(value), True


def _product(numbers: Iterator[int]) -> int:
    total = 1
    for number in numbers:
        total *= number
    return total


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} input [options]",
        fromfile_prefix_chars="@",
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Subtract a template from a science exposure and measure what is left.",
        epilog=textwrap.dedent("""\
            Notes:
              * --config, --configfile, --id, --loglevel and @file may appear multiple times;
                all values are used, in order left to right
              * @file reads further arguments from a file: several a line, split as in a shell,
                # begins a comment
              * several values of one option are separated by spaces: --configfile one.py two.py
              * the exit status is the number of data ids that failed (at most 127), 2 for a wrong
                command line or configuration, 1 if nothing could be started
            """),
    )
    parser.add_argument("input", help="input repository, relative to $PIPE_INPUT_ROOT")
    _add_places(parser)
    _add_settings(parser)
    _add_ids(parser)
    _add_running(parser)
    return parser


def _add_places(parser: _Parser) -> None:
    parser.add_argument("-h", "--help", nargs=0, action=_Help, help="show this help and end")
    parser.add_argument(
        "--calib", help="calibration repository, relative to $PIPE_CALIB_ROOT; nothing is read there"
    )
    parser.add_argument("--output", help="output repository (made if missing), relative to $PIPE_OUTPUT_ROOT")
    parser.add_argument(
        "--rerun",
        metavar="[INPUT:]OUTPUT",
        help="output is ROOT/rerun/OUTPUT; with INPUT, the input is ROOT/rerun/INPUT",
    )


def _add_settings(parser: _Parser) -> None:
    parser.add_argument(
        "-c",
        "--config",
        nargs="*",
        action=_Override,
        metavar="NAME=VALUE",
        help="settings, e.g. -c doMerge=False",
    )
    parser.add_argument(
        "-C",
        "--configfile",
        nargs="*",
        action=_Override,
        metavar="FILE",
        help="files of settings; read, not run",
    )
    parser.set_defaults(overrides=[])
    parser.add_argument(
        "--show",
        nargs="+",
        default=[],
        metavar="WHAT",
        help="print config, config=GLOB, data or tasks and end, unless run is given too",
    )
    parser.add_argument("--clobber-output", action="store_true", help="remove the output repository first")
    parser.add_argument(
        "--clobber-config",
        action="store_true",
        help="replace stored configuration and schema instead of comparing",
    )
    parser.add_argument(
        "--no-backup-config", action="store_true", help="keep no copy NAME~1 of what is replaced"
    )
    parser.add_argument(
        "--clobber-versions", action="store_true", help="no effect: versions are not stored here"
    )
    parser.add_argument("--no-versions", action="store_true", help="no effect: versions are not stored here")


def _add_ids(parser: _Parser) -> None:
    form = "KEY=VALUE[^VALUE...]"
    parser.add_argument(
        "--id",
        nargs="*",
        default=[],
        action=_Id,
        metavar=form,
        help="data ids of the science exposures: keys visit, raft, sensor, filter; values joined by ^, or "
        "first..last[:stride]; e.g. --id visit=230 raft=2,2 sensor=1,1",
    )
    parser.add_argument(
        "--templateId",
        nargs="*",
        default=[],
        action=_Id,
        metavar=form,
        help="data id of the template; raft and sensor are those of the science exposure and filter is that "
        "of the visit, unless given; e.g. --templateId visit=250",
    )


def _add_running(parser: _Parser) -> None:
    parser.add_argument(
        "-L",
        "--loglevel",
        nargs="*",
        default=[],
        action=_Level,
        metavar="LEVEL|COMPONENT=LEVEL",
        help="trace, debug, info, warn, error or fatal",
    )
    parser.add_argument("--longlog", action="store_true", help="log the time, the data id and the place too")
    parser.add_argument("--debug", action="store_true", help="not implemented, and refused")
    parser.add_argument("--doraise", action="store_true", help="end with a traceback at the first failure")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="write statistics of cProfile (one process)"
    )
    parser.add_argument(
        "-j", "--processes", type=int, default=1, metavar="N", help="data ids at the same time"
    )
    parser.add_argument(
        "-t", "--timeout", type=float, metavar="SECONDS", help="time for all data ids, with -j above 1 (9999)"
    )
