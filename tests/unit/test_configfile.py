# SPDX-License-Identifier: BSD-3-Clause
"""``config/deepDiff.py``: written as the stack does, loaded by pex_config itself, compared by field."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from diffrun.engine import configfile, overrides
from diffrun.engine.config import ImageDifferenceConfig
from diffrun.engine.configtree import assign, walk
from diffrun.engine.targets import TARGETS
from diffrun.errors import ConfigError

RECIPE = Path(__file__).parents[2] / "configs" / "diffimconfig.py"


def recipe() -> ImageDifferenceConfig:
    config = ImageDifferenceConfig()
    overrides.apply(config, overrides.read_configfile(RECIPE))
    return config


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules by the names of the stack's, so that its saved form can be executed."""
    for dotted, target in TARGETS.items():
        home, _, short = dotted.rpartition(".")
        module = sys.modules.get(home) or ModuleType(home)
        setattr(module, short, target)
        setattr(module, target.ConfigClass.__name__, target.ConfigClass)  # type: ignore[attr-defined]
        put(monkeypatch, home, module)
    task = ModuleType("lsst.pipe.tasks.imageDifference")
    task.ImageDifferenceConfig = ImageDifferenceConfig  # type: ignore[attr-defined]
    put(monkeypatch, task.__name__, task)
    yield


def put(monkeypatch: pytest.MonkeyPatch, name: str, module: ModuleType) -> None:
    monkeypatch.setitem(sys.modules, name, module)
    parent, _, short = name.rpartition(".")
    if parent:
        above = sys.modules.get(parent) or ModuleType(parent)
        monkeypatch.setattr(above, short, module, raising=False)
        put(monkeypatch, parent, above)


def test_head_and_fields() -> None:
    lines = configfile.to_text(recipe()).splitlines()
    name = "lsst.pipe.tasks.imageDifference.ImageDifferenceConfig"
    assert lines[0] == "import lsst.pipe.tasks.imageDifference"
    assert lines[1] == (
        f"assert type(config)=={name}, 'config is of type %s.%s instead of {name}' "
        "% (type(config).__module__, type(config).__name__)"
    )
    assert "config.subtract.kernel['AL'].alardSigGauss=[0.7, 1.5, 3.0]" in lines
    assert "config.subtract.kernel['DF'].kernelSize=21" in lines
    assert "config.subtract.kernel.name='AL'" in lines
    retarget = lines.index(
        "config.getTemplate.retarget(target=lsst.ip.diffim.getTemplate.GetCalexpAsTemplateTask, "
        "ConfigClass=lsst.ip.diffim.getTemplate.GetCalexpAsTemplateConfig)"
    )
    assert retarget < lines.index("config.getTemplate.doAddCalexpBackground=True")
    assert sum("retarget" in line for line in lines) == 1
    assert not any(line.startswith("config.mode") for line in lines)


def test_pex_config_loads_it(stack: None) -> None:
    config = recipe()
    assign(config, "detection.thresholdValue", 6.25)
    assign(config, "subtract.kernel['AL'].alardDegGauss", [6, 4, 2])
    loaded = ImageDifferenceConfig()
    loaded.loadFromString(configfile.to_text(config))
    assert list(walk(loaded)) == list(walk(config))


def test_reads_what_pex_config_writes(tmp_path: Path) -> None:
    config = recipe()
    assign(config, "growFootprint", 3)
    text = config.saveToString()
    for ours, theirs in (
        ("diffrun.engine.taskconfig.", "lsst.ip.diffim.getTemplate."),
        ("diffrun.engine.config", "lsst.pipe.tasks.imageDifference"),
        ("import diffrun.engine.", "import lsst.standin."),
    ):
        text = text.replace(ours, theirs)
    path = tmp_path / "deepDiff.py"
    path.write_text(text)
    assert list(walk(configfile.read_stored(path))) == list(walk(config))


def test_round_trip_and_comparison(tmp_path: Path) -> None:
    config = recipe()
    assign(config, "mode", "literal")
    path = tmp_path / "deepDiff.py"
    path.write_text(configfile.to_text(config))
    stored = configfile.read_stored(path)
    assert list(walk(stored)) == list(walk(config))
    other = recipe()
    assign(other, "convolveTemplate", False)
    assign(other, "detection.thresholdValue", 5.0 + 1e-9)
    assign(other, "subtract.kernel['DF'].kernelSize", 19)
    found = [str(difference) for difference in configfile.compare(stored, other)]
    assert found == [
        "config.mode: 'literal' is stored, 'auto' is asked for",
        "config.convolveTemplate: True is stored, False is asked for",
    ]


def test_another_template_task_is_a_difference() -> None:
    (found,) = (
        d for d in configfile.compare(recipe(), ImageDifferenceConfig()) if d.path.startswith("getTemplate")
    )
    assert found.path == "getTemplate"


def test_unreadable_stored_files(tmp_path: Path) -> None:
    path = tmp_path / "deepDiff.py"
    for text in ("config.unheard = 1", "import os", "\0"):
        path.write_text(text)
        with pytest.raises(
            ConfigError, match=r"Unable to read stored config file.*; consider using --clobber-config"
        ):
            configfile.read_stored(path)


def test_show() -> None:
    config = recipe()
    assert "".join(configfile.show(config, None)) == configfile.to_text(config)
    shown = "".join(configfile.show(config, "*DECORR*n"))
    assert shown.startswith('Matching "*DECORR*n" without regard to case')
    assert shown.rstrip().endswith("config.doDecorrelation=True")
    assert "".join(configfile.show(config, "*DECORR*:NOIGNORECASE")) == ""
    tasks = "".join(configfile.show_tasks(config)).splitlines()
    assert tasks[0] == "Subtasks:"
    names = [line.partition(":")[0] for line in tasks[1:]]
    assert names == sorted(names)
    assert "getTemplate: lsst.ip.diffim.getTemplate.GetCalexpAsTemplateTask" in tasks
