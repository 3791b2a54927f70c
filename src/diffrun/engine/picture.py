# SPDX-License-Identifier: BSD-3-Clause
"""One picture of a difference: science | matched template | difference, with the DIA sources marked.

Grey is light, colour is ours: the marks use the colours of Okabe and Ito, which the colour-blind can tell
apart, and different shapes. All arrays have row 0 at the bottom of the picture.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from diffrun.engine.quality import DIPOLE, NEGATIVE, POSITIVE, Sources, has, robust_std
from diffrun.files.fitsread import forget

WIDTH = 1920
MARGIN = 24
GAP = 12
STAMPS = 8
STAMP_HALF = 15
_ROWS, _BAND = 2, 32
_STEPS = 32
_SIDE = (WIDTH - 2 * MARGIN - 2 * GAP) // 3

BACKGROUND = (22, 24, 28)
INK = (232, 232, 228)
QUIET = (150, 154, 160)
NO_DATA = (58, 66, 84)
COLOURS = {POSITIVE: (255, 176, 0), NEGATIVE: (86, 180, 233), DIPOLE: (230, 110, 190)}
NAMES = {POSITIVE: "positive", NEGATIVE: "negative", DIPOLE: "dipole"}

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Colour = tuple[int, int, int]
Draw = ImageDraw.ImageDraw


@dataclass(frozen=True)
class Plane:
    """One of the images; of a large one only the pixels that are drawn are looked at.

    Attributes
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
    mask : `numpy.ndarray`, (ny, nx), int32
    dark : `int`
        The bits of the mask where there is nothing that could be looked at.
    sky : `float`
        Of the image, taken away from what is drawn.
    """

    image: Float
    mask: NDArray[np.int32]
    dark: int = 0
    sky: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        ny, nx = self.image.shape
        return ny, nx

    def __getitem__(self, part: Any) -> tuple[Float, Bool]:
        """Some of the pixels, 0 where they cannot be looked at; and where they can."""
        image = np.asarray(self.image[part], np.float32)  # in a file the bytes have another order
        use = np.isfinite(image) & ~has(self.mask[part], self.dark)
        image = image - np.float32(self.sky)
        image[~use] = 0
        return image, use


@dataclass(frozen=True)
class Scene:
    """All that is drawn.

    Attributes
    ----------
    science, matched, difference : `Plane`
        The same pixels of the three images.
    sky_noise, noise : `float`
        Noise per pixel of the science image's sky, and of the difference.
    north, east : `tuple` [`float`, `float`]
        Unit vectors in pixels, y up.
    pixel_scale : `float`
        Arcseconds a pixel; NaN where there is no WCS, nor directions.
    title : `str`
    captions : `tuple` of `str`
        One for each panel.
    """

    science: Plane
    matched: Plane
    difference: Plane
    sky_noise: float
    noise: float
    north: tuple[float, float]
    east: tuple[float, float]
    pixel_scale: float
    title: str
    captions: tuple[str, str, str]

    @cached_property
    def size(self) -> tuple[int, int]:
        """Of a panel, (width, height)."""
        ny, nx = self.science.shape
        scale = min(_SIDE / nx, 1.25 * _SIDE / ny)
        return max(1, round(nx * scale)), max(1, round(ny * scale))

    @cached_property
    def panels(self) -> tuple[Image.Image, ...]:
        """The three images as they are drawn, without marks."""
        return panels(self)


def png(scene: Scene, sources: Sources, footer: str) -> bytes:
    """The picture as a PNG file; the same scene gives the same bytes.

    Parameters
    ----------
    scene : `Scene`
    sources : `Sources`
        Positions in pixels of its planes.
    footer : `str`
        The last line of the picture.
    """
    return packed(draw_scene(scene, sources, footer))


def packed(image: Image.Image) -> bytes:
    """An RGB image as a PNG file of rows without a filter.

    Noise is packed better so than by the filters that Pillow chooses, in half the time.
    """
    width, height = image.size
    pixels = np.asarray(image).reshape(height, 3 * width)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def rehearse() -> None:
    """Draw nothing, so that all is loaded that the libraries load when they are first used."""
    plane = Plane(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int32))
    scene = Scene(plane, plane, plane, 1.0, 1.0, (0.0, 1.0), (1.0, 0.0), 1.0, "", ("", "", ""))
    png(scene, Sources.none(), "")


def draw_scene(scene: Scene, sources: Sources, footer: str) -> Image.Image:
    """Lay out title, panels, the strip of single sources, the key, and the footer."""
    size, chosen = scene.size, most_significant(sources, STAMPS)
    stamp = ((WIDTH - 2 * MARGIN - (STAMPS - 1) * GAP) // STAMPS - 4) // 3
    top = 104
    strip = top + size[1] + 56
    height = strip + (stamp + 48 if chosen else 0) + 44
    canvas = Image.new("RGB", (WIDTH, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 18), scene.title, INK, font(30))
    for k, panel in enumerate(scene.panels):
        left = MARGIN + k * (_SIDE + GAP) + (_SIDE - size[0]) // 2
        draw.text((left, top - 32), scene.captions[k], INK if k == 2 else QUIET, font(20))
        drawn = _marked(panel, scene, sources, chosen) if k == 2 else panel
        canvas.paste(drawn, (left, top))
        if k == 0:
            _compass(draw, scene, (left, top), size)
    _key(draw, sources, top + size[1] + 16)
    if chosen:
        _strip(canvas, scene, sources, chosen, stamp, strip)
    draw.text((MARGIN, height - 34), footer, QUIET, font(18))
    return canvas


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow, so that every machine draws the same."""
    return ImageFont.load_default(size)


def panels(scene: Scene) -> tuple[Image.Image, ...]:
    """The three images, shrunk: a common asinh stretch for two, a linear one for the last."""
    with ThreadPoolExecutor(3) as pool:
        planes = (scene.science, scene.matched, scene.difference)
        shrunk = list(pool.map(lambda plane: _resample(plane, scene.size), planes))
    spread = [robust_std(value[use]) if use.any() else 1.0 for value, use in shrunk]
    limit = 7.0 * (spread[2] or 1.0)
    greys = [asinh_grey(value, scene.sky_noise) for value, _ in shrunk[:2]]
    greys.append(linear_grey(shrunk[2][0], limit))
    return tuple(_grey_image(grey, use) for grey, (_, use) in zip(greys, shrunk, strict=True))


def asinh_grey(image: Float, sigma: float) -> Float:
    """Grey from 0 to 1 by asinh (Lupton et al. 2004, PASP 116, 133): sky noise and cores both keep shape."""
    value = np.maximum(image / (2.0 * sigma) + 1.0, 0)
    return np.asarray(np.clip(np.arcsinh(value) / np.arcsinh(400.0), 0, 1))


def linear_grey(image: Float, limit: float) -> Float:
    """Grey from 0 to 1, linear between -limit and +limit."""
    return np.asarray(np.clip(0.5 + image / (2 * limit), 0, 1))


def most_significant(sources: Sources, n: int) -> list[int]:
    """The n unflagged sources with the largest absolute S/N, the largest first."""
    clean = np.flatnonzero(~sources.flagged & np.isfinite(sources.x) & np.isfinite(sources.y))
    order = np.argsort(-np.abs(sources.snr[clean]), kind="stable")
    return [int(i) for i in clean[order[:n]]]


def _resample(plane: Plane, size: tuple[int, int]) -> tuple[Float, Bool]:
    """Average over the good pixels under each new pixel; and where there are any."""
    (ny, nx), (width, height) = plane.shape, size
    method = Image.Resampling.BOX if width <= nx else Image.Resampling.NEAREST
    if ny >= 2 * _ROWS * height:
        sums = _thinned(plane, height)
    else:
        value, use = plane[:]
        sums = value, use.astype(np.float32)
    value, weight = (np.asarray(Image.fromarray(each).resize(size, method), np.float32) for each in sums)
    return np.asarray(value / np.maximum(weight, 1e-6), np.float32), np.asarray(weight > 0.5)


def _thinned(plane: Plane, height: int) -> tuple[Float, Float]:
    """The mean of a few rows under each new row, and the part of them that is good, (height, nx) each."""
    ny, nx = plane.shape
    value, weight = np.empty((height, nx), np.float32), np.empty((height, nx), np.float32)
    rows = ((np.arange(height * _ROWS) + 0.5) * ny / (height * _ROWS)).astype(int).reshape(height, _ROWS)
    for top in range(0, height, _BAND):
        some, use = plane[rows[top : top + _BAND]]
        some.sum(axis=1, out=value[top : top + _BAND])
        weight[top : top + _BAND] = use.view(np.int8).sum(axis=1, dtype=np.int8)
        forget(plane.image, plane.mask)
    value /= _ROWS
    weight /= _ROWS
    return value, weight


def _grey_image(grey: Float, use: Bool) -> Image.Image:
    """A grey plane as RGB with y up, unusable pixels in one quiet colour."""
    grey = np.where(use, grey, np.float32(0))
    rgb = np.repeat((grey * 255 + 0.5).astype(np.uint8)[:, :, None], 3, axis=2)
    rgb[~use] = NO_DATA
    return Image.fromarray(np.ascontiguousarray(rgb[::-1]))


def _marked(bare: Image.Image, scene: Scene, sources: Sources, numbered: list[int]) -> Image.Image:
    """Mark every source on the difference, the flagged ones first, and number those of the strip."""
    panel = bare.copy()
    draw = ImageDraw.Draw(panel)
    (ny, nx), (width, height) = scene.science.shape, panel.size
    radius = max(9.0, 12 * width / nx)
    number = {source: k + 1 for k, source in enumerate(numbered)}
    seen = np.flatnonzero(np.isfinite(sources.x) & np.isfinite(sources.y))
    for i in sorted(seen.tolist(), key=lambda i: (not sources.flagged[i], i)):
        x = (float(sources.x[i]) + 0.5) * width / nx
        y = height - (float(sources.y[i]) + 0.5) * height / ny
        kind = int(sources.kind[i])
        draw_mark(draw, (x, y), radius, kind, bool(sources.flagged[i]))
        if i in number:
            left = x + radius + 3 if x + radius + 30 < width else x - radius - 18
            _outlined(draw, (left, y - 11), str(number[i]), COLOURS[kind], 20)
    return panel


def draw_mark(draw: Draw, at: tuple[float, float], radius: float, kind: int, dim: bool) -> None:
    """A circle for positive, a square for negative, a lozenge for a dipole; broken and paler if flagged."""
    r, g, b = COLOURS[kind]
    colour = ((r + 128) // 2, (g + 128) // 2, (b + 128) // 2) if dim else (r, g, b)
    corners = {NEGATIVE: 4, DIPOLE: 4}.get(kind, 32)
    turn = {NEGATIVE: np.pi / 4, DIPOLE: 0.0}.get(kind, 0.0)
    reach = {NEGATIVE: 1.25, DIPOLE: 1.2}.get(kind, 1.0) * radius
    angle = turn + 2 * np.pi * np.arange(corners + 1) / corners
    steps, whole = np.arange(_STEPS + 1) / _STEPS * corners, np.arange(corners + 1)
    x = np.interp(steps, whole, at[0] + reach * np.cos(angle)).tolist()
    y = np.interp(steps, whole, at[1] + reach * np.sin(angle)).tolist()
    path = list(zip(x, y, strict=True))
    for start in range(0, _STEPS, 4):
        piece = path[start : start + (3 if dim else 5)]
        draw.line(piece, fill=colour, width=2, joint="curve")


def _outlined(draw: Draw, at: tuple[float, float], text: str, colour: Colour, size: int) -> None:
    """Text that can be read on any grey."""
    draw.text(at, text, colour, font(size), stroke_width=2, stroke_fill=BACKGROUND)


def _compass(draw: Draw, scene: Scene, origin: tuple[int, int], size: tuple[int, int]) -> None:
    """A scale bar, and the directions of north and east; in pixels where there is no WCS."""
    per_pixel, known = size[0] / scene.science.shape[1], bool(np.isfinite(scene.pixel_scale))
    unit, scale = ("arcsec", scene.pixel_scale) if known else ("pixels", 1.0)
    length = round_length(0.22 * scene.science.shape[1] * scale)
    bar = length / scale * per_pixel
    x, y = origin[0] + 20, origin[1] + size[1] - 22
    draw.line((x - 1, y, x + bar + 1, y), BACKGROUND, 7)
    draw.line((x, y, x + bar, y), INK, 3)
    _outlined(draw, (x, y - 32), f"{length:g} {unit}", INK, 20)
    if not known:
        draw.text((origin[0] + size[0] - 20, y), "no WCS", INK, font(20), anchor="rb", stroke_width=2,
                  stroke_fill=BACKGROUND)  # fmt: skip
        return
    centre = (origin[0] + size[0] - 70, origin[1] + size[1] - 70)
    for name, (dx, dy) in (("N", scene.north), ("E", scene.east)):
        tip = (centre[0] + 38 * dx, centre[1] - 38 * dy)
        draw.line((*centre, *tip), BACKGROUND, 6)
        draw.line((*centre, *tip), INK, 2)
        label = (centre[0] + 54 * dx, centre[1] - 54 * dy)
        draw.text(label, name, INK, font(20), anchor="mm", stroke_width=2, stroke_fill=BACKGROUND)


def round_length(most: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above ``most``."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(next(step * power for step in (5, 2, 1) if step * power <= most * 1.0001))


def _key(draw: Draw, sources: Sources, y: int) -> None:
    """What the marks and the quiet colour mean, with counts."""
    counts = sources.counts()
    x = float(MARGIN)
    for kind in (POSITIVE, NEGATIVE, DIPOLE):
        draw_mark(draw, (x + 11, y + 12), 9, kind, False)
        x = _word(draw, (x + 30, y), f"{counts[NAMES[kind]]} {NAMES[kind]}", INK)
    draw_mark(draw, (x + 11, y + 12), 9, POSITIVE, True)
    x = _word(draw, (x + 30, y), f"{counts['flagged']} of them flagged", INK)
    draw.rectangle((x, y + 3, x + 22, y + 21), fill=NO_DATA, outline=QUIET)
    _word(draw, (x + 32, y), "no usable data", INK)


def _word(draw: Draw, at: tuple[float, float], text: str, colour: Colour) -> float:
    """Write, and give the x where the next word may begin."""
    draw.text(at, text, colour, font(20))
    return at[0] + draw.textlength(text, font(20)) + 34


def _strip(
    canvas: Image.Image, scene: Scene, sources: Sources, chosen: Sequence[int], stamp: int, top: int
) -> None:
    """Science, matched template and difference around single sources, at pixel size."""
    draw = ImageDraw.Draw(canvas)
    for k, i in enumerate(chosen):
        left = MARGIN + k * (3 * stamp + 4 + GAP)
        kind = int(sources.kind[i])
        label = f"{k + 1}   S/N {sources.snr[i]:+.0f}"
        draw.text((left, top), label, COLOURS[kind], font(20))
        for j, image in enumerate(_stamps(scene, (sources.x[i], sources.y[i]), stamp)):
            canvas.paste(image, (left + j * (stamp + 2), top + 30))


def _stamps(scene: Scene, at: tuple[float, float], size: int) -> list[Image.Image]:
    """Three enlarged cut-outs; pixels beyond the image are shown as unusable."""
    half = STAMP_HALF
    column, row = round(float(at[0])), round(float(at[1]))
    planes = (scene.science, scene.matched, scene.difference)
    limit = 7.0 * scene.noise
    out = []
    for k, plane in enumerate(planes):
        image, use = cut(plane, column, row, half)
        grey = linear_grey(image, limit) if k == 2 else asinh_grey(image, scene.sky_noise)
        out.append(_grey_image(grey, use).resize((size, size), Image.Resampling.NEAREST))
    return out


def cut(plane: Plane, column: int, row: int, half: int) -> tuple[Float, Bool]:
    """The square of side ``2 half + 1`` about a pixel; nothing can be looked at beyond the image."""
    side = 2 * half + 1
    image, use = np.zeros((side, side), np.float32), np.zeros((side, side), bool)
    y0, x0 = row - half, column - half
    y1, x1 = max(y0, 0), max(x0, 0)
    inner = plane[y1 : max(row + half + 1, y1), x1 : max(column + half + 1, x1)]
    ny, nx = inner[0].shape
    image[y1 - y0 : y1 - y0 + ny, x1 - x0 : x1 - x0 + nx] = inner[0]
    use[y1 - y0 : y1 - y0 + ny, x1 - x0 : x1 - x0 + nx] = inner[1]
    return image, use
