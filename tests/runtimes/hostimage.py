# SPDX-License-Identifier: BSD-3-Clause
"""An image made of this machine's own programs and of the engine under test, and the stand-ins that enter it.

Nothing is copied: an image is a table of what lies where, and the stand-ins mount it read-only. It has the
entry command of `containers/`, and the kernels that were compiled in it before.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import diffrun
from diffrun.sites import config_folder

CHECKOUT = Path(__file__).resolve().parents[2]
STANDINS = CHECKOUT / "tests" / "standins"
IDENTITY = "5b" * 32
_TOP = ("bin", "etc", "lib", "lib32", "lib64", "sbin", "usr", "var")
_PREFIX = "/opt/python"
_SOURCE = "/opt/source"
_SETUP = """\
if [ -d /opt/diffrun/kernels ]; then
    cp -R --preserve=timestamps /opt/diffrun/kernels "$scratch/kernels"
fi
export NUMBA_CACHE_DIR=$scratch/kernels
"""


def tree(folder: Path, program: str | None = None) -> dict[str, str]:
    """The image, target to host path; `folder` takes the few files that are made.

    With ``program``, a shell script, that is what the image calls imageDifference.py.
    """
    source = Path(diffrun.__file__).resolve().parents[1]
    base = Path(sys.base_prefix)
    made = {f"/{name}": f"/{name}" for name in _TOP if Path("/", name).exists()}
    if not base.is_relative_to("/usr"):
        made[str(base)] = str(base)
    made[_PREFIX] = sys.prefix
    made["/usr/local/bin"] = str(_programs(folder / "bin", base, program))
    made["/opt/diffrun"] = str(folder / "diffrun")
    if not source.is_relative_to(sys.prefix):
        made[_SOURCE] = str(source.parent)
    (folder / "diffrun").mkdir()
    (folder / "diffrun" / "setup.sh").write_text(_SETUP)
    return made


def _programs(folder: Path, base: Path, program: str | None) -> Path:
    folder.mkdir(parents=True)
    if base == Path("/usr/local"):  # the folder of this Python's own program, which ours hides
        shutil.copytree("/usr/local/bin", folder, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    shutil.copy2(CHECKOUT / "containers" / "diffrun-entry", folder / "diffrun-entry")
    engine = f'PYTHONPATH={_SOURCE}/src exec {_PREFIX}/bin/python3 -s -P -m diffrun.engine "$@"'
    (folder / "imageDifference.py").write_text(f"#!/bin/sh\n{program or engine}\n")
    for name in ("diffrun-entry", "imageDifference.py"):
        (folder / name).chmod(0o755)
    return folder


def shifter_site(
    image: dict[str, str] | str, visible: list[Path], path: str = "/usr/local/bin:/usr/bin:/bin"
) -> dict[str, Any]:
    """A site file of the stand-in for Shifter, with the one image ``docker:diffrun-engine:1``.

    The image is a table, or the folder in which it is unpacked; ``path`` is its PATH.
    """
    known = {IDENTITY: {"tree": image, "env": {"PATH": path}}}
    return {
        "images": {"tags": {"docker:diffrun-engine:1": IDENTITY}, "ids": known},
        "site_fs": sorted({str(path.resolve()) for path in (*visible, config_folder())}),
        "allow_root": True,
        "setup_seconds": 0.1,
    }


def standin(folder: Path, name: str, site: dict[str, Any]) -> Path:
    """Put a stand-in's program into a folder for `PATH`; returns its site file."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / f"{name}.json"
    table.write_text(json.dumps(site))
    program = {"singularity": "apptainer"}.get(name, name)
    words = [sys.executable, "-E", "-s", str(STANDINS / f"{program}.py"), str(table)]
    (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    (folder / name).chmod(0o755)
    return table
