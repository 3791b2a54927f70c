# SPDX-License-Identifier: BSD-3-Clause
"""Pack a simulated repository into the files that the package ships."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from astropy.io import fits
from products import Products
from visits import READ_NOISE, VISITS, data_id

from diffrun.repository.paths import relative
from diffrun.twinkles import packing


def pack(root: Path, folder: Path, made: Mapping[int, Products]) -> None:
    """One compressed tar a visit (calexp taken apart), and ``common.tar.xz`` with all the other files."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.tar.xz"):
        old.unlink()
    calexps = {}
    for number, products in made.items():
        name = str(relative("calexp", data_id(VISITS[number])))
        calexps[name] = number
        _store(folder / f"{number}.tar.xz", _calexp(root, name, products))
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    _store(folder / "common.tar.xz", {n: (root / n).read_bytes() for n in files if n not in calexps})


def _calexp(root: Path, name: str, products: Products) -> dict[str, bytes]:
    """The parts of a calexp as members of a tar, and the numbers that put them together."""
    content = (root / name).read_bytes()
    with fits.open(io.BytesIO(content)) as hdus:
        image_at, variance_at = (hdus[i].fileinfo()["datLoc"] for i in (1, 3))
    parts = packing.take_apart(content, image_at, variance_at, products.counts, products.sky, READ_NOISE**2)
    about = {
        "path": name, "sha256": sha256(content).hexdigest(), "image_at": image_at, "variance_at": variance_at,
        "shape": list(parts.shape), "floor": parts.floor,
    }  # fmt: skip
    text = json.dumps(about, indent=1, sort_keys=True).encode()
    return {"about.json": text, "shell": parts.shell, "counts": parts.counts, "background": parts.background}


def _store(path: Path, members: Mapping[str, bytes]) -> None:
    """A tar without times, owners or modes of this machine, compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(members.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME))
