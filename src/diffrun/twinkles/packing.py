# SPDX-License-Identifier: BSD-3-Clause
"""How the calexps are stored small, and made again to the last bit.

A calexp is whole counts minus a smooth background, and its variance the counts plus a constant, so two
float planes of noise need not be stored: only the counts' distance from the background, and the background's
bits as second differences. The rest of the file, headers included, is kept as it is (the shell).

``common.tar.xz`` holds the files as they are, but of each calexp ``NAME`` only ``NAME.shell`` and, in
``NAME.json``, how to put it together; ``VISIT.tar.xz`` holds the visit's counts and background.
"""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.atomic import write_bytes

Counts = NDArray[np.int32]


@dataclass(frozen=True)
class Packed:
    """A calexp taken apart.

    Attributes
    ----------
    shell : `bytes`
        The file without the pixels of image and variance.
    image_at, variance_at : `int`
        Where in the file those pixels begin.
    shape : `tuple` [`int`, `int`]
        (ny, nx).
    floor : `float`
        Variance of a pixel without counts.
    counts, background : `bytes`
        Byte planes of what `split` was given.
    """

    shell: bytes
    image_at: int
    variance_at: int
    shape: tuple[int, int]
    floor: float
    counts: bytes
    background: bytes


def take_apart(
    content: bytes,
    image_at: int,
    variance_at: int,
    counts: Counts,
    background: NDArray[np.float32],
    floor: float,
) -> Packed:
    """Take a calexp apart.

    Raises
    ------
    ValueError
        If the file's pixels are not what `put_together` will make of the parts.
    """
    span = counts.size * 4
    shell = content[:image_at] + content[image_at + span : variance_at] + content[variance_at + span :]
    near = np.rint(background).astype(np.int32)
    packed = Packed(
        shell, image_at, variance_at, (counts.shape[0], counts.shape[1]), floor,
        split(counts - near), split(_differences(background.view(np.int32))),
    )  # fmt: skip
    if put_together(packed) != content:
        raise ValueError("the calexp is not counts minus background, with counts plus a floor as variance")
    return packed


def put_together(packed: Packed) -> bytes:
    """The calexp's file, to the last bit."""
    bits = _sums(join(packed.background, packed.shape))
    background = bits.view(np.float32)
    counts = join(packed.counts, packed.shape) + np.rint(background).astype(np.int32)
    image = (counts.astype(np.float32) - background).astype(">f4").tobytes()
    variance = (np.maximum(counts, 0) + np.float64(packed.floor)).astype(">f4").tobytes()
    shell, second = packed.shell, packed.variance_at - len(image)
    return b"".join(
        (shell[: packed.image_at], image, shell[packed.image_at : second], variance, shell[second:])
    )


def split(values: Counts) -> bytes:
    """Whole numbers as four byte planes, small ones of either sign in the first plane alone."""
    folded = ((values << 1) ^ (values >> 31)).view(np.uint32).astype("<u4")
    return np.ascontiguousarray(folded.view(np.uint8).reshape(-1, 4).T).tobytes()


def join(planes: bytes, shape: tuple[int, int]) -> Counts:
    """What `split` was given."""
    folded = np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(4, -1).T).view("<u4")
    values = (folded >> 1).astype(np.int32) ^ -(folded & 1).astype(np.int32)
    return values.reshape(shape)


def _differences(values: Counts) -> Counts:
    for axis in (0, 1):
        for _ in range(2):
            values = np.diff(values, axis=axis, prepend=np.int32(0))
    return values


def _sums(values: Counts) -> Counts:
    for axis in (1, 0):
        for _ in range(2):
            values = np.cumsum(values, axis=axis, dtype=np.int32)
    return values


def write_all(packed: Path, root: Path) -> None:
    """Write every packed file under ``root``, an empty folder.

    Raises
    ------
    diffrun.errors.DataError
        If a packed file is not what it was when the package was made.
    """
    common = _members(packed / "common.tar.xz")
    for name in [name.removesuffix(".json") for name in common if name.endswith(".json")]:
        about, shell = json.loads(common.pop(f"{name}.json")), common.pop(f"{name}.shell")
        common[name] = _calexp(packed / about.pop("pixels"), about, shell)
    for name, content in common.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(root / name, content)


def _members(path: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(lzma.decompress(path.read_bytes()))) as tar:
            files = ((member.name, tar.extractfile(member)) for member in tar)
            return {name: file.read() for name, file in files if file}
    except (lzma.LZMAError, tarfile.TarError) as error:
        raise DataError(f"{path} is damaged: {error}", "install diffrun again") from error


def _calexp(path: Path, about: dict[str, Any], shell: bytes) -> bytes:
    pixels, digest = _members(path), about.pop("sha256")
    ny, nx = about.pop("shape")
    content = put_together(
        Packed(shell, shape=(ny, nx), **about, counts=pixels["counts"], background=pixels["background"])
    )
    if sha256(content).hexdigest() != digest:
        raise DataError(f"{path} does not unpack to what was packed", "install diffrun again")
    return content
