# SPDX-License-Identifier: BSD-3-Clause
"""Stand-ins for the stack's tasks, so that a file can name them as targets with no stack installed."""

from __future__ import annotations

from lsst.pex.config import Config

#: Dotted name of each task that has a stand-in.
TARGETS: dict[str, type] = {}


def stand_in(name: str, config_class: type[Config]) -> type:
    """A class that goes by the name of a task of the stack and carries its configuration class.

    Parameters
    ----------
    name : `str`
        Dotted name in the stack, module and class.
    config_class : `type`
        Ours, with the fields of the task's own.
    """
    module, _, short = name.rpartition(".")
    target = type(short, (), {"ConfigClass": config_class, "__module__": module})
    TARGETS[name] = target
    return target


def target_name(target: type) -> str:
    """Dotted name in the stack."""
    return f"{target.__module__}.{target.__name__}"


def find_target(module: str, name: str) -> type | None:
    """The stand-in for ``name`` imported from ``module``; packages pass on what their modules define."""
    for dotted, target in TARGETS.items():
        home, _, short = dotted.rpartition(".")
        if short == name and (home == module or home.startswith(module + ".")):
            return target
    return None
