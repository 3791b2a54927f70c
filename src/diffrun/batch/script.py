# SPDX-License-Identifier: BSD-3-Clause
"""The batch script of one run: a page that a person can read, keep and submit by hand."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import diffrun
from diffrun.batch.resources import Resources, clock
from diffrun.errors import UsageError
from diffrun.plan import Plan
from diffrun.record import argv
from diffrun.runtimes.image import containers
from diffrun.runtimes.native import python
from diffrun.runtimes.shifter import Layout, mapped, plain

#: What passes from the submitter to the job, as the native runtime would see it.
PASSED = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "NUMBA_CACHE_DIR", "DIFFRUN_CACHE")
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,;+@%-]+", re.ASCII)


def log_pattern(output: Path) -> Path:
    """Where the job of a run folder writes its lines; ``%j`` is the job's number."""
    name = output.name.replace("%", "%%")
    return Path(str(output.parent).replace("%", "%%"), f"{name}.slurm-%j.log")


def log_path(output: Path, job: str) -> Path:
    """The log of one job of a run folder."""
    return output.with_name(f"{output.name}.slurm-{job}.log")


def path(output: Path) -> Path:
    """Where the script of a run folder lies: beside it."""
    return output.with_name(f"{output.name}.sbatch")


def of_run(plan: Plan, resources: Resources, environment: Mapping[str, str] | None = None) -> str:
    """The script that makes one run folder.

    Raises
    ------
    UsageError
        If a path cannot be said to Slurm or to Shifter.
    """
    title = f"{plan.name}: {plan.program}, {plan.runtime} runtime, site {plan.site}"
    notes = (
        f"# diffrun {diffrun.__version__}, {title}",
        f"# By hand: sbatch {shlex.quote(path(plan.output).name)}. A run folder that is finished is found, "
        "and not made again.",
    )
    asked = (*resources_lines(resources, plan.output, plan.jobs), *shifter_lines(plan, resources))
    return page(notes, asked, line_of(plan), passed(plan, environment))


def page(
    notes: Sequence[str],
    asked: Sequence[str],
    words: Sequence[str],
    environment: Mapping[str, str],
) -> str:
    """A script: notes, ``#SBATCH`` lines, and the one command that the job becomes."""
    program, variables = python("diffrun.cli", (), environment)
    command = ["exec env", *(f"{shlex.quote(f'{name}={value}')}" for name, value in variables)]
    command += [shlex.join(program), *_pairs(words)]
    return "\n".join(
        (
            "#!/bin/bash",
            *notes,
            *(f"#SBATCH {line}" for line in asked),
            "",
            'echo "diffrun: job $SLURM_JOB_ID on $(uname -n)${SLURM_RESTART_COUNT:+, begun again}"',
            " \\\n    ".join(command),
            "",
        )
    )


def passed(plan: Plan, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a job: Slurm gives it none but its own, whatever the submitter has set."""
    return passed_to(plan.runtime if plan.image else None, environment)


def passed_to(runtime: str | None, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a job that enters an image by a runtime, or none."""
    host = os.environ if environment is None else environment
    found = {name: host[name] for name in PASSED if host.get(name)}
    program = shutil.which(runtime, path=host.get("PATH")) if runtime else None
    return found | {"PATH": f"{Path(program).parent}:/usr/bin:/bin"} if program else found


def line_of(plan: Plan) -> tuple[str, ...]:
    """The words after ``diffrun`` that do the run from any folder, with its image by id."""
    words = argv(plan)[1:]
    if plan.image and plan.runtime == "shifter":
        words[words.index("--image") + 1] = "id:" + plan.image.id.removeprefix("sha256:")
    return tuple(words)


def _pairs(words: Sequence[str]) -> Iterator[str]:
    """One option and its value a line."""
    line: list[str] = []
    for word in words:
        if word.startswith("--") and line:
            yield shlex.join(line)
            line = []
        line.append(word)
    if line:
        yield shlex.join(line)


def resources_lines(resources: Resources, output: Path, cpus: int) -> list[str]:
    """The ``#SBATCH`` options of a job on part of one node, whose log lies beside ``output``."""
    words = {
        "job-name": output.name,
        "account": resources.account.value,
        "qos": resources.qos.value,
        "partition": resources.partition.value,
        "constraint": resources.constraint.value,
        "licenses": resources.licenses.value,
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(cpus),
        "mem": resources.memory.value,
        "time": clock(resources.time.value),
        "signal": f"B:TERM@{resources.grace.value}" if resources.grace.value else None,
        "open-mode": "append",
        "export": "NONE",
        "chdir": str(output.parent),
        "output": str(log_pattern(output)),
    }
    found = [f"--{name}={quoted(text)}" for name, text in words.items() if text is not None]
    found.insert(found.index("--open-mode=append"), "--requeue")
    return found


def shifter_lines(plan: Plan, resources: Resources) -> list[str]:
    """Image and volume for Shifter's plugin in Slurm, which takes the last of several volume lines alone.

    None for another runtime, or where Slurm does not know them.
    """
    if plan.runtime != "shifter" or plan.image is None or not resources.shifter_plugin.value:
        return []
    found = [f"--image=id:{plan.image.id.removeprefix('sha256:')}"]
    repository = mapped(plan.job(plan.output))
    if repository:
        layout = Layout.read(containers() / "shifter.yaml")
        found.append(f"--volume={plain(repository)}:{layout.input}:ro")
    return found


def quoted(text: str) -> str:
    """A word as sbatch reads it in an ``#SBATCH`` line: in double quotes, if it is not plain."""
    if not text.isprintable():
        raise UsageError(f"{text!r} cannot be said to Slurm", "use a path of printable characters")
    if "\\" in text:
        raise UsageError(f"{text!r} cannot be said to Slurm, which drops backslashes", "use another path")
    return text if _PLAIN.fullmatch(text) else '"' + text.replace('"', '\\"') + '"'
