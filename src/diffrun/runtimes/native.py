# SPDX-License-Identifier: BSD-3-Clause
"""The native runtime: the engine in the Python that runs diffrun, with no shell and no host environment."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import diffrun
from diffrun.runtimes import Command, Job

#: The variables that pass from the host to the program; none of them can change a product.
PASSED = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR")
FIXED = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "TZ": "UTC"}


class Native:
    """Runs the engine as ``python -I -m diffrun.engine ...``."""

    name = "native"

    def command(self, job: Job, host: Mapping[str, str] | None = None) -> Command:
        """The command for a job."""
        host = os.environ if host is None else host
        environment = {name: host[name] for name in PASSED if name in host} | FIXED
        return Command(*python(job.module, job.arguments, environment), lifeline=job.waits)


def python(
    module: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The argv and environment by which this very Python runs a module of ours.

    Installed, Python runs isolated (``-I``: no ``PYTHON*`` variable, no current folder, no user
    site-packages). In a source tree that is not installed, the tree is named as the one ``PYTHONPATH``.
    """
    flags, whole = ["-I"], dict(environment)
    if not is_installed():
        flags = ["-s", "-P"]
        whole["PYTHONPATH"] = str(_source())
    return (sys.executable, *flags, "-m", module, *arguments), tuple(sorted(whole.items()))


def is_installed() -> bool:
    """Whether an isolated Python finds this very package."""
    return any(_source() == Path(folder).resolve() for folder in site.getsitepackages())


def _source() -> Path:
    return Path(diffrun.__file__).resolve().parents[1]
