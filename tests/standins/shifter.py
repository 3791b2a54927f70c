# SPDX-License-Identifier: BSD-3-Clause
"""A stand-in for the program ``shifter`` of NERSC: ``python shifter.py SITE.json ARGUMENTS``.

SITE.json has ``generation`` (16.08, 18.03, 22.02), ``images`` (``tags``: ``{docker:NAME:TAG: id}``, ``ids``:
``{id: {tree, env, entry, cmd, workdir}}``), ``site_fs``, ``site_env``, ``modules`` (``{name: {env}}``),
``default_image_type``, ``allow_root``, ``log`` and ``setup_seconds``.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import getopt_long
import shiftervolumes
from getopt_long import NONE, OPTIONAL, REQUIRED
from shiftervolumes import Refused, say
from view import View, enter, found_program, set_up_undisturbed

_TYPES = ("docker", "custom", "id", "local")
_OLD = {"help": NONE, "volume": REQUIRED, "verbose": NONE, "image": REQUIRED, "entrypoint": OPTIONAL}
_LONG = {
    "16.08": {**_OLD, "env": NONE},
    "18.03": {**_OLD, "entry": OPTIONAL, "workdir": OPTIONAL, "module": REQUIRED, "env": NONE},
    "22.02": {
        **_OLD,
        "entry": OPTIONAL,
        "workdir": OPTIONAL,
        "module": REQUIRED,
        "env": REQUIRED,
        "env-file": REQUIRED,
        "clearenv": NONE,
    },
}
_SHORT_OLD = {"h": "help", "n": "nothing", "v": "verbose", "V": "volume", "i": "image", "e": "ignored"}
_SHORT = {
    "16.08": _SHORT_OLD,
    "18.03": {**_SHORT_OLD, "w": "workdir", "m": "module"},
    "22.02": {**_SHORT_OLD, "e": "env", "E": "clearenv", "w": "workdir", "m": "module"},
}
_ENTRY_OPTIONS = ("entry", "entrypoint")


class Site:
    """The site's configuration, as udiRoot.conf has it for the real program."""

    def __init__(self, path: str) -> None:
        table = json.loads(Path(path).read_text())
        self.generation: str = table.get("generation", "22.02")
        self.tags: dict[str, str] = table["images"].get("tags", {})
        self.ids: dict[str, dict[str, Any]] = table["images"].get("ids", {})
        self.site_fs: list[str] = table.get("site_fs", [])
        self.site_env: dict[str, str] = table.get("site_env", {"SHIFTER_RUNTIME": "1"})
        self.modules: dict[str, dict[str, Any]] = table.get("modules", {})
        self.default_type: str | None = table.get("default_image_type")
        self.allow_root: bool = table.get("allow_root", False)
        self.setup_seconds: float = table.get("setup_seconds", 0.0)
        self.log: str | None = table.get("log")
        self.gateway: dict[str, Any] = table.get("gateway", {})

    def note(self, argv: list[str]) -> None:
        """Write the argv down for the tests."""
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(json.dumps(argv) + "\n")


class Options:
    """What the command line and the environment ask for."""

    def __init__(self) -> None:
        self.image: tuple[str, str] | None = None
        self.request = ""
        self.volumes: str | None = None
        self.entry: str | None = None
        self.use_entry = False
        self.workdir: str | None = None
        self.use_workdir = False
        self.env: list[str] = []
        self.env_file: str | None = None
        self.clear = False
        self.modules = ""
        self.words: list[str] = []


def usage(status: int) -> NoReturn:
    """The usage goes to standard output, whatever the status."""
    print("Usage:\nshifter [options] [command] ...\n")
    raise SystemExit(status)


def descriptor(text: str, site: Site) -> tuple[str, str] | None:
    """``type:desc``."""
    head, colon, tail = text.partition(":")
    if colon and head in _TYPES:
        return (head, tail) if tail else None
    return (site.default_type, text) if text and site.default_type else None


def from_environment(environment: Mapping[str, str], site: Site) -> Options:
    """The variables that the program reads; ``SHIFTER`` is none of them."""

    def read(name: str) -> str | None:
        return environment.get(f"SHIFTER_{name}", environment.get(f"SLURM_SPANK_SHIFTER_{name}"))

    options = Options()
    kind, tag, request = read("IMAGETYPE"), read("IMAGE"), read("IMAGEREQUEST")
    if kind and tag:
        options.image = (kind, tag)
    elif request:
        options.image = descriptor(request, site)
    options.request = request or ""
    options.volumes = read("VOLUME")
    options.modules = read("MODULE") or ""
    return options


def from_words(options: Options, words: list[str], site: Site) -> None:
    """The command line, over the environment."""
    try:
        found, options.words = getopt_long.parse(
            words, _LONG[site.generation] | {"ignored": REQUIRED}, _SHORT[site.generation]
        )
    except getopt_long.Wrong as error:
        say(f"shifter: {error}\nMissing an argument!")
        usage(1)
    given = False
    for name, value in found:
        if name == "help":
            usage(0)
        elif name == "image":
            options.image, options.request = descriptor(str(value), site), str(value)
            if options.image is None:
                say('Incorrect format for image identifier: need "image_type:image_desc"')
                usage(1)
        elif name == "volume":
            options.volumes = f"{options.volumes};{value}" if given else str(value)
            given = True
        elif name in _ENTRY_OPTIONS:
            options.entry, options.use_entry = value, True
        elif name == "workdir":
            options.workdir, options.use_workdir = value, True
        elif name == "env" and value is not None:
            before, equals, after = value.partition("=")
            if not (before and equals and after):
                say(f"Improperly formatted environment variable: {value}")
                raise SystemExit(1)
            options.env.append(value)
        elif name == "env-file":
            options.env_file = value
        elif name == "clearenv":
            options.clear = True
        elif name == "module":
            options.modules = str(value)


def identifier(options: Options, site: Site) -> str:
    """The id of the image, by the gateway unless it is given."""
    if options.image is None:
        say("No image specified, or specified incorrectly!")
        usage(1)
    kind, tag = options.image
    if kind in ("id", "local"):
        return tag
    found = site.tags.get(f"{kind}:{tag}") or site.tags.get(f"{kind}:{tag}:latest")
    if found is None or site.gateway.get("down"):
        say(f"FAILED to lookup {kind} image {tag}")
        usage(1)
    return found


def payload(options: Options, image: dict[str, Any]) -> list[str]:
    """The words to run: a command, or the image's own if that is asked for."""
    if not options.use_entry:
        return options.words or ["/bin/sh"]
    entry = [options.entry] if options.entry else list(image.get("entry") or [])
    return [*entry, *(options.words or list(image.get("cmd") or []))]


def user() -> str | None:
    """The caller's name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None


def container(site: Site, image: dict[str, Any], volumes: list[shiftervolumes.Volume]) -> View:
    """The container's root, before and with the user's volumes."""
    view = View.of_image(image["tree"])
    name, uid, gid = str(user()), os.getuid(), os.getgid()
    view.write(f"{name}:x:{uid}:{gid}::/:/bin/sh\n", "/etc/passwd")
    view.write(f"{name}:x:{gid}:\n", "/etc/group")
    for folder in ("/proc", "/sys", "/dev", "/tmp", "/var/tmp"):
        view.bind(Path(folder), folder)
    for folder in site.site_fs:
        if shiftervolumes.exists(folder):
            view.bind(Path(folder), folder)
    before = View(list(view.binds), dict(view.links))
    shiftervolumes.mount(view, volumes, before, site.site_fs, site.generation)
    note = {"identifier": image["id"], "user": name, "volMap": [vars(v) for v in volumes]}
    view.write(json.dumps(note), "/var/shifterConfig.json")
    return view


def variables(options: Options, site: Site, image: dict[str, Any], view: View, ident: str) -> dict[str, str]:
    """The payload's environment, in Shifter's order: what comes later wins."""
    found = {} if options.clear else dict(os.environ)
    for name in list(found):
        if name.startswith(("LD_", "RTLD_")) or name == "TMPDIR":
            del found[name]
    if options.request:
        found["SHIFTER_IMAGEREQUEST"] = options.request
    found["SHIFTER_IMAGE"] = ident
    found |= {name: value for name, value in image.get("env", {}).items() if value}
    if options.env_file is not None:
        found |= from_file(options.env_file, view)
    found |= dict(word.split("=", 1) for word in options.env)
    for module in chosen_modules(options, site):
        found |= site.modules[module].get("env", {})
    return found | site.site_env


def from_file(path: str, view: View) -> dict[str, str]:
    """An environment file, read from the inside."""
    place = view.real(path)
    host = view.on_host(place) if place else None
    found = {}
    if host is None or not host.is_file():
        say(f"Failed to process env-file {path}")
        raise SystemExit(1)
    for line in host.read_text().splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not (name and equals and value):
            say(f"Failed to process env-file {path}")
            raise SystemExit(1)
        found[name] = value
    return found


def chosen_modules(options: Options, site: Site) -> list[str]:
    """Names of modules; ``none`` turns the defaults off."""
    names = [name for name in options.modules.split(",") if name and name != "none"]
    for name in names:
        if name not in site.modules:
            say(f"Invalid shifter module selection: {options.modules}")
            usage(1)
    return names


def main(argv: list[str]) -> int:
    """Parse, refuse, make the container and run."""
    site = Site(argv[0])
    site.note(["shifter", *argv[1:]])
    options = from_environment(os.environ, site)
    from_words(options, argv[1:], site)
    ident = identifier(options, site)
    try:
        volumes = shiftervolumes.parse(options.volumes or "", site.generation)
    except Refused as error:
        say(f"{error}\nFailed to parse volume map options")
        usage(1)
    chosen_modules(options, site)
    if ident not in site.ids:
        say("FAILED to find requested image.")
        return 1
    if user() is None or (os.getuid() == 0 and not site.allow_root):
        say("Failed to lookup username or attempted to run as root.\n")
        return 1
    return run(site, options, site.ids[ident] | {"id": ident}, volumes)


def run(site: Site, options: Options, image: dict[str, Any], volumes: list[shiftervolumes.Volume]) -> int:
    """Make the container and run the payload in it."""
    set_up_undisturbed(site.setup_seconds)
    words = payload(options, image)
    if not words:
        say("Error calculating run arguments")
        return 1
    try:
        view = container(site, image, volumes)
    except Refused as error:
        say(f"{error}\nFAILED to setup user-requested mounts.\nFAILED to setup image.")
        return 1
    workdir = options.workdir or (image.get("workdir") if options.use_workdir else None) or str(Path.cwd())
    place = view.real(workdir)
    if place is None or not view.is_folder(place):
        say(f"Failed to switch to working dir: {workdir}, staying in /")
        workdir = "/"
    environment = variables(options, site, image, view, image["id"])
    if not found_program(view, words[0], environment.get("PATH", "/usr/bin:/bin"), workdir):
        say(f"shifter: {words[0]}: No such file or directory")
        return 127
    return enter(view, words, environment, workdir, ["--remount-ro", "/"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
