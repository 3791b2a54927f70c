# SPDX-License-Identifier: BSD-3-Clause
"""What a difference should reach, and which of it is not reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from measures import BINS

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """A number's lowest and highest value that is good, and the name of its statistical error."""

    name: str
    title: str
    low: float
    high: float
    error: str = ""
    form: str = "{:.3f}"


SHARE = "{:.1%}"
GOALS = (
    Goal("wall", "wall seconds", 0, 4, form="{:.1f}"),
    Goal("cpu", "CPU seconds", 0, 7, form="{:.1f}"),
    Goal("memory", "peak MiB", 0, 700, form="{:.0f}"),
    Goal("noise", "own map", 0.99, 1.01),
    Goal("lag1_x", "lag-1 x", -0.01, 0.01),
    Goal("lag1_y", "lag-1 y", -0.01, 0.01),
    Goal("k", "k", 0.98, 1.02),
    Goal("share_5-7", "found at S/N 5-7", 0.85, 1, "error_5-7", SHARE),
    Goal("share_7+", "found over S/N 7", 0.985, 1, "error_7+", SHARE),
    Goal("false_blank", "false on blank sky", 0, 3, "false_error", "{:.0f}"),
    Goal("false_source", "false on sources", 0, 0, form="{:.0f}"),
    Goal("false_saturated", "false at saturated stars", 0, 1, form="{:.0f}"),
    Goal("flagged_area", "flagged area", 0, 0.03, form=SHARE),
    Goal("bias_all", "flux bias", -0.003, 0.003, "bias_error_all", "{:+.2%}"),
    Goal("bias_galaxy", "flux bias on galaxies", -0.003, 0.003, "bias_error_galaxy", "{:+.2%}"),
    Goal("bias_bright", "flux bias near bright stars", -0.003, 0.003, "bias_error_bright", "{:+.2%}"),
    Goal("pull_all", "pull", 0.95, 1.1, "pull_error", "{:.2f}"),
    Goal("psf_flux", "PSF predicts flux", -0.003, 0.003, "psf_flux_error", "{:+.2%}"),
    Goal("offset_x", "position x", -0.02, 0.02),
    Goal("offset_y", "position y", -0.02, 0.02),
)


def shortfalls(pairs: dict[str, Numbers], results: dict[str, Any]) -> Iterator[str]:
    """One line a goal that some pair misses: which, by how much, and whether that is more than chance."""
    extended = {name: numbers | _shares(numbers) for name, numbers in pairs.items()}
    for goal in GOALS:
        missed = []
        for name, numbers in extended.items():
            value = numbers[goal.name]
            beyond = max(goal.low - value, value - goal.high)
            if not beyond > 0:
                continue
            error = numbers[goal.error] if goal.error else 0.0
            chance = f" ({beyond / error:.1f} sigma of chance)" if error else ""
            missed.append(f"{name} {goal.form.format(value)}{chance}")
        if missed:
            bounds = f"{goal.form.format(goal.low)} to {goal.form.format(goal.high)}"
            yield f"{goal.title}, goal {bounds}: {'; '.join(missed)}"
    yield from _speed(results)
    yield from _of_a_sensor(results.get("sensor", {}))


def _speed(results: dict[str, Any]) -> Iterator[str]:
    sensors = {name: part for name, part in results.items() if not name.startswith("small")}
    ratios = {
        name: part["chain"]["wall"] / part["diffrun"]["wall"]
        for name, part in sensors.items()
        if "wall" in part.get("chain", {})
    }
    slow = [f"{name} x {ratio:.1f}" for name, ratio in ratios.items() if ratio < 4]
    if slow:
        yield f"the chain of SWarp, HOTPANTS and Source Extractor over ours, goal x 4: {'; '.join(slow)}"
    small = results.get("growth-1024", {}).get("wall", 0.0)
    if small > 1.5:
        yield f"wall seconds of a pair of 1024 pixels, goal 1.5: {small:.1f}"


def _shares(numbers: Numbers) -> Numbers:
    """Found shares with their binomial errors, and the other errors that a count of changes brings."""
    found, true = ([numbers[f"{word}_{b}"] for b in BINS] for word in ("found", "true"))
    judged = max(true[1] + true[2], 1)
    result: Numbers = {
        "pull_error": (2 * judged) ** -0.5,
        "false_error": max(numbers["false_expected"], 1) ** 0.5,
    }
    for name, part, whole, goal in (("5-7", found[0], true[0], 0.85), ("7+", sum(found[1:]), judged, 0.985)):
        result[f"share_{name}"] = part / max(whole, 1)
        result[f"error_{name}"] = (goal * (1 - goal) / max(whole, 1)) ** 0.5
    return result


def _of_a_sensor(n: Numbers) -> Iterator[str]:
    if "alone" not in n:
        return
    slower = n["first"]["wall"] - n["alone"]["wall"]
    if slower > 15:
        yield f"the first run, goal 15 s longer at most: {slower:.0f} s"
    launcher = n["launcher"]["wall"] - n["alone"]["wall"]
    if launcher > 0.5:
        yield f"`diffrun` around the engine, goal 0.5 s: {launcher:.2f} s"
    gain = n["all_cores"]["wall"] / n["at_once"]["wall"]
    if gain < 1.7:
        busy = n["all_cores"]["cpu"] / n["all_cores"]["wall"]
        yield (
            f"throughput of `-j 2`, goal x 1.7 of one run with all cores: x {gain:.2f}, where {n['cores']} "
            f"cores can give x {n['cores'] / busy:.2f}, since one run keeps {busy:.1f} busy"
        )
