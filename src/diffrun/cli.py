# SPDX-License-Identifier: BSD-3-Clause
"""The way into and out of ``diffrun``: an isolated Python, one line for a failure, an exit code."""

from __future__ import annotations

import io
import os
import sys

from diffrun.display import clean
from diffrun.errors import DiffrunError
from diffrun.runtimes.native import is_installed
from diffrun.runtimes.supervise import PARENT, Stopped, stoppable, tie_to_parent


def main() -> None:
    """The entry point: every way out has its exit code, and one line says why."""
    parent = os.environ.pop(PARENT, "")
    if parent.isdecimal():
        tie_to_parent(int(parent))
    _isolate()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path need not be text, and is printed as it is
    try:
        with stoppable():
            sys.exit(_command_line())
    except Stopped as stopped:
        _say("stopped; nothing was left behind")
        sys.exit(128 + stopped.number)
    except DiffrunError as error:
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is not None:
            _say(f"error: {usage()}")  # the option parser's own refusals
            sys.exit(2)
        if "--debug" in sys.argv:
            raise
        _say(f"internal error: {type(error).__name__}: {error}; run with --debug for the whole story")
        sys.exit(1)


def _isolate() -> None:
    """Start once more, isolated, if the host has a ``PYTHONPATH``.

    A site's set-up script (the stack's, for one) leaves packages of another Python there.
    """
    if os.environ.get("PYTHONPATH") and not sys.flags.isolated and is_installed():
        os.execv(sys.executable, [sys.executable, "-I", "-m", "diffrun.cli", *sys.argv[1:]])


def _command_line() -> int:
    from diffrun.commands import app

    code = app(prog_name="diffrun", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _say(text: str) -> None:
    print(f"diffrun: {clean(text)}", file=sys.stderr)


if __name__ == "__main__":
    main()
