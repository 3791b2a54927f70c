# SPDX-License-Identifier: BSD-3-Clause
"""The closing summary of a run, for people and for machines, from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffrun.display import Screen, counted, duration, shown
from diffrun.outputs import LOG, PICTURE, RECORD

_FILES = {
    "difference": "diffexp-",
    "matched": "matchexp-",
    "kernel": "kernel-",
    "catalogue": "diaSrc-",
    "picture": PICTURE,
    "log": LOG,
}


def show(screen: Screen, folder: Path, record: Mapping[str, Any]) -> None:
    """The summary in aligned lines."""
    summaries = _mapping(record, "summaries")
    screen.line()
    for name in summaries:
        summary = _mapping(summaries, name)
        if len(summaries) > 1:
            screen.fact(name, f"sources {_sources(summary)}; noise {_noise(summary)}")
            continue
        for label, text in (
            ("noise", _noise(summary)),
            ("kernel", _kernel(summary, _mapping(record, "survey").get("convolved"))),
            ("residuals", _residuals(summary)),
            ("sources", _sources(summary)),
        ):
            screen.fact(label, text or "not measured")
    screen.fact("time", _time(_mapping(record, "seconds")))
    screen.line()
    if len(summaries) > 1:
        screen.fact("folder", shown(folder))
        return
    for label, name in files(record).items():
        screen.fact(label, shown(folder / name))


def for_machines(folder: Path, record: Mapping[str, Any], finished_before: bool) -> dict[str, Any]:
    """What ``--json`` prints: of one sensor its summary at the top, of several each by its name."""
    plan, summaries = _mapping(record, "plan"), _mapping(record, "summaries")
    alone = next(iter(summaries.values())) if len(summaries) == 1 else {"sensors": summaries}
    return {
        "schema": "diffrun.summary/1",
        **alone,
        "digest": plan.get("digest"),
        "folder": str(folder),
        "finished_before": finished_before,
        "seconds": record.get("seconds"),
        "warnings": record.get("warnings"),
        "files": {label: str(folder / name) for label, name in files(record).items()},
    }


def files(record: Mapping[str, Any]) -> dict[str, str]:
    """The files that a person looks for, by what they are; of several sensors the first."""
    names = [str(output.get("name")) for output in record.get("outputs", [])]
    found: dict[str, str] = {}
    for label, start in _FILES.items():
        match = [name for name in names if name.rpartition("/")[2].startswith(start)]
        if match:
            found[label] = match[0]
    return found | {"record": RECORD}


def _noise(summary: Mapping[str, Any]) -> str:
    ratio, lag = summary.get("noise_ratio"), summary.get("lag1_correlation")
    parts = []
    if _number(ratio):
        parts.append(f"{ratio:.3f} times the variance plane's")
    if _number(lag):
        parts.append(f"lag-1 correlation {lag:+.3f}")
    return ", ".join(parts)


def _kernel(summary: Mapping[str, Any], advised: object) -> str:
    """The kernel; which image was convolved only if the advice before the run had not told it."""
    kernel, convolved = _mapping(summary, "kernel"), summary.get("convolved")
    parts = [f"{convolved} convolved"] if convolved and convolved != advised else []
    if _number(kernel.get("sum")):
        parts.append(f"sum {kernel['sum']:.4f}")
    used = kernel.get("used", kernel.get("candidates"))
    if _number(used):
        parts.append(counted(used, "star"))
    if _number(kernel.get("rejected")):
        parts.append(f"{kernel['rejected']} rejected")
    return ", ".join(parts)


def _residuals(summary: Mapping[str, Any]) -> str:
    chi2, stars = summary.get("residual_chi2"), summary.get("residual_stars")
    at = f" at {counted(stars, 'star')}" if isinstance(stars, int) else ""
    return f"reduced chi squared {chi2:.2f}{at}" if _number(chi2) else ""


def _sources(summary: Mapping[str, Any]) -> str:
    sources = _mapping(summary, "sources")
    parts = [f"{sources[kind]} {kind}" for kind in ("positive", "negative") if _number(sources.get(kind))]
    if _number(sources.get("dipole")):
        parts.append(counted(sources["dipole"], "dipole"))
    flagged = f"; {sources['flagged']} flagged" if _number(sources.get("flagged")) else ""
    total = sources.get("total")
    return (f"{total}: " if _number(total) else "") + ", ".join(parts) + flagged


def _time(seconds: Mapping[str, Any]) -> str:
    return duration(sum(spent for spent in seconds.values() if _number(spent)))


def _mapping(summary: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = summary.get(key)
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
