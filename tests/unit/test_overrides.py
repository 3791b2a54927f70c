# SPDX-License-Identifier: BSD-3-Clause
"""Configuration files are read as data: what is understood, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffrun.engine import overrides
from diffrun.engine.config import GetCalexpAsTemplateTask, ImageDifferenceConfig
from diffrun.engine.overrides import Assignment, Retarget, apply, read_argument, read_configfile
from diffrun.errors import ConfigError

RECIPE = Path(__file__).parents[2] / "configs" / "diffimconfig.py"
CALEXP = "lsst.ip.diffim.getTemplate.GetCalexpAsTemplateTask"

HOSTILE = [
    "import os",
    "import os; os.system('true')",
    "exec('1')",
    "__import__('os')",
    "config.doMerge=__import__('os').system('true')",
    "config.doMerge=os.environ['HOME']",
    "config.doMerge=(1 if 2 else 3)",
    "config.doMerge=1+1",
    "config.doMerge=-True",
    "config.doMerge=f'{1}'",
    "config.doMerge=b'x'",
    "config.doMerge=1j",
    "config.doMerge=...",
    "config.doMerge={'a': 1}",
    "config.doMerge=[[1]]",
    "config.doMerge=[x for x in ()]",
    "config.doMerge: bool = True",
    "config.doMerge = config.doUseRegister = True",
    "config.growFootprint += 1",
    "config.doMerge, config.doUseRegister = True, False",
    "config = 1",
    "config['doMerge'] = True",
    "config.a[0] = 1",
    "config.subtract.kernel[f'AL'].kernelSize = 1",
    "other.doMerge = True",
    "config.validate()",
    "config.retarget(1)",
    "config.getTemplate.retarget(GetCalexpAsTemplateTask)",
    "config.getTemplate.retarget(*[])",
    "config.getTemplate.retarget(target=print)",
    "config.measurement.plugins.names.add('base_PsfFlux')",
    "config.measurement.plugins.names |= ['base_PsfFlux']",
    "from os import path",
    "from lsst.ip.diffim.getTemplate import *",
    "from lsst.ip.diffim.getTemplate import GetCalexpAsTemplateTask as config",
    "from .getTemplate import GetCalexpAsTemplateTask",
    "import lsst.ip.diffim as config",
    "for i in (): pass",
    "if True: config.doMerge = True",
    "with open('x') as config: pass",
    "def f(): pass",
    "class A: pass",
    "lambda: 0",
    "assert False",
    "assert type(config)==lsst.pipe.tasks.processCcd.ProcessCcdConfig, ''",
    "del config.doMerge",
    "global config",
    "raise ValueError",
    "config.doMerge = (",
    "(" * 300,
    "config.x = " + "-" * 5000 + "1",
    "config.x = 1" + " + 1" * 3000,
    "config." + "a." * 5000 + "a()",
    "\0",
    "x" * 600_000,
]


def write(folder: Path, text: str) -> Path:
    path = folder / "overrides.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_recipe_loads_byte_for_byte() -> None:
    config = ImageDifferenceConfig()
    origins = apply(config, read_configfile(RECIPE))
    assert (config.doUseRegister, config.convolveTemplate, config.doMerge) == (False, True, True)
    assert config.doWriteMatchedExp
    assert config.doDecorrelation
    assert config.subtract.kernel.name == "AL"
    assert config.getTemplate.target is GetCalexpAsTemplateTask
    assert config.getTemplate.doAddCalexpBackground
    assert origins["doDecorrelation"] == f"{RECIPE}:4"
    assert "lsst.ip.diffim" not in sys.modules


def test_all_shapes(tmp_path: Path) -> None:
    lines = [
        "'''A note.'''",
        "import lsst.ip.diffim.getTemplate",
        "from lsst.ip.diffim import GetCalexpAsTemplateTask",
        "root.growFootprint = +3",
        "config.subtract.kernel['AL'].alardDegGauss = (6, 4, 2)",
        "config.getTemplate.retarget(GetCalexpAsTemplateTask)",
        "config.getTemplate.retarget(target=lsst.ip.diffim.getTemplate.GetCalexpAsTemplateTask, "
        "ConfigClass=lsst.ip.diffim.getTemplate.GetCalexpAsTemplateConfig)# a comment on the same line",
        "config.measurement.slots.modelFlux = None",
    ]
    path = write(tmp_path, "\n".join(lines))
    assert read_configfile(path) == [
        Assignment("growFootprint", 3, f"{path}:4"),
        Assignment("subtract.kernel['AL'].alardDegGauss", [6, 4, 2], f"{path}:5"),
        Retarget("getTemplate", CALEXP, f"{path}:6"),
        Retarget("getTemplate", CALEXP, f"{path}:7"),
        Assignment("measurement.slots.modelFlux", None, f"{path}:8"),
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_code_is_refused_with_file_and_line(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, f"{text}\n")
    with pytest.raises(ConfigError, match=str(path)) as caught:
        read_configfile(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_line_that_is_refused_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path, "config.doMerge = True\rconfig.x = open('y')\n")
    with pytest.raises(ConfigError, match=r"overrides\.py:2: \"config\.x = open\('y'\)\" is code"):
        read_configfile(path)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "bytes.py"
    path.write_bytes(b"config.coaddName = '\xff'")
    for bad in (path, tmp_path / "missing.py", tmp_path):
        with pytest.raises(ConfigError, match="cannot load config file"):
            read_configfile(bad)


def test_unknown_tasks_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "from lsst.pipe.tasks.imageDifference import Winter2013Task\n")
    with pytest.raises(
        ConfigError, match=r"no stand-in for lsst\.pipe\.tasks\.imageDifference\.Winter2013Task"
    ):
        read_configfile(path)


def test_errors_name_the_origin(tmp_path: Path) -> None:
    path = write(tmp_path, "\n\nconfig.doMerg = True\n")
    with pytest.raises(ConfigError, match=r"overrides\.py:3: no config field: doMerg; did you mean doMerge"):
        apply(ImageDifferenceConfig(), read_configfile(path))


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("doMerge=False", "doMerge", False),
        ("detection.thresholdValue=6", "detection.thresholdValue", 6.0),
        ("coaddName=goodSeeing", "coaddName", "goodSeeing"),
        ("subtract.kernel.name=DF", "subtract.kernel.name", "DF"),
        ("subtract.kernel=DF", "subtract.kernel.name", "DF"),
        ("subtract.kernel.active.alardDegGauss=[2, 2, 2]", "subtract.kernel['AL'].alardDegGauss", [2, 2, 2]),
        ("measurement.slots.modelFlux=base_PsfFlux", "measurement.slots.modelFlux", "base_PsfFlux"),
        ("measurement.plugins.names=['base_PsfFlux']", "measurement.plugins.names", ["base_PsfFlux"]),
    ],
)
def test_arguments(text: str, path: str, value: Any) -> None:
    config = ImageDifferenceConfig()
    apply(config, [read_argument(text, "-c")])
    assert {item.path: item.value for item in overrides.configtree.walk(config)}[path] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("doMerge", "-c value doMerge must be in form name=value"),
        ("doMerge=", "-c value doMerge= must be in form name=value"),
        ("doMerge=yes", "cannot parse 'yes' as a value for doMerge"),
        ("doMerge=__import__('os')", "cannot parse"),
        ("doMerge=3", "cannot set config.doMerge=3"),
        ("a.b=3", "no config field: a.b"),
    ],
)
def test_wrong_arguments_in_the_words_of_the_stack(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply(ImageDifferenceConfig(), [read_argument(text, "-c")])


def test_the_last_word_counts() -> None:
    config = ImageDifferenceConfig()
    apply(config, [read_argument("growFootprint=3", "-c"), read_argument("growFootprint=4", "-c")])
    assert config.growFootprint == 4


WORDS = st.sampled_from(
    [
        *(
            "config",
            "root",
            "doMerge",
            "subtract",
            "kernel",
            "AL",
            "name",
            "lsst.ip.diffim",
            "retarget",
            "open",
        ),
        *(
            "import ",
            "from ",
            "lambda",
            "await ",
            "exec",
            "__class__",
            "__import__",
            "os",
            "True",
            "None",
            "_",
        ),
        *(".", "=", "(", ")", "[", "]", "'", '"', ":", ";", ":=", "*", "**", "@", "\n", "\\", "#", "\t", " "),
        *("f'{x}'", "1", "-1", "1e9"),
    ]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, max_size=12))
def test_any_text_is_read_or_refused(tmp_path: Path, words: list[str]) -> None:
    path = write(tmp_path, "".join(words))
    try:
        found = read_configfile(path)
        apply(ImageDifferenceConfig(), found)
    except ConfigError:
        return
    assert all(isinstance(each, (Assignment, Retarget)) for each in found)


def test_nothing_is_executed(tmp_path: Path) -> None:
    seen: list[str] = []
    active = True

    def hook(event: str, _: object) -> None:
        if active and event in ("exec", "import", "os.system", "subprocess.Popen"):
            seen.append(event)

    sys.addaudithook(hook)
    for text in HOSTILE:
        path = write(tmp_path, text)
        seen.clear()
        with pytest.raises(ConfigError):
            read_configfile(path)
        assert seen == []
    active = False
