# SPDX-License-Identifier: BSD-3-Clause
"""A small image with the project's own entry command: this machine's shell, its libraries, and one script.

It is a real container image in all but content: what runtimes do with it is what they do with any other.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

#: What the entry command calls, and what the probes call.
PROGRAMS = (
    "bash", "cat", "chmod", "chown", "cp", "env", "head", "id", "kill", "ln", "ls", "mkdir", "mkfifo",
    "mknod", "mktemp", "rm", "sh", "sleep", "touch", "truncate", "unshare",
)  # fmt: skip
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
ENTRY = Path(__file__).resolve().parents[2] / "containers" / "diffrun-entry"


def tar(script: str, comment: str = "") -> bytes:
    """A root file system, as ``docker import`` takes it; ``imageDifference.py`` is the bash script given."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as root:
        for name in ("tmp", "output", "config", "proc", "dev", "sys", "etc", "usr/local/bin", "opt"):
            _folder(root, name)
        for path in sorted(_needed()):
            _file(root, str(path).lstrip("/"), path.resolve().read_bytes())
        _file(root, "usr/local/bin/diffrun-entry", ENTRY.read_bytes())
        _file(root, "usr/local/bin/imageDifference.py", f"#!/bin/bash\n# {comment}\n{script}\n".encode())
    return made.getvalue()


def _needed() -> set[Path]:
    found: set[Path] = set()
    for name in PROGRAMS:
        program = shutil.which(name, path="/usr/bin:/bin")
        assert program, f"this machine has no {name}"
        said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        found |= {Path(program), *(Path(library) for library in _LIBRARY.findall(said))}
    return {Path("/bin") / path.name if path.parent == Path("/usr/bin") else path for path in found}


def _folder(root: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
    root.addfile(entry)


def _file(root: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o755
    root.addfile(entry, io.BytesIO(data))
