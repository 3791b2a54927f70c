# SPDX-License-Identifier: BSD-3-Clause
"""A stand-in for ``apptainer``: ``python apptainer.py SITE.json ARGUMENTS``.

SITE.json has ``registry`` (``{docker://NAME: image}``) and ``log``. An image file, which would be a SIF, is
the JSON of ``{"standin": "sif", "tree": ..., "env": {...}, "labels": {...}}`` here.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from apptainermounts import Refused, parse_bind, parse_mount
from view import Bind, View, enter, found_program, set_up_undisturbed

VERSION = "apptainer version 1.3.0-standin"
_FLAGS = {
    "containall": False, "cleanenv": False, "no-home": False, "no-mount": True, "net": False, "network": True,
    "no-privs": False, "drop-caps": True, "security": True, "memory": True, "pids-limit": True, "cpus": True,
    "pwd": True, "cwd": True, "env": True, "env-file": True, "no-init": False, "writable-tmpfs": False,
    "compat": False, "userns": False, "no-umask": False, "no-eval": False, "bind": True, "mount": True,
}  # fmt: skip
_SHORT = {"C": "containall", "e": "cleanenv", "n": "net", "u": "userns", "B": "bind"}
_GLOBAL = ("--quiet", "-q", "--debug", "-d", "--silent", "-s", "--verbose", "-v", "--nocolor")
_PREFIXES = ("APPTAINER_", "SINGULARITY_")


def fatal(text: str) -> NoReturn:
    """Apptainer's own failures."""
    print(f"FATAL:   {text}", file=sys.stderr, flush=True)
    raise SystemExit(255)


def flags(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Flags up to the first other word."""
    found: list[tuple[str, str]] = []
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.lstrip("-").partition("=")
        name = name if word.startswith("--") else _SHORT.get(name, f"-{name}")
        if name not in _FLAGS:
            print(f'Error for command "exec": unknown flag: {word}', file=sys.stderr)
            raise SystemExit(255)
        if _FLAGS[name] and not equals:
            if not rest:
                print(f'Error for command "exec": flag needs an argument: {word}', file=sys.stderr)
                raise SystemExit(255)
            value = rest.pop(0)
        if _FLAGS[name] or value != "false":
            found.append((name, value))
    return found, rest


def image(path: str) -> dict[str, Any]:
    """The image of a file."""
    try:
        table: dict[str, Any] = json.loads(Path(path).read_text())
        if table["standin"] == "sif":
            return table
    except (OSError, ValueError, KeyError, TypeError):
        pass
    fatal(f"could not open image {path}: image format not recognized or no such file")


def from_environment() -> list[tuple[str, str]]:
    """The variables that stand for flags."""
    found = []
    for prefix in _PREFIXES:
        for name, flag in (("BIND", "bind"), ("BINDPATH", "bind"), ("MOUNT", "mount")):
            if os.environ.get(prefix + name):
                found.append((flag, os.environ[prefix + name]))
        for flag, takes in _FLAGS.items():
            if not takes and os.environ.get(prefix + flag.upper().replace("-", "_")):
                found.append((flag, ""))
    return found


def root(given: list[tuple[str, str]], contained: bool, tree: Any) -> View:
    """The container's root, with all that the flags mount."""
    view = View.of_image(tree)
    names = {name for name, _ in given}
    if contained:
        view.bind(None, "/tmp")
        view.bind(None, "/var/tmp")
    else:
        home = [] if "no-home" in names else [str(Path.home())]
        for folder in ("/tmp", "/var/tmp", "/sys", "/dev", *home, str(Path.cwd())):
            view.bind(Path(folder), folder)
    for name, value in given:
        try:
            binds = parse_bind(value) if name == "bind" else parse_mount(value) if name == "mount" else []
        except Refused as error:
            fatal(f"while parsing {name} {value!r}: {error}")
        for each in binds:
            if not each.source or not each.source.exists():
                fatal(f"container creation failed: mount {each.source}->{each.target} error: no such file")
            view.make_room(each.target)
            view.binds.append(Bind(each.source, each.target, each.readonly))
    return view


def variables(given: list[tuple[str, str]], clean: bool, table: dict[str, Any]) -> dict[str, str]:
    """The payload's environment."""
    passed = {} if clean else os.environ
    host = {name: value for name, value in passed.items() if not name.startswith(_PREFIXES)}
    found = host | {"HOME": str(Path.home()), "PATH": "/usr/local/bin:/usr/bin:/bin"} | table.get("env", {})
    for name, value in os.environ.items():
        for prefix in ("APPTAINERENV_", "SINGULARITYENV_"):
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = value
    for name, value in given:
        if name == "env":
            key, equals, text = value.partition("=")
            if not equals:
                fatal(f"invalid argument {value!r} for --env flag: {value} must be formatted as key=value")
            found[key] = text
    return found | {"APPTAINER_CONTAINER": "standin", "SINGULARITY_CONTAINER": "standin"}


def execute(words: list[str]) -> int:
    """``exec FLAGS IMAGE COMMAND``."""
    given, rest = flags(words)
    given = from_environment() + given
    if len(rest) < 2:
        print('Error for command "exec": requires at least 2 arg(s)', file=sys.stderr)
        return 255
    names = {name for name, _ in given}
    network = dict(given).get("network", "none" if "net" in names else "")
    if network not in ("", "none") and os.getuid():
        fatal(f"network {network} requires root or a configuration")
    table = image(rest[0])
    contained = bool(names & {"containall", "compat"})
    view = root(given, contained, table["tree"])
    environment = variables(given, contained or "cleanenv" in names, table)
    cwd = dict(given).get("pwd") or dict(given).get("cwd") or ("/" if contained else str(Path.cwd()))
    set_up_undisturbed(0)
    if not found_program(view, rest[1], environment["PATH"], cwd):
        fatal(f'"{rest[1]}": executable file not found in $PATH')
    apart = ["--proc", "/proc"]
    apart += ["--dev", "/dev", "--unshare-pid", "--unshare-ipc"] if contained else []
    apart += ["--unshare-net"] if "net" in names else []
    apart += [] if "writable-tmpfs" in names else ["--remount-ro", "/"]
    return enter(view, rest[1:], environment, cwd, apart)


def inspect(words: list[str]) -> int:
    """``inspect [FLAGS] IMAGE``, always in JSON."""
    table = image(words[-1])
    print(json.dumps({"data": {"attributes": {"labels": table.get("labels", {})}}, "type": "container"}))
    return 0


def pull(words: list[str], registry: dict[str, Any]) -> int:
    """``pull [--force] --name FILE docker://NAME``."""
    name = words[words.index("--name") + 1] if "--name" in words else words[0]
    if words[-1] not in registry:
        fatal(f"while making image from oci registry: {words[-1]}: manifest unknown")
    if Path(name).exists() and "--force" not in words:
        fatal(f"image file already exists: {name!r}: use --force to overwrite")
    Path(name).write_text(json.dumps(registry[words[-1]]))
    return 0


def main(argv: list[str]) -> int:
    """The command."""
    site = json.loads(Path(argv[0]).read_text())
    if site.get("log"):
        with Path(site["log"]).open("a") as file:
            file.write(json.dumps(["apptainer", *argv[1:]]) + "\n")
    words = argv[1:]
    while words and words[0] in _GLOBAL:
        words = words[1:]
    if words[:1] in (["--version"], ["version"]):
        print(VERSION)
        return 0
    if words[:1] == ["exec"]:
        return execute(words[1:])
    if words[:1] == ["inspect"] and len(words) > 1:
        return inspect(words[1:])
    if words[:1] == ["pull"] and len(words) > 1:
        return pull(words[1:], site.get("registry", {}))
    print(f'Error: unknown command "{" ".join(words[:1])}" for "apptainer"', file=sys.stderr)
    return 255


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
