# SPDX-License-Identifier: BSD-3-Clause
"""Walk a tree of configurations, and set one field of it by its path."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lsst.pex.config import (
    Config,
    ConfigChoiceField,
    ConfigField,
    ConfigurableField,
    Field,
    FieldValidationError,
    ListField,
)

from diffrun.engine.targets import target_name
from diffrun.errors import ConfigError

_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\[(?:'\w+'|\"\w+\")\])*", re.ASCII)
_STEP = re.compile(r"\.?([A-Za-z_]\w*)|\[['\"](\w+)['\"]\]", re.ASCII)


@dataclass(frozen=True)
class Item:
    """One value of a configuration.

    Attributes
    ----------
    path : `str`
        As it is written in a file, without the leading ``config.``: ``subtract.kernel['AL'].kernelSize``.
    value
        `bool`, `int`, `float`, `str`, `None`, or a `list` of these. Of a retargetable field, which comes
        before the fields below it, the dotted name of its target.
    doc : `str`
    kind : `str`
        ``value``, ``choice`` (the selection among alternatives) or ``target``.
    active : `bool`
        Whether it lies in the selected alternative.
    """

    path: str
    value: Any
    doc: str
    kind: str = "value"
    active: bool = True


def walk(config: Config, prefix: str = "", active: bool = True) -> Iterator[Item]:
    """All values below a configuration, in the order of its fields."""
    for name, field in config._fields.items():
        path, value = f"{prefix}{name}", getattr(config, name)
        if isinstance(field, ConfigurableField):
            yield Item(path, target_name(value.target), field.doc, "target", active)
            yield from walk(value.value, f"{path}.", active)
        elif isinstance(field, ConfigChoiceField):
            chosen = sorted(value.names) if field.multi else [value.name]
            for key in sorted(value.types):
                yield from walk(value[key], f"{path}['{key}'].", active and key in chosen)
            last = "names" if field.multi else "name"
            yield Item(f"{path}.{last}", chosen if field.multi else value.name, field.doc, "choice", active)
        elif isinstance(field, ConfigField):
            yield from walk(value, f"{path}.", active)
        else:
            plain = list(value) if isinstance(field, ListField) and value is not None else value
            yield Item(path, plain, field.doc, "value", active)


def canonical(config: Config, path: str) -> str:
    """The path under which `walk` has a field that may be typed otherwise (``active``, ``algorithms``)."""
    return _locate(config, path)[2]


def assign(config: Config, path: str, value: Any) -> None:
    """Set one field.

    Parameters
    ----------
    config : `lsst.pex.config.Config`
    path : `str`
        Without the leading ``config.``.
    value
        `bool`, `int`, `float`, `str`, `None`, `list` or `tuple`.

    Raises
    ------
    ConfigError
        If there is no such field (the nearest one is named), or it does not take the value.
    """
    owner, name, _ = _locate(config, path)
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise ConfigError(f"cannot set config.{path}={value!r}: it must be finite")
    field = field_of(config, path)
    if isinstance(field, ListField) and isinstance(value, str):
        raise ConfigError(f"cannot set config.{path}={value!r}: it must be a list")
    try:
        setattr(owner, name, value)
    except (FieldValidationError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).partition("\n")[0].rpartition("failed validation: ")[2]
        raise ConfigError(f"cannot set config.{path}={value!r}: {reason}") from None


def field_of(config: Config, path: str) -> Field | None:
    """The definition of a field; `None` for the name of a choice."""
    owner, name, _ = _locate(config, path)
    fields = getattr(owner, "_fields", {})
    return fields.get(name)


def subtask(config: Config, path: str) -> Any:
    """The retargetable field at a path; `ConfigError` if there is none."""
    owner, name, _ = _locate(config, path)
    field = getattr(owner, "_fields", {}).get(name)
    if not isinstance(field, ConfigurableField):
        raise ConfigError(f"config.{path} is not a task and cannot be retargeted")
    return getattr(owner, name)


def _locate(config: Config, path: str) -> tuple[Any, str, str]:
    if not _PATH.fullmatch(path):
        raise ConfigError(f"no config field: {path}")
    steps = [(match[1], match[2]) for match in _STEP.finditer(path)]
    node: Any = config
    typed = ""
    for position, (attribute, key) in enumerate(steps):
        last = position == len(steps) - 1
        node, typed, found = _step(node, typed, attribute, key, last)
        if not found:
            raise ConfigError(f"no config field: {path}", _nearest(config, path))
    name = steps[-1][0] or ""
    return node, name, typed


def _step(node: Any, path: str, attribute: str | None, key: str | None, last: bool) -> tuple[Any, str, bool]:
    """One step down; the last step stays at the owner of the field."""
    if hasattr(node, "types"):
        if key is not None:
            found = key in node.types and not last
            return (node[key] if found else node), f"{path}['{key}']", found
        if attribute == "active" and not last and not node._field.multi:
            return node.active, f"{path}['{node.name}']", True
        return node, f"{path}.{attribute}", last and attribute == ("names" if node._field.multi else "name")
    if attribute == "algorithms" and hasattr(node, "algorithms"):
        attribute = "plugins"
    fields = getattr(node, "value", node)._fields
    if attribute is None or attribute not in fields:
        return node, path, False
    path = f"{path}.{attribute}" if path else attribute
    owner = getattr(node, "value", node)
    if last:
        return owner, path, True
    child = getattr(owner, attribute)
    nested = isinstance(fields[attribute], (ConfigField, ConfigurableField, ConfigChoiceField))
    return child, path, nested


def _nearest(config: Config, path: str) -> str:
    items = {item.path: item for item in walk(config) if item.kind != "target" and item.active}
    near = difflib.get_close_matches(path, items, n=1, cutoff=0.6)
    if not near:
        ends = {known.rpartition(".")[2]: known for known in items}
        near = [
            ends[end] for end in difflib.get_close_matches(path.rpartition(".")[2], ends, n=1, cutoff=0.8)
        ]
    return f"did you mean {near[0]} (now {items[near[0]].value!r})?" if near else "see --show config"
