# SPDX-License-Identifier: BSD-3-Clause
"""The plots of docs/bench.md, in an environment with matplotlib: plots.py RESULTS CUTOUTS FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter
from PIL import Image

DPI = 110
mpl.rcParams["figure.dpi"] = DPI

#: Colours of Okabe and Ito, which the colour-blind can tell apart.
COLOURS = {
    "diffrun": "#0072b2", "chain": "#d55e00", "stdpipe": "#009e73", "properimage": "#cc79a7",
    "sfft": "#e69f00", "ois": "#999999",
}  # fmt: skip
NAMES = {
    "diffrun": "diffrun", "chain": "SWarp, HOTPANTS, SExtractor", "stdpipe": "stdpipe ZOGY",
    "properimage": "properimage", "sfft": "SFFT (NumPy)", "ois": "ois",
}  # fmt: skip


def differences(cutouts: Path, target: Path) -> None:
    """The same square in every difference, -5 to 5 standard deviations, each pixel twice as wide."""
    with np.load(cutouts) as found:
        images = {name: found[name].astype(np.float32) for name in NAMES if name in found}
    side, gap, title = 2 * len(images["diffrun"]) / DPI, 0.08, 0.2
    width, height = 3 * (side + gap), 2 * (side + title)
    figure = plt.figure(figsize=(width, height))
    for at, (name, image) in enumerate(images.items()):
        left, bottom = at % 3 * (side + gap) + gap / 2, (1 - at // 3) * (side + title)
        axis = figure.add_axes((left / width, bottom / height, side / width, side / height))
        axis.set_axis_off()
        shown = axis.imshow(image, cmap="gray", vmin=-5, vmax=5, origin="lower", interpolation="nearest")
        shown.cmap.set_bad("#3a4254")
        axis.set_title(NAMES[name], fontsize=8, pad=3)
    _save(figure, target)


def peers(results: dict, target: Path) -> None:
    """What programs cost on a sensor and on a small frame, and their false sources on the latter."""
    small = [part for name, part in results.items() if name.startswith("small") and "diffrun" in part]
    whole = [part for name, part in results.items() if not name.startswith("small") and "chain" in part]
    programs = [name for name in NAMES if any("cpu" in part.get(name, {}) for part in small)]
    figure, (sensor, frame, false) = plt.subplots(1, 3, figsize=(7.6, 2.6), sharey=True)
    _costs(sensor, whole, programs, "a whole sensor")
    _costs(frame, small, programs, "1024 x 1024 pixels")
    sensor.set_yticks(range(len(programs)), [NAMES[name] for name in programs], fontsize=7)
    left = np.zeros(len(programs))
    for kind, colour in (("blank", "#bbbbbb"), ("source", "#d55e00"), ("saturated", "#56b4e9")):
        values = np.array([_mean(small, name, f"false_{kind}") for name in programs])
        false.barh(range(len(programs)), values, 0.7, left=left, color=colour, label=kind)
        left += values
    false.set_xlabel("false sources, 1024 x 1024 pixels", fontsize=7)
    false.legend(fontsize=6, frameon=False)
    false.invert_yaxis()
    _tidy(figure, sensor, frame, false)
    _save(figure, target)


def _costs(axis: plt.Axes, parts: list, programs: list[str], what: str) -> None:
    """CPU time and memory over ours, one below the other for each program."""
    height = 0.38
    for at, (key, shade) in enumerate((("cpu", 1.0), ("memory", 0.5))):
        for row, name in enumerate(programs):
            shared = [part for part in parts if key in part.get(name, {})]
            if shared:
                value = _mean(shared, name, key) / _mean(shared, "diffrun", key)
                place = row + (at - 0.5) * height
                axis.barh(place, value, height, color=COLOURS[name], alpha=shade)
                axis.text(value, place, f" {key.replace('cpu', 'CPU')} {value:.1f}", va="center", fontsize=6)
    axis.axvline(1, color="#999999", linewidth=0.5)
    axis.set_xscale("log")
    axis.margins(x=0.35)
    axis.set_xlabel(f"over diffrun, {what}", fontsize=7)


def growth(results: dict, target: Path) -> None:
    """CPU seconds and memory against pixels, without what the imports take."""
    sizes = [part for name, part in results.items() if name.startswith("growth") and "cpu" in part]
    if len(sizes) < 2:
        return
    mega = np.array([part["pixels"] for part in sizes]) / 2**20
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6))
    for axis, key, label in zip(
        axes, ("cpu", "memory"), ("CPU seconds above imports", "MiB above imports"), strict=True
    ):
        values = np.array([part[key] - part[f"bare_{key}"] for part in sizes])
        axis.loglog(mega, values, "o-", color=COLOURS["diffrun"], markersize=4)
        axis.loglog(mega, values[-1] / mega[-1] * mega, "--", color="#999999", linewidth=1)
        axis.set_xticks(mega, [f"{m:g}" for m in mega])
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel("megapixels (dashed: linear)", fontsize=7)
        axis.set_ylabel(label, fontsize=7)
    _tidy(figure, *axes)
    _save(figure, target)


def _mean(parts: list, name: str, key: str) -> float:
    return float(np.mean([part[name][key] for part in parts if key in part.get(name, {})]))


def _tidy(figure: plt.Figure, *axes: plt.Axes) -> None:
    for axis in axes:
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(pad=0.6)


def _save(figure: plt.Figure, target: Path) -> None:
    """As a PNG of few colours, without date and version: the same numbers give the same bytes."""
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    picture.quantize(48, dither=Image.Dither.NONE).save(target, optimize=True)
    plt.close(figure)


def main() -> None:
    """Draw what the results have."""
    results = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    cutouts, folder = Path(sys.argv[2]), Path(sys.argv[3])
    if cutouts.exists():
        differences(cutouts, folder / "bench-differences.png")
    if any(name.startswith("small") and "diffrun" in part for name, part in results.items()):
        peers(results, folder / "bench-peers.png")
    growth(results, folder / "bench-growth.png")


if __name__ == "__main__":
    main()
