# SPDX-License-Identifier: BSD-3-Clause
"""Sites: YAML files that name the defaults of a place, read as data and nothing else.

The loader derives from PyYAML's `SafeLoader` with tables of its own, so that a constructor that another
package registers there (``lsst.pex.config`` does) cannot reach it. Tags, anchors, aliases, duplicate keys,
octal and sexagesimal numbers are refused by name, as are files over 64 KiB and nesting over 20.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import yaml

import diffrun
from diffrun.errors import ConfigError

KEYS = (
    "description", "retired", "program", "runtime", "repo", "output_root", "cache", "jobs", "image", "batch",
)  # fmt: skip
#: Of these a site only tells; all others are settings.
TELLING = ("description", "retired", "batch")
#: What a job asks of Slurm and a user may choose as well.
BATCH_CHOICES = ("account", "qos", "partition", "constraint", "time", "memory", "licenses")
BATCH_KEYS = ("needs", *BATCH_CHOICES, "grace", "shifter_plugin", "nodes")

_LARGEST = 64 * 1024
_DEEPEST = 20
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)
_AMBIGUOUS = re.compile(
    r"[-+]?(0[0-9_]+|0[xob][0-9a-f_]+|[0-9][0-9_]*(:[0-5]?[0-9])+|[0-9]+_[0-9_]*)", re.A | re.I
)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_TAG = "tag:yaml.org,2002:"


class _Refused(yaml.MarkedYAMLError):
    """A construct that is YAML, but not of the kind a site file may hold."""


class SiteLoader(yaml.SafeLoader):
    """Plain mappings, lists, strings, whole numbers, true, false and null."""

    yaml_constructors: ClassVar[dict[Any, Any]] = {}
    yaml_multi_constructors: ClassVar[dict[Any, Any]] = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node, unless it is an alias, is anchored or tagged, or lies too deep."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused("an alias", f"*{event.anchor}", event)
        if event.anchor is not None:
            raise _refused("an anchor", f"&{event.anchor}", event)
        if event.tag is not None:
            raise _refused("a tag", str(event.tag), event)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _refused("nesting", f"deeper than {_DEEPEST}", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _refused(what: str, value: str, where: Any) -> _Refused:
    return _Refused(problem=f"{what} ({value}) is not allowed", problem_mark=where.start_mark)


def _mapping(loader: SiteLoader, node: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _refused("a key", "not a word", key_node)
        if key_node.value in found:
            raise _refused("a key given twice", key_node.value, key_node)
        found[key_node.value] = loader.construct_object(value_node, deep=True)
    return found


def _sequence(loader: SiteLoader, node: Any) -> list[Any]:
    return [loader.construct_object(item, deep=True) for item in node.value]


def _scalar(_loader: SiteLoader, node: Any) -> str | int | bool | None:
    text: str = node.value
    if node.style is not None:
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _AMBIGUOUS.fullmatch(text):
        raise _refused("an octal, hexadecimal, sexagesimal or padded number", text, node)
    return int(text) if _NUMBER.fullmatch(text) else text


SiteLoader.yaml_implicit_resolvers = {}
SiteLoader.yaml_constructors = {f"{_TAG}map": _mapping, f"{_TAG}seq": _sequence, f"{_TAG}str": _scalar}


def parse(text: str, name: str) -> dict[str, Any]:
    """The mapping that a site's text holds.

    Raises
    ------
    ConfigError
        For anything but a mapping of known keys; the message has the place in the file.
    """
    try:
        # the loader is our own and constructs plain data alone
        data = yaml.load(text, SiteLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"site {place}: {problem}", "see docs/settings.md") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"site {name}: {' '.join(str(error).split())}", "see docs/settings.md") from None
    if not isinstance(data, dict):
        raise ConfigError(f"site {name} is not a mapping", "write lines such as program: engine")
    for key in data:
        if key not in KEYS:
            raise ConfigError(f"site {name}: unknown key {key!r}", nearest(key, KEYS))
    _check_batch(data.get("batch"), name)
    return data


def _check_batch(batch: Any, name: str) -> None:
    if batch is None:
        return
    if not isinstance(batch, dict):
        raise ConfigError(f"site {name}: batch is not a mapping", "write lines such as qos: regular below it")
    for key in batch:
        if key not in BATCH_KEYS:
            raise ConfigError(f"site {name}: batch: unknown key {key!r}", nearest(key, BATCH_KEYS))


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` or, where nothing is near, the list of what is known."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def config_folder() -> Path:
    """``configs/`` inside the installed package, or at the top of a source tree."""
    package = Path(diffrun.__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parents[1] / "configs"


def names() -> list[str]:
    """The sites that come with diffrun."""
    return sorted(path.stem for path in (config_folder() / "sites").glob("*.yaml"))


def read(site: str) -> dict[str, Any]:
    """The settings of a site, by name or by the path of a YAML file.

    Raises
    ------
    ConfigError
        If there is no such site, or its file is not a good one.
    """
    if site.endswith((".yaml", ".yml")):
        path = Path(site).expanduser()
    elif site in names():
        path = config_folder() / "sites" / f"{site}.yaml"
    else:
        raise ConfigError(f"unknown site {site!r}", nearest(site, names()) + " (or give a .yaml file)")
    try:
        if not path.is_file():
            raise ConfigError(
                f"site {site!r} is not a file", "give a YAML file, or a name of " + ", ".join(names())
            )
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigError(f"site {site!r} is larger than {_LARGEST // 1024} KiB", "give a site file")
        return parse(data.decode("utf-8"), site)
    except UnicodeDecodeError as error:
        raise ConfigError(f"site {site!r} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read site {site!r}: {error}") from None
