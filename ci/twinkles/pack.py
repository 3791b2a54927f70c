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
    """Store all files of the repository, the calexps taken apart (see `diffrun.twinkles.packing`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.tar.xz"):
        old.unlink()
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
    for number, products in made.items():
        name = str(relative("calexp", data_id(VISITS[number])))
        content = files.pop(name)
        parts = _apart(content, products)
        pixels = f"{number}.tar.xz"
        about = {
            "pixels": pixels,
            "sha256": sha256(content).hexdigest(),
            "image_at": parts.image_at,
            "variance_at": parts.variance_at,
            "shape": list(parts.shape),
            "floor": parts.floor,
        }
        files[f"{name}.json"] = json.dumps(about, indent=1).encode()
        files[f"{name}.shell"] = parts.shell
        _store(folder / pixels, {"counts": parts.counts, "background": parts.background})
    _store(folder / "common.tar.xz", files)


def _apart(content: bytes, products: Products) -> packing.Packed:
    with fits.open(io.BytesIO(content)) as hdus:
        image_at, variance_at = (hdus[i].fileinfo()["datLoc"] for i in (1, 3))
    return packing.take_apart(content, image_at, variance_at, products.counts, products.sky, READ_NOISE**2)


def _store(path: Path, members: Mapping[str, bytes]) -> None:
    """A tar without times, owners or modes of this machine, compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(members.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME))
