# SPDX-License-Identifier: BSD-3-Clause
"""Log lines as the stack writes them: ``%c %p: %m%n`` on standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from contextvars import ContextVar

TRACE = 5
_LEVELS = {"TRACE": TRACE, "DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40, "FATAL": 50}
_NAMES = {number: name for name, number in _LEVELS.items()}

#: The data id that is being processed, for ``--longlog``.
LABEL: ContextVar[str] = ContextVar("LABEL", default="")


class _Line(logging.Formatter):
    """One line a record, whatever is in the message; ``long`` adds time, data id and place."""

    def __init__(self, long: bool) -> None:
        super().__init__()
        self.long = long

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, and below it the traceback if it has one."""
        level = _NAMES.get(record.levelno, record.levelname)
        message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in record.getMessage())
        if self.long:
            when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
            place = f"({LABEL.get()})({record.filename}:{record.lineno})"
            line = f"{level:<5} {when}.{int(record.msecs):03d} {record.name} {place}- {message}"
        else:
            line = f"{record.name} {level}: {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(levels: Iterable[tuple[str, str]], long: bool) -> None:
    """Send all records to standard error, at INFO unless told otherwise.

    Parameters
    ----------
    levels : iterable of (`str`, `str`)
        Logger (empty for all) and the stack's name of the level.
    long : `bool`
        Whether ``--longlog`` was given.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(long))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    for name in ("numba", "matplotlib", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for component, level in levels:
        logging.getLogger(component or None).setLevel(_LEVELS[level])
