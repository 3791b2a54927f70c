# SPDX-License-Identifier: BSD-3-Clause
"""Who may import whom, what a module may not do, and how long it may be: read from the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffrun

PACKAGE = Path(diffrun.__file__).parent
GROUND = {"errors", "files", "repository", "threads", "verdict"}
PARTS = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir() if path.name[0] != "_"}
NOT_LAUNCHER = GROUND | {"cli", "configs", "containers", "engine", "py", "twinkles"}
#: Everything else is the launcher's.
LAUNCHER = PARTS - NOT_LAUNCHER
#: Part of the package -> the other parts that it may import.
MAY_IMPORT = {
    "errors": set(),
    "threads": set(),
    "verdict": set(),
    "files": {"errors", "threads"},
    "repository": GROUND,
    "twinkles": GROUND,
    "engine": GROUND,
    **dict.fromkeys(LAUNCHER, GROUND | LAUNCHER | {"twinkles"}),
    "cli": GROUND | LAUNCHER | {"twinkles"},
}
#: The launcher and the repository know no pixels.
NO_PIXELS = LAUNCHER | {"cli", "errors", "repository", "verdict"}
PIXEL_LIBRARIES = {"numpy", "scipy", "astropy", "numba", "PIL"}

SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = [path for path in SOURCES if not {"configs", "containers"} & set(path.relative_to(PACKAGE).parts)]
CHECKOUT = Path(__file__).resolve().parents[2]
ALL_SOURCES = MODULES + sorted(
    path for folder in ("tests", "ci") for path in (CHECKOUT / folder).rglob("*.py")
)


def part_of(path: Path) -> str:
    """The first name below ``diffrun``; the package's own ``__init__`` is ``diffrun``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "diffrun" if parts == ("__init__",) else parts[0]


def imported(path: Path) -> Iterator[str]:
    """Every module imported anywhere in a source, in functions too, by its full name."""
    package = ("diffrun", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module or "")))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else CHECKOUT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_only_what_it_may(path: Path) -> None:
    part = part_of(path)
    parts = {full.split(".")[1] for full in imported(path) if full.startswith("diffrun.")}
    allowed = MAY_IMPORT.get(part, set()) | {part, "__version__"}
    assert parts <= allowed, f"{part} must not import {sorted(parts - allowed)}"


@pytest.mark.parametrize("path", [p for p in MODULES if part_of(p) in NO_PIXELS], ids=name)
def test_launcher_and_repository_know_no_pixels(path: Path) -> None:
    roots = {full.split(".")[0] for full in imported(path)}
    assert not roots & PIXEL_LIBRARIES


def loaded_by(code: str) -> set[str]:
    """The modules loaded after running code in a fresh interpreter."""
    report = "import sys; print('LOADED', *sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True, timeout=60
    )
    line = next(line for line in run.stdout.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "code",
    [
        "import diffrun",
        "import diffrun.repository.gen2, diffrun.repository.paths, diffrun.repository.dataid",
        "import diffrun.twinkles",
        "import diffrun.launch, diffrun.files.fits",
        "import sys, diffrun.cli\n"
        "sys.argv = ['diffrun', '--help']\n"
        "try:\n    diffrun.cli.main()\nexcept SystemExit as stop:\n    assert not stop.code",
    ],
    ids=["package", "repository", "twinkles", "launch", "help"],
)
def test_starts_without_pixel_libraries(code: str) -> None:
    assert not loaded_by(code) & PIXEL_LIBRARIES


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the text of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


#: What would hand a user's text to a shell, or run what a file holds.
FORBIDDEN = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "eval",
    "exec",
    "pickle.load",
    "pickle.loads",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
}


@pytest.mark.parametrize("path", ALL_SOURCES, ids=name)
def test_no_shell_and_nothing_executed(path: Path) -> None:
    for called, node in calls(ast.parse(path.read_text(encoding="utf-8"))):
        if called in FORBIDDEN and not (called == "yaml.load" and _names_a_loader(node)):
            raise AssertionError(f"line {node.lineno}: {called}")
        for keyword in node.keywords:
            false = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            assert keyword.arg != "shell" or false, f"line {node.lineno}: shell="


def _names_a_loader(node: ast.Call) -> bool:
    """Whether a ``yaml.load`` call names its own loader; the loaders themselves are tested beside them."""
    return len(node.args) == 2 or any(keyword.arg == "Loader" for keyword in node.keywords)


@pytest.mark.parametrize("path", ALL_SOURCES, ids=name)
def test_source_can_be_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        return
    assert "SPDX-License-Identifier: BSD-3-Clause" in " ".join(lines[:2])
    assert len(lines) <= 400 or not path.is_relative_to(PACKAGE)
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.body[0].lineno + 1  # a signature of options may be long
            assert length < 70, f"{node.name}: a body of {length} lines"
