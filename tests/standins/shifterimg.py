# SPDX-License-Identifier: BSD-3-Clause
"""A stand-in for ``shifterimg``: ``python shifterimg.py SITE.json [OPTIONS] MODE [TYPE:TAG]``.

In SITE.json ``gateway`` may say ``{"down": true}``, or ``{"pulls": {docker:NAME:TAG: [STATUS, ...]}}``.
"""

from __future__ import annotations

import sys
import time
from typing import NoReturn

import getopt_long
from getopt_long import NONE, REQUIRED
from shifter import Site, descriptor
from shiftervolumes import say

_LONG = {"help": NONE, "verbose": NONE, "user": REQUIRED, "group": REQUIRED}
_MODES = ("lookup", "pull", "pullnb", "images", "login", "expire", "autoexpire")
_PENDING = ("MISSING", "INIT", "PENDING", "PULLING", "EXAMINATION", "CONVERSION", "TRANSFER")


def usage(status: int) -> NoReturn:
    """The usage goes to standard output."""
    print("Usage:\n shifterimg [options] <mode> <type:tag>\n")
    raise SystemExit(status)


def lookup(site: Site, name: str) -> int:
    """Print the id, or nothing."""
    found = site.tags.get(name) or site.tags.get(f"{name}:latest")
    if found is None:
        return 1
    print(found)
    return 0


def pull(site: Site, name: str, verbose: bool) -> int:
    """READY and FAILURE both end with 0; an unknown name with 1."""
    states = site.gateway.get("pulls", {}).get(name)
    if states is None:
        return 1
    for state in states:
        _say_state(name, state, verbose)
    print()
    return 0


def pull_once(site: Site, name: str, verbose: bool) -> int:
    """0 while it is pending, 1 when it has ended."""
    states = site.gateway.get("pulls", {}).get(name)
    if states is None:
        return 1
    _say_state(name, states[0], verbose)
    return 0 if states[0] in _PENDING else 1


def _say_state(name: str, state: str, verbose: bool) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%S")
    start, end = ("", "\n") if verbose else ("\r\x1b[2K", "")
    print(f"{start}{now} Pulling Image: {name}, status: {state}", end=end)


def images(site: Site) -> int:
    """A line for each tag."""
    for name, ident in sorted(site.tags.items()):
        kind, _, tag = name.partition(":")
        print(f"{'standin':<10} {kind:<10} {'READY':<8} {ident[:10]}   2016-11-01T00:00:00 {tag:<30}")
    return 0


def main(argv: list[str]) -> int:
    """Parse and answer."""
    site = Site(argv[0])
    site.note(["shifterimg", *argv[1:]])
    try:
        found, words = getopt_long.parse(argv[1:], _LONG, {"h": "help", "v": "verbose"})
    except getopt_long.Wrong as error:
        say(f"shifterimg: {error}\nMissing an argument!")
        usage(1)
    if any(name == "help" for name, _ in found):
        usage(0)
    if not words:
        say("Must specify mode (images, lookup, pull)!")
        usage(1)
    if words[0] not in _MODES:
        say("Invalid mode specified")
        usage(1)
    image = descriptor(words[1], site) if len(words) > 1 else None
    if len(words) > 1 and image is None:
        say("FAILED to parse image descriptor. Try specifying both the type and descriptor")
        usage(1)
    if site.gateway.get("down"):
        print("ERROR: failed to contact the image gateway.")
        return 1
    name = ":".join(image) if image else ""
    verbose = any(name == "verbose" for name, _ in found)
    if words[0] == "images":
        return images(site)
    if words[0] == "lookup":
        return lookup(site, name)
    return pull(site, name, verbose) if words[0] == "pull" else pull_once(site, name, verbose)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
