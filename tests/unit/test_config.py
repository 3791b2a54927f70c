# SPDX-License-Identifier: BSD-3-Clause
"""The configuration tree against the defaults of release 12.1 of the stack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from diffrun.engine import config as tree
from diffrun.engine.config import HONOURED, ImageDifferenceConfig, check, require_calexp_template
from diffrun.engine.configtree import assign, canonical, walk
from diffrun.errors import ConfigError

ENGINE = Path(tree.__file__).parent

#: Of release 12.1, after ImageDifferenceConfig.setDefaults.
DEFAULTS: dict[str, Any] = {
    "doAddCalexpBackground": True,
    "doUseRegister": False,
    "doSelectSources": True,
    "doPreConvolve": False,
    "useGaussianForPreConvolution": True,
    "doDecorrelation": False,
    "doMerge": True,
    "doMatchSources": False,
    "doWriteMatchedExp": False,
    "doAddMetrics": False,
    "coaddName": "deep",
    "convolveTemplate": True,
    "kernelSourcesFromRef": False,
    "controlStepSize": 5,
    "controlRandomSeed": 10,
    "templateSipOrder": 2,
    "growFootprint": 2,
    "diaSourceMatchRadius": 0.5,
    "getTemplate": "lsst.ip.diffim.getTemplate.GetCoaddAsTemplateTask",
    "getTemplate.templateBorderSize": 10,
    "register.sipOrder": 4,
    "astrometer.matcher.numBrightStars": 50,
    "astrometer.wcsFitter.maxScatterArcsec": 10.0,
    "sourceSelector.fluxMin": 12500.0,
    "sourceSelector.widthStdAllowed": 0.15,
    "subtract.kernel.name": "AL",
    "subtract.kernel['AL'].fitForBackground": True,
    "subtract.kernel['AL'].spatialBgOrder": 0,
    "subtract.kernel['AL'].alardDegGauss": [4, 2, 2],
    "subtract.kernel['AL'].alardSigGauss": [0.7, 1.5, 3.0],
    "subtract.kernel['AL'].alardMinSigDeconv": 0.4,
    "subtract.kernel['AL'].kernelBasisSet": "alard-lupton",
    "subtract.kernel['AL'].kernelSizeFwhmScaling": 6.0,
    "subtract.kernel['AL'].maxConditionNumber": 5.0e7,
    "subtract.kernel['AL'].usePcaForSpatialKernel": False,
    "subtract.kernel['AL'].warpingConfig.warpingKernelName": "lanczos3",
    "subtract.kernel['AL'].detectionConfig.fpGrowPix": 30,
    "subtract.kernel['AL'].afwBackgroundConfig.approxOrderX": 6,
    "subtract.kernel['DF'].fitForBackground": False,
    "subtract.kernel['DF'].spatialKernelOrder": 2,
    "subtract.kernel['DF'].spatialBgOrder": 1,
    "subtract.kernel['DF'].kernelBasisSet": "delta-function",
    "subtract.kernel['DF'].maxConditionNumber": 5.0e6,
    "subtract.kernel['DF'].usePcaForSpatialKernel": True,
    "subtract.kernel['DF'].lambdaScaling": 1e-4,
    "subtract.selectDetection.thresholdValue": 10.0,
    "subtract.selectDetection.reEstimateBackground": False,
    "detection.thresholdPolarity": "both",
    "detection.thresholdType": "pixel_stdev",
    "detection.reEstimateBackground": False,
    "detection.nSigmaToGrow": 2.4,
    "detection.tempLocalBackground.binSize": 64,
    "detection.tempLocalBackground.algorithm": "AKIMA_SPLINE",
    "detection.background.binSize": 128,
    "measurement.slots.centroid": "ip_diffim_NaiveDipoleCentroid",
    "measurement.slots.apFlux": "base_CircularApertureFlux_12_0",
    "measurement.slots.calibFlux": None,
    "measurement.doReplaceWithNoise": False,
    "measurement.plugins['base_CircularApertureFlux'].maxSincRadius": 10.0,
    "measurement.plugins['base_SdssCentroid'].binmax": 16,
    "measurement.plugins['ip_diffim_DipoleFit'].relWeight": 0.5,
    "measurement.plugins['ip_diffim_PsfDipoleFlux'].maxFnCalls": 100000,
}


def test_defaults() -> None:
    values = {item.path: item.value for item in walk(ImageDifferenceConfig())}
    assert {path: values[path] for path in DEFAULTS} == DEFAULTS
    assert len(values["measurement.plugins.names"]) == 15


def test_the_documented_differences() -> None:
    """Where 12.1 has 5.5, 1 and 21."""
    config = ImageDifferenceConfig()
    assert config.detection.thresholdValue == 5.0
    assert config.subtract.kernel["AL"].spatialKernelOrder == 4
    assert config.subtract.kernel["AL"].kernelSizeMin == 35


def test_alternatives_are_active_or_not() -> None:
    items = {item.path: item for item in walk(ImageDifferenceConfig())}
    assert items["subtract.kernel['AL'].kernelSize"].active
    assert not items["subtract.kernel['DF'].kernelSize"].active
    assert items["measurement.plugins['base_PsfFlux'].doMeasure"].active
    assert not items["measurement.plugins['ip_diffim_DipoleFit'].doMeasure"].active


@pytest.mark.parametrize(
    ("path", "value", "end"),
    [
        ("subtract.kernel.active.spatialKernelOrder", 2, "subtract.kernel['AL'].spatialKernelOrder"),
        ('subtract.kernel["DF"].kernelSize', 19, "subtract.kernel['DF'].kernelSize"),
        ("measurement.algorithms.names", ["base_PsfFlux"], "measurement.plugins.names"),
        ("detection.thresholdValue", 6, "detection.thresholdValue"),
    ],
)
def test_every_way_to_a_field(path: str, value: object, end: str) -> None:
    config = ImageDifferenceConfig()
    assign(config, path, value)
    assert canonical(config, path) == end
    assert {item.path: item.value for item in walk(config)}[end] == value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("doMerg", True, r"no config field: doMerg; did you mean doMerge \(now True\)"),
        ("spatialKernelOrder", 2, r"did you mean subtract.kernel\['AL'\].spatialKernelOrder \(now 4\)"),
        ("doMerge.__class__", 1, "no config field"),
        ("__class__", 1, "no config field"),
        ("subtract.__dict__", 1, "no config field"),
        ("subtract.kernel['AL']", 1, "no config field"),
        ("doMerge", 3, "cannot set config.doMerge=3: .*Expected type bool"),
        ("growFootprint", 2.5, "Expected type int"),
        ("subtract.kernel.name", "XX", "Unknown key 'XX'"),
        ("subtract", 1, "cannot set config.subtract=1"),
        ("detection.thresholdType", "sigma", "Value sigma is not allowed"),
        ("detection.thresholdValue", float("nan"), "must be finite"),
        ("subtract.kernel['AL'].nStarPerCell", 0, "outside of valid range"),
        ("subtract.kernel['AL'].badMaskPlanes", "SAT", "must be a list"),
        ("subtract.kernel['AL'].alardDegGauss", [4, "2", 2], "position 1"),
    ],
)
def test_what_cannot_be_set(path: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        assign(ImageDifferenceConfig(), path, value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("doPreConvolve", True),
        ("doDetection", False),
        ("kernelSourcesFromRef", True),
        ("subtract.kernel.name", "DF"),
        ("subtract.kernel['DF'].kernelSize", 19),
        ("sourceSelector.fluxMin", 1000.0),
        ("measurement.slots.centroid", "base_SdssCentroid"),
        ("coaddName", "dcr"),
        ("subtract.kernel['AL'].warpingConfig.warpingKernelName", "bilinear"),
        ("subtract.kernel['AL'].alardNGauss", 2),
        ("subtract.kernel['AL'].kernelSizeMin", 22),
        ("subtract.kernel['AL'].kernelSize", 25),
        ("subtract.kernel['AL'].alardSigGauss", [0.7, 1.5, 4.0]),
    ],
)
def test_what_the_engine_does_not_do_is_refused_by_name(path: str, value: object) -> None:
    config = ImageDifferenceConfig()
    if path == "doDetection":
        config.doMeasurement = config.doMerge = False
    assign(config, path, value)
    with pytest.raises(ConfigError, match=r"config\.\S*"):
        check(config, {})


def test_the_refusal_names_origin_and_default() -> None:
    config = ImageDifferenceConfig()
    assign(config, "doPreConvolve", True)
    message = r"config.doPreConvolve=True \(mine.py:3\) is not implemented .*; leave it at its default, False"
    with pytest.raises(ConfigError, match=message):
        check(config, {"doPreConvolve": "mine.py:3"})


def test_contradictions_in_the_words_of_the_stack() -> None:
    config = ImageDifferenceConfig()
    config.doDetection = False
    with pytest.raises(ConfigError, match="Cannot run source measurement without source detection"):
        check(config, {})
    config.doMeasurement = False
    with pytest.raises(ConfigError, match="Cannot run source merging without source detection"):
        check(config, {})


def test_defaults_are_accepted_but_for_the_coadd_template() -> None:
    config = ImageDifferenceConfig()
    check(config, {})
    with pytest.raises(ConfigError, match=r"GetCoaddAsTemplateTask.*retarget"):
        require_calexp_template(config)
    config.getTemplate.retarget(tree.GetCalexpAsTemplateTask)
    check(config, {})
    require_calexp_template(config)


def test_what_is_honoured_is_read_somewhere() -> None:
    trees = {f"{name}.py" for name in ("config", "matchingconfig", "sourceconfig", "taskconfig")}
    code = "".join(path.read_text() for path in ENGINE.glob("*.py") if path.name not in trees)
    known = {item.path for item in walk(ImageDifferenceConfig())} | {"getTemplate.doAddCalexpBackground"}
    assert known >= HONOURED
    assert [path for path in HONOURED if f".{path.rpartition('.')[2]}" not in code] == []


def test_the_documentation_lists_what_is_honoured() -> None:
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    section = page.partition("<!-- honoured -->")[2].partition("<!-- end -->")[0]
    listed = set()
    for item in section.split("\n- "):
        below = re.match(r"below `([^`]+)`", item)
        names = re.findall(r"`([\w.]+)`", re.sub(r"\([^)]*\)", "", item))
        listed |= {f"{below[1]}.{name}" if below else name for name in names}
    assert listed == HONOURED
