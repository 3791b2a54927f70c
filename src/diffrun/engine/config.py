# SPDX-License-Identifier: BSD-3-Clause
"""The configuration of ``imageDifference.py``: the stack's tree, and which of it the engine honours.

Names, nesting and defaults are those of pipe_tasks 12.1 (``imageDifference.py``) and of the tasks below it;
the texts are ours. What differs: the detection threshold is 5.0 where 12.1 has 5.5, as the noise is white
after decorrelation, and later stacks use 5.0; ``spatialKernelOrder`` is a highest order, 4 where 12.1 has 1;
the smallest kernel has 35 pixels where 12.1 has 21; ``mode`` and ``wingSigma`` are the engine's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from lsst.pex.config import ChoiceField, Config, ConfigurableField, Field

from diffrun.engine import taskconfig
from diffrun.engine.configtree import walk
from diffrun.engine.sourceconfig import DipoleFitTask, SourceDetectionTask
from diffrun.engine.targets import stand_in, target_name
from diffrun.errors import ConfigError

#: The stack's name of `ImageDifferenceConfig`.
CONFIG_CLASS = "lsst.pipe.tasks.imageDifference.ImageDifferenceConfig"

#: Fields that the stack does not have.
OWN_FIELDS = frozenset({"mode", "subtract.kernel['AL'].wingSigma"})

GetCalexpAsTemplateTask = stand_in(
    "lsst.ip.diffim.getTemplate.GetCalexpAsTemplateTask", taskconfig.GetCalexpAsTemplateConfig
)
GetCoaddAsTemplateTask = stand_in(
    "lsst.ip.diffim.getTemplate.GetCoaddAsTemplateTask", taskconfig.GetCoaddAsTemplateConfig
)

#: What the engine honours; everything else must have its default value.
HONOURED = frozenset(
    {
        "mode",
        "coaddName",
        "convolveTemplate",
        "doAddCalexpBackground",
        "doDecorrelation",
        "doMerge",
        "doSelectSources",
        "doWriteMatchedExp",
        "doWriteSources",
        "doWriteSubtractedExp",
        "growFootprint",
        "getTemplate.doAddCalexpBackground",
        "detection.nSigmaToGrow",
        "detection.thresholdPolarity",
        "detection.thresholdValue",
        "subtract.kernel['AL'].alardDegGauss",
        "subtract.kernel['AL'].alardGaussBeta",
        "subtract.kernel['AL'].alardMinSig",
        "subtract.kernel['AL'].alardMinSigDeconv",
        "subtract.kernel['AL'].alardNGauss",
        "subtract.kernel['AL'].alardSigGauss",
        "subtract.kernel['AL'].detectionConfig.detThreshold",
        "subtract.kernel['AL'].fitForBackground",
        "subtract.kernel['AL'].kernelSize",
        "subtract.kernel['AL'].kernelSizeFwhmScaling",
        "subtract.kernel['AL'].kernelSizeMax",
        "subtract.kernel['AL'].kernelSizeMin",
        "subtract.kernel['AL'].maxSpatialIterations",
        "subtract.kernel['AL'].nStarPerCell",
        "subtract.kernel['AL'].scaleByFwhm",
        "subtract.kernel['AL'].sizeCellX",
        "subtract.kernel['AL'].sizeCellY",
        "subtract.kernel['AL'].spatialKernelOrder",
        "subtract.kernel['AL'].warpingConfig.interpLength",
        "subtract.kernel['AL'].warpingConfig.warpingKernelName",
        "subtract.kernel['AL'].wingSigma",
        "measurement.plugins['ip_diffim_ClassificationDipole'].maxFluxRatio",
        "measurement.plugins['ip_diffim_ClassificationDipole'].minSn",
        "measurement.plugins['ip_diffim_DipoleFit'].fitAllDiaSources",
        "measurement.plugins['ip_diffim_DipoleFit'].fitBackground",
        "measurement.plugins['ip_diffim_DipoleFit'].fitSeparateNegParams",
        "measurement.plugins['ip_diffim_DipoleFit'].maxFluxRatio",
        "measurement.plugins['ip_diffim_DipoleFit'].maxSeparation",
        "measurement.plugins['ip_diffim_DipoleFit'].minSn",
        "measurement.plugins['ip_diffim_DipoleFit'].relWeight",
        "measurement.plugins['ip_diffim_DipoleFit'].tolerance",
    }
)


class ImageDifferenceConfig(Config):
    """Everything that decides how two images are subtracted and what is measured on the difference."""

    mode = ChoiceField(
        dtype=str,
        doc="Whether what is asked for is taken to the letter: convolveTemplate, and the kernel",
        default="auto",
        allowed={
            "auto": "convolve that image, unless it would have to be sharpened; choose orders by the stars",
            "literal": "convolve that image; orders and size of the kernel are the stack's",
        },
    )
    doAddCalexpBackground = Field(
        dtype=bool, default=True, doc="Add the background back to the science image?"
    )
    doUseRegister = Field(dtype=bool, default=True, doc="Register the images by their sources?")
    doDebugRegister = Field(dtype=bool, default=False, doc="Statistics of that registration?")
    doSelectSources = Field(dtype=bool, default=True, doc="Take the stars for the kernel from src?")
    doSelectDcrCatalog = Field(
        dtype=bool, default=False, doc="Stars of extreme colour in the control sample?"
    )
    doSelectVariableCatalog = Field(dtype=bool, default=False, doc="Variables in the control sample?")
    doSubtract = Field(dtype=bool, default=True, doc="Make the difference, rather than read it?")
    doPreConvolve = Field(dtype=bool, default=True, doc="Convolve the science image with its PSF first?")
    useGaussianForPreConvolution = Field(dtype=bool, default=True, doc="With a Gaussian in place of the PSF?")
    doDetection = Field(dtype=bool, default=True, doc="Detect sources?")
    doDecorrelation = Field(dtype=bool, default=False, doc="Whiten the noise of the difference?")
    doMerge = Field(dtype=bool, default=True, doc="Merge positive and negative footprints that touch?")
    doMatchSources = Field(dtype=bool, default=True, doc="Match to src and reference catalogue?")
    doMeasurement = Field(dtype=bool, default=True, doc="Measure the sources?")
    doDipoleFitting = Field(dtype=bool, default=True, doc="Fit dipoles?")
    doWriteSubtractedExp = Field(dtype=bool, default=True, doc="Write the difference?")
    doWriteMatchedExp = Field(dtype=bool, default=False, doc="Write the matched template?")
    doWriteSources = Field(dtype=bool, default=True, doc="Write the sources?")
    doAddMetrics = Field(dtype=bool, default=True, doc="Write statistics of the kernel's stars?")
    coaddName = Field(dtype=str, default="deep", doc="Prefix of every dataset: deep or goodSeeing")
    convolveTemplate = Field(
        dtype=bool, default=True, doc="Convolve the template rather than the science image?"
    )
    refObjLoader = ConfigurableField(
        target=stand_in(
            "lsst.meas.astrom.loadAstrometryNetObjects.LoadAstrometryNetObjectsTask",
            taskconfig.LoadReferenceObjectsConfig,
        ),
        doc="Reference objects",
    )
    astrometer = ConfigurableField(
        target=stand_in("lsst.meas.astrom.astrometry.AstrometryTask", taskconfig.AstrometryConfig),
        doc="Match of sources to reference objects",
    )
    sourceSelector = ConfigurableField(
        target=stand_in(
            "lsst.meas.algorithms.objectSizeStarSelector.ObjectSizeStarSelectorTask",
            taskconfig.ObjectSizeStarSelectorConfig,
        ),
        doc="Choice of stars for the kernel",
    )
    subtract = ConfigurableField(
        target=stand_in("lsst.ip.diffim.imagePsfMatch.ImagePsfMatchTask", taskconfig.ImagePsfMatchConfig),
        doc="Warping, matching and subtraction",
    )
    decorrelate = ConfigurableField(
        target=stand_in(
            "lsst.ip.diffim.imageDecorrelation.DecorrelateALKernelTask", taskconfig.DecorrelateALKernelConfig
        ),
        doc="Whitening of the noise",
    )
    detection = ConfigurableField(target=SourceDetectionTask, doc="Detection on the difference")
    measurement = ConfigurableField(target=DipoleFitTask, doc="Measurement on the difference")
    getTemplate = ConfigurableField(target=GetCoaddAsTemplateTask, doc="Where the template comes from")
    controlStepSize = Field(dtype=int, default=5, doc="Every n-th star is kept out of the fit")
    controlRandomSeed = Field(dtype=int, default=10, doc="Seed of their shuffle")
    register = ConfigurableField(
        target=stand_in("lsst.pipe.tasks.registerImage.RegisterTask", taskconfig.RegisterConfig),
        doc="Registration of the images by their sources",
    )
    kernelSourcesFromRef = Field(dtype=bool, default=False, doc="Match stars to a reference catalogue?")
    templateSipOrder = Field(dtype=int, default=2, doc="Not used")
    growFootprint = Field(dtype=int, default=2, doc="Growth of footprints before they are merged (px)")
    diaSourceMatchRadius = Field(dtype=float, default=0.5, doc="Radius for doMatchSources (arcsec)")

    def setDefaults(self) -> None:
        """Values that differ from those of the fields: the stack's own, and ours."""
        super().setDefaults()
        self.subtract.kernel.name = "AL"
        self.subtract.kernel.active.fitForBackground = True
        self.subtract.kernel.active.spatialKernelOrder = 4
        self.subtract.kernel.active.spatialBgOrder = 0
        self.doPreConvolve = False
        self.doMatchSources = False
        self.doAddMetrics = False
        self.doUseRegister = False
        self.detection.thresholdPolarity = "both"
        self.detection.thresholdValue = 5.0
        self.detection.reEstimateBackground = False
        self.detection.thresholdType = "pixel_stdev"


@cache
def usual() -> dict[str, Any]:
    """Path of each field -> its default, a target by its name; to make a tree takes 20 ms."""
    return {item.path: item.value for item in walk(ImageDifferenceConfig())}


def check(config: Config, origins: Mapping[str, str]) -> None:
    """Refuse what contradicts itself and what the engine does not do.

    Parameters
    ----------
    config : `ImageDifferenceConfig`
    origins : mapping of `str` to `str`
        Path of each field that was set -> where, for the message.

    Raises
    ------
    ConfigError
        Naming the field, its value, where it was set and its default.
    """
    for wrong, message in _contradictions(config):
        if wrong:
            raise ConfigError(message)
    template = config.getTemplate.target
    values = usual() | {f"getTemplate.{item.path}": item.value for item in walk(template.ConfigClass())}
    values["getTemplate"] = target_name(template)
    for item in walk(config):
        if item.path not in HONOURED and item.value != values[item.path]:
            origin = f" ({origins[item.path]})" if item.path in origins else ""
            raise ConfigError(
                f"config.{item.path}={item.value!r}{origin} is not implemented by the engine",
                f"leave it at its default, {values[item.path]!r}",
            )


def _contradictions(config: Config) -> Iterator[tuple[bool, str]]:
    """Values that no run can be made with."""
    kernel = config.subtract.kernel["AL"]
    warping = kernel.warpingConfig
    fit = config.measurement.plugins["ip_diffim_DipoleFit"]
    detects = config.doDetection
    yield config.doMeasurement and not detects, "Cannot run source measurement without source detection."
    yield config.doMerge and not detects, "Cannot run source merging without source detection."
    yield (
        config.coaddName not in ("deep", "goodSeeing"),
        f"config.coaddName={config.coaddName!r} is neither 'deep' nor 'goodSeeing'",
    )
    yield (
        not warping.warpingKernelName.startswith("lanczos"),
        f"config.subtract.kernel['AL'].warpingConfig.warpingKernelName={warping.warpingKernelName!r} is not "
        "implemented by the engine; choose lanczos3, lanczos4 or lanczos5",
    )
    yield (
        warping.interpLength < 1,
        "config.subtract.kernel['AL'].warpingConfig.interpLength must be at least 1",
    )
    yield from _basis_contradictions(kernel)
    yield (
        fit.fitBackground not in (0, 1, 2),
        f"config.measurement.plugins['ip_diffim_DipoleFit'].fitBackground="
        f"{fit.fitBackground} is not 0, 1 or 2",
    )
    yield config.growFootprint < 0, f"config.growFootprint={config.growFootprint} is negative"


def _basis_contradictions(kernel: Config) -> Iterator[tuple[bool, str]]:
    """Settings of the kernel's basis that no kernel can be made with, or that have no effect."""
    al = "config.subtract.kernel['AL']."
    yield (
        len(kernel.alardDegGauss) != kernel.alardNGauss or min(kernel.alardDegGauss) < 0,
        f"{al}alardDegGauss={list(kernel.alardDegGauss)} must hold "
        f"alardNGauss={kernel.alardNGauss} degrees of 0 or more",
    )
    yield (
        not 3 <= kernel.kernelSizeMin <= kernel.kernelSizeMax
        or kernel.kernelSizeMin % 2 == 0
        or kernel.kernelSizeMax % 2 == 0,
        f"{al}kernelSizeMin={kernel.kernelSizeMin} and kernelSizeMax="
        f"{kernel.kernelSizeMax} must be odd, at least 3, and in order",
    )
    for name in ("alardSigGauss", "kernelSize"):
        value, usual = getattr(kernel, name), getattr(type(kernel)(), name)
        yield (
            kernel.scaleByFwhm and value != usual,
            f"{al}{name}={value} has no effect while scaleByFwhm is True; set {al}scaleByFwhm=False as well",
        )
    if not kernel.scaleByFwhm:
        yield (
            len(kernel.alardSigGauss) != kernel.alardNGauss or min(kernel.alardSigGauss) <= 0,
            f"{al}alardSigGauss={list(kernel.alardSigGauss)} must hold "
            f"alardNGauss={kernel.alardNGauss} sigmas over 0",
        )
        yield (
            kernel.kernelSize < 3 or kernel.kernelSize % 2 == 0 or kernel.kernelSize > kernel.kernelSizeMax,
            f"{al}kernelSize={kernel.kernelSize} must be odd, and from 3 to "
            f"kernelSizeMax={kernel.kernelSizeMax}",
        )


def require_calexp_template(config: Config) -> None:
    """Refuse to run with any other template than a calexp."""
    target = config.getTemplate.target
    if target is not GetCalexpAsTemplateTask:
        raise ConfigError(
            f"config.getTemplate is {target_name(target)}, and the engine takes templates from calexps only",
            "give --configfile diffimconfig.py, or a file with these two lines: "
            "from lsst.ip.diffim.getTemplate import GetCalexpAsTemplateTask "
            "/ config.getTemplate.retarget(GetCalexpAsTemplateTask)",
        )
