# SPDX-License-Identifier: BSD-3-Clause
"""Runs a command as a child that never outlives us, and hands on its lines as they come.

The child is the head of its own process group and asks the kernel for SIGKILL when its parent dies
(PR_SET_PDEATHSIG), so even ``kill -9`` of the launcher leaves nothing behind. A signal to the launcher is
passed on; what is still there after two seconds is killed. A second signal ends the launcher at once.
A child that tidies up by itself is told by the end of its standard input alone, which comes in any case.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO

from diffrun.errors import DiffrunError
from diffrun.runtimes import Command

_PR_SET_PDEATHSIG = 1
_GRACE = 2.0
_TIDYING = 8.0
_POLL = 0.25
_LONGEST_LINE = 64 * 1024
_LARGEST_ANSWER = 16 * 1024 * 1024
#: Names the parent of a `diffrun` that is to end with it.
PARENT = "DIFFRUN_PARENT"
OnLine = Callable[[str], None]
OnStart = Callable[[], None] | None

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked us to stop; not an `Exception`, so that nothing on the way takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the first SIGINT, SIGTERM or SIGHUP raises `Stopped`, and a second one ends us at once."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class Child:
    """A command that runs, until its lines have been heard or the context that started it is left."""

    def __init__(self, process: subprocess.Popen[bytes], tidy: bool, answer: IO[bytes] | None) -> None:
        self._process, self._tidy, self._answer, self._over = process, tidy, answer, False

    def tell(self, line: str) -> None:
        """Give a line to a child with a lifeline, and no more; one that is gone will say so by its status."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            os.write(self._process.stdin.fileno(), line.encode() + b"\n")

    def attend(self, on_line: OnLine, on_start: OnStart = None) -> int:
        """Hand on each line that it says until it ends, and return its exit status.

        A negative status is the number of the signal that ended it. ``on_start`` is called first (threads may
        be started from then on: never before a fork).
        """
        if on_start:
            on_start()
        stream = self._process.stdout if self._answer is None else self._process.stderr
        assert stream is not None
        for line in _lines(self._process, stream.fileno()):
            on_line(line.decode("utf-8", "replace").rstrip("\r"))
        status = self._process.wait()
        self.close()
        return status

    def answer(self) -> str:
        """What it has printed, if it was started to be asked."""
        assert self._answer is not None
        self._answer.seek(0)
        return self._answer.read(_LARGEST_ANSWER).decode("utf-8", "replace")

    def stop(self, number: int) -> None:
        """End it: by itself if it can, else by this signal."""
        if not self._over and self._tidy:
            _let_end(self._process)
        if not self._over:
            _end(self._process, number)

    def close(self) -> None:
        """End what is left of it, once: its number may soon be another's."""
        if not self._over:
            self._over = True
            _end(self._process, signal.SIGKILL)  # workers that the program left behind
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream:
                    stream.close()


@contextlib.contextmanager
def following(command: Command) -> Iterator[Child]:
    """A command whose output and errors are heard as one; ended when the context is left."""
    with _child(command, subprocess.PIPE, subprocess.STDOUT, None) as child:
        yield child


@contextlib.contextmanager
def asking(command: Command) -> Iterator[Child]:
    """A command that answers on standard output, whose errors are heard; ended when the context is left."""
    with (
        tempfile.TemporaryFile() as answer,
        _child(command, answer, subprocess.PIPE, answer) as child,
    ):
        yield child


def follow(command: Command, on_line: OnLine, on_start: OnStart = None) -> int:
    """Run a command, hand on each line of its output and errors, and return its exit status."""
    with following(command) as child:
        return child.attend(on_line, on_start)


def ask(command: Command, on_line: OnLine, on_start: OnStart = None) -> tuple[int, str]:
    """Run a command that answers on standard output; each line of its errors is handed on."""
    with asking(command) as child:
        return child.attend(on_line, on_start), child.answer()


def _lines(child: subprocess.Popen[bytes], stream: int) -> Iterator[bytes]:
    """Lines until the end of the stream, or until the child is gone though a process of its holds it open."""
    rest = b""
    while True:
        ready, _, _ = select.select([stream], [], [], _POLL)
        chunk = os.read(stream, _LONGEST_LINE) if ready else b""
        if not chunk and (ready or child.poll() is not None):
            break
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > _LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest


@contextlib.contextmanager
def _child(
    command: Command, stdout: IO[bytes] | int, stderr: int, answer: IO[bytes] | None
) -> Iterator[Child]:
    try:
        process = subprocess.Popen(
            command.argv,
            env=dict(command.environment),
            stdin=subprocess.PIPE if command.lifeline else subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            process_group=0,
            preexec_fn=None if command.tidy else die_with_parent(),
        )
    except OSError as error:
        raise DiffrunError(f"cannot start {command.argv[0]}: {error.strerror}") from None
    child = Child(process, command.tidy, answer)
    try:
        yield child
    except BaseException as error:
        child.stop(error.number if isinstance(error, Stopped) else signal.SIGTERM)
        raise
    finally:
        child.close()


def _let_end(child: subprocess.Popen[bytes]) -> None:
    """Close the child's lifeline, and give it time to tidy up."""
    if child.stdin:
        child.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_TIDYING)


def _end(child: subprocess.Popen[bytes], number: int) -> None:
    """End the child and its group: by this signal, and after the grace by SIGKILL."""
    for each in (number, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, each)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)


def die_with_parent() -> Callable[[], None] | None:
    """What a child calls before its program, so that the kernel kills it when its parent dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the request took effect
            os._exit(1)

    return in_child


def tie_to_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent dies; end it if that is no longer ``parent``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)
