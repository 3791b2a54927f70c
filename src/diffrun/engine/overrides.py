# SPDX-License-Identifier: BSD-3-Clause
"""Overrides of the configuration: files read as data, never executed, and ``NAME=VALUE`` arguments.

A file may hold these statements and nothing else, in any order and number::

    config.a.b = literal
    from lsst.package.module import SomeTask
    config.a.retarget(SomeTask)

``root`` may stand for ``config``, and ``['name']`` for ``.name`` where there are alternatives. What the stack
writes into ``config/deepDiff.py`` is of this form too, but for its first lines: ``import lsst...``, which is
passed over, and an ``assert`` that names the task, which is compared as text.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsst.pex.config import ConfigChoiceField, ListField

from diffrun.engine import configtree
from diffrun.engine.config import CONFIG_CLASS, ImageDifferenceConfig
from diffrun.engine.targets import TARGETS, find_target, target_name
from diffrun.errors import ConfigError

_LARGEST_FILE = 512 * 1024
_ROOTS = ("config", "root")
_REMEDY = (
    "only 'config.name = literal', 'from lsst... import Task' and 'config.name.retarget(Task)' are read; "
    "nothing in a configuration file is executed"
)


@dataclass(frozen=True)
class Assignment:
    """One value for one field.

    Attributes
    ----------
    path : `str`
        Without the leading ``config.``.
    value
        A literal, or for an argument the text as typed.
    origin : `str`
        Where it was set: ``file:line`` or the option.
    typed : `bool`
        Whether ``value`` is the text of an argument: taken as it is if the field is a string.
    """

    path: str
    value: Any
    origin: str
    typed: bool = False


@dataclass(frozen=True)
class Retarget:
    """Another task, by its dotted name in the stack, for one subtask."""

    path: str
    target: str
    origin: str


Override = Assignment | Retarget


def read_argument(text: str, option: str) -> Assignment:
    """``NAME=VALUE`` of ``-c``; `ConfigError` if it is not of that form."""
    name, _, value = text.partition("=")
    if not value or not name:
        raise ConfigError(f"{option} value {text} must be in form name=value")
    return Assignment(name, value, option, typed=True)


def apply(config: ImageDifferenceConfig, overrides: Iterable[Override]) -> dict[str, str]:
    """Set what the overrides say, in their order.

    Returns
    -------
    origins : `dict` [`str`, `str`]
        Where each field that was set got its value.

    Raises
    ------
    ConfigError
        Naming the origin, the field and the value.
    """
    origins: dict[str, str] = {}
    for override in overrides:
        try:
            if isinstance(override, Retarget):
                configtree.subtask(config, override.path).retarget(TARGETS[override.target])
                origins[override.path] = override.origin
            else:
                configtree.assign(config, override.path, _value(config, override))
                origins[configtree.canonical(config, override.path)] = override.origin
        except ConfigError as error:
            raise ConfigError(f"{override.origin}: {error.message}", error.remedy) from None
    return origins


def _value(config: ImageDifferenceConfig, override: Assignment) -> Any:
    if not override.typed:
        return override.value
    field = configtree.field_of(config, override.path)
    if field is None or isinstance(field, ConfigChoiceField):
        single = not override.value.startswith("[")
    else:
        single = field.dtype is str and not isinstance(field, ListField)
    if single:
        return override.value
    try:
        return ast.literal_eval(override.value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise ConfigError(f"cannot parse {override.value!r} as a value for {override.path}") from None


def read_configfile(path: Path) -> list[Override]:
    """The overrides that a configuration file holds.

    Raises
    ------
    ConfigError
        Naming the file and the line, if it cannot be read or holds anything else.
    """
    source = _source(path)
    try:
        return list(_Reader(str(path), source).statements(_parse(path, source)))
    except (RecursionError, MemoryError):
        raise ConfigError(f"cannot load config file {str(path)!r}: an expression without end") from None


def _source(path: Path) -> str:
    try:
        if not path.is_file():
            raise ConfigError(f"cannot load config file {str(path)!r}: no such file")
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot load config file {str(path)!r}: {error.strerror}") from None
    if len(data) > _LARGEST_FILE:
        raise ConfigError(f"cannot load config file {str(path)!r}: larger than {_LARGEST_FILE} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"cannot load config file {str(path)!r}: it is not text in UTF-8") from None


def _parse(path: Path, source: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # a name that is no path: Python would open it to show the line of an error
            return ast.parse(source, "<configfile>")
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno or 1}: {error.msg}") from None
    except ValueError as error:
        raise ConfigError(f"cannot load config file {str(path)!r}: {error}") from None


class _Reader:
    """Turns statements into overrides; knows the tasks imported so far."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.lines = re.split("\r\n|\r|\n", source)  # as Python counts them
        self.tasks: dict[str, type] = {}

    def statements(self, module: ast.Module) -> Iterator[Override]:
        """The overrides of a file in their order; `ConfigError` for a statement of any other form."""
        for statement in module.body:
            origin = f"{self.name}:{statement.lineno}"
            match statement:
                case ast.Assign(targets=[target]) if isinstance(target, (ast.Attribute, ast.Subscript)):
                    yield Assignment(self.path(target, origin), self.literal(statement.value, origin), origin)
                case ast.ImportFrom(module=str(home), names=names, level=0):
                    self.remember(home, names, origin)
                case ast.Expr(value=ast.Call() as call):
                    yield self.retarget(call, origin)
                case ast.Import(names=names) if all(
                    name.name.startswith("lsst.") and name.asname is None for name in names
                ):
                    continue
                case ast.Assert():
                    self.check_task(statement, origin)
                case ast.Expr(value=ast.Constant(value=str())):
                    continue
                case _:
                    raise self.refused(statement, origin)

    def refused(self, node: ast.stmt | ast.expr, origin: str) -> ConfigError:
        """The error that shows the line of something that is not read."""
        text = self.lines[node.lineno - 1].strip()
        return ConfigError(f"{origin}: {text[:80]!r} is code", _REMEDY)

    def path(self, node: ast.expr, origin: str) -> str:
        """``config.a.b`` -> ``a.b``; nothing but names and quoted keys on the way."""
        root, inner = node, node
        while isinstance(inner, (ast.Attribute, ast.Subscript)):
            if isinstance(inner, ast.Subscript) and not (
                isinstance(inner.slice, ast.Constant) and isinstance(inner.slice.value, str)
            ):
                raise self.refused(node, origin)
            root, inner = inner, inner.value
        if not isinstance(inner, ast.Name) or inner.id not in _ROOTS or not isinstance(root, ast.Attribute):
            raise self.refused(node, origin)
        return ast.unparse(node)[len(inner.id) + 1 :]

    def literal(self, node: ast.expr, origin: str) -> Any:
        """None, bool, int, float, str, a signed number, or a flat list or tuple of these."""
        match node:
            case ast.List(elts=items) | ast.Tuple(elts=items):
                if any(isinstance(item, (ast.List, ast.Tuple)) for item in items):
                    raise self.refused(node, origin)
                return [self.literal(item, origin) for item in items]
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=number)):
                if isinstance(number, (int, float)) and not isinstance(number, bool):
                    return -number if isinstance(sign, ast.USub) else number
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return value
        raise self.refused(node, origin)

    def remember(self, home: str, names: list[ast.alias], origin: str) -> None:
        """Know the tasks that an import names; `ConfigError` for one that the engine has no stand-in for."""
        for name in names:
            if name.asname is not None:
                raise ConfigError(f"{origin}: 'as {name.asname}' is not read", _REMEDY)
            target = find_target(home, name.name)
            if target is None:
                raise ConfigError(
                    f"{origin}: the engine has no stand-in for {home}.{name.name}", "leave out what needs it"
                )
            self.tasks[name.name] = target

    def retarget(self, call: ast.Call, origin: str) -> Retarget:
        """``config.a.retarget(Task)``, or with ``target=`` and ``ConfigClass=`` as the stack writes it."""
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        function = call.func
        named = keywords.pop("target", None)
        config_class = keywords.pop("ConfigClass", None)
        arguments = call.args if named is None else [named, *call.args]
        if (
            not isinstance(function, ast.Attribute)
            or function.attr != "retarget"
            or not isinstance(function.value, (ast.Attribute, ast.Subscript))
            or keywords
            or len(arguments) != 1
        ):
            raise self.refused(call, origin)
        path = self.path(function.value, origin)
        target = self.task(arguments[0], origin)
        expected = f"{target.__module__}.{target.ConfigClass.__name__}"  # type: ignore[attr-defined]
        if config_class is not None and ast.unparse(config_class) != expected:
            raise ConfigError(f"{origin}: the ConfigClass of {target_name(target)} is {expected}")
        return Retarget(path, target_name(target), origin)

    def task(self, node: ast.expr, origin: str) -> type:
        """The stand-in that an expression names: a task imported before, or one with its whole path."""
        name = ast.unparse(node)
        if isinstance(node, ast.Name) and name in self.tasks:
            return self.tasks[name]
        if isinstance(node, ast.Attribute):
            home, _, short = name.rpartition(".")
            target = find_target(home, short)
            if target is not None:
                return target
        raise ConfigError(f"{origin}: the engine has no stand-in for {name[:80]}", _REMEDY)

    def check_task(self, statement: ast.Assert, origin: str) -> None:
        """Refuse a file of another task, by the ``assert`` that the stack writes into its first lines."""
        test = ast.unparse(statement.test)
        for comparison in ("==", "is"):
            head = f"type(config) {comparison} "
            if test == head + CONFIG_CLASS:
                return
            if test.startswith(head):
                raise ConfigError(f"{origin}: this is a configuration of {test.removeprefix(head)[:80]}")
        raise self.refused(statement, origin)
