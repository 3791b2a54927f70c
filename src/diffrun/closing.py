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
    "template": "matchexp-",
    "kernel": "kernel-",
    "sources": "diaSrc-",
}


def show(screen: Screen, folder: Path, record: Mapping[str, Any]) -> None:
    """The summary in aligned lines."""
    summary = record.get("summary") or {}
    screen.line()
    for label, text in (
        ("noise", _noise(summary)),
        ("kernel", _kernel(summary)),
        ("sources", _sources(summary)),
        ("time", _time(record.get("seconds") or {})),
    ):
        if text:
            screen.fact(label, text)
    screen.line()
    for label, name in files(record).items():
        screen.fact(label, shown(folder / name))


def for_machines(folder: Path, record: Mapping[str, Any], finished_before: bool) -> dict[str, Any]:
    """What ``--json`` prints."""
    plan = record["plan"]
    return {
        "schema": "diffrun.summary/1",
        "science": plan.get("science"),
        "template": plan.get("template"),
        "digest": plan.get("digest"),
        "folder": str(folder),
        "finished_before": finished_before,
        "seconds": record.get("seconds"),
        "warnings": record.get("warnings"),
        "files": {label: str(folder / name) for label, name in files(record).items()},
        **(record.get("summary") or {}),
    }


def files(record: Mapping[str, Any]) -> dict[str, str]:
    """The files that a person looks for, by what they are; of several sensors the first."""
    names = [str(output.get("name")) for output in record.get("outputs", [])]
    found: dict[str, str] = {}
    for label, start in _FILES.items():
        match = [name for name in names if name.rpartition("/")[2].startswith(start)]
        if match:
            found[label] = match[0]
    found |= {label: name for label, name in (("picture", PICTURE), ("log", LOG)) if name in names}
    return found | {"record": RECORD}


def _noise(summary: Mapping[str, Any]) -> str:
    ratio, lag = summary.get("noise_ratio"), summary.get("lag1_correlation")
    parts = []
    if _number(ratio):
        parts.append(f"{ratio:.3f} times the variance plane's")
    if _number(lag):
        parts.append(f"lag-1 correlation {lag:+.3f}")
    return ", ".join(parts)


def _kernel(summary: Mapping[str, Any]) -> str:
    kernel = _mapping(summary, "kernel")
    parts = [f"{summary['convolved']} convolved"] if summary.get("convolved") else []
    if _number(kernel.get("sum")):
        parts.append(f"sum {kernel['sum']:.4f}")
    if _number(kernel.get("candidates")):
        parts.append(counted(int(kernel["candidates"]), "star"))
    if _number(kernel.get("rejected")):
        parts.append(f"{kernel['rejected']} rejected")
    if _number(summary.get("residual_chi2")):
        parts.append(f"residual chi2 {summary['residual_chi2']:.2f}")
    return ", ".join(parts)


def _sources(summary: Mapping[str, Any]) -> str:
    sources = _mapping(summary, "sources")
    parts = [f"{sources[kind]} {kind}" for kind in ("positive", "negative") if _number(sources.get(kind))]
    if _number(sources.get("dipole")):
        parts.append(counted(sources["dipole"], "dipole"))
    flagged = f"; {sources['flagged']} flagged" if _number(sources.get("flagged")) else ""
    total = sources.get("total")
    return (f"{total}: " if _number(total) else "") + ", ".join(parts) + flagged


def _time(seconds: Mapping[str, Any]) -> str:
    total = sum(spent for spent in seconds.values() if _number(spent))
    stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items() if _number(spent))
    return f"{duration(total)} ({stages})" if stages else ""


def _mapping(summary: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = summary.get(key)
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
