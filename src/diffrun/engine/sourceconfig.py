# SPDX-License-Identifier: BSD-3-Clause
"""Configuration of detection and measurement.

Names, nesting and defaults are those of meas_algorithms 12.1 (``detection.py``), meas_base 12.1 and
ip_diffim 12.1 (``dipoleFitTask.py``, ``dipoleMeasurement.py``); the texts are ours.
"""

from __future__ import annotations

from lsst.pex.config import (
    ChoiceField,
    Config,
    ConfigChoiceField,
    ConfigField,
    ConfigurableField,
    Field,
    ListField,
    RangeField,
)

from diffrun.engine.matchingconfig import THRESHOLD_TYPES, SubtractBackgroundConfig
from diffrun.engine.targets import stand_in

SubtractBackgroundTask = stand_in(
    "lsst.meas.algorithms.subtractBackground.SubtractBackgroundTask", SubtractBackgroundConfig
)


class SourceDetectionConfig(Config):
    """Pixels above a threshold, joined to footprints."""

    minPixels = RangeField(dtype=int, default=1, min=0, doc="Fewest pixels of a footprint")
    isotropicGrow = Field(dtype=bool, default=False, doc="Grow footprints as discs?")
    nSigmaToGrow = Field(dtype=float, default=2.4, doc="Growth of footprints (sigma of the PSF)")
    returnOriginalFootprints = Field(dtype=bool, default=False, doc="Grow the mask only?")
    thresholdValue = RangeField(dtype=float, default=5.0, min=0.0, doc="Threshold")
    includeThresholdMultiplier = RangeField(
        dtype=float, default=1.0, min=0.0, doc="A footprint must reach the threshold times this"
    )
    thresholdType = ChoiceField(
        dtype=str, doc="Unit of the threshold", default="stdev", allowed=THRESHOLD_TYPES
    )
    thresholdPolarity = ChoiceField(
        dtype=str,
        doc="Sign of the sources",
        default="positive",
        allowed={"positive": "positive alone", "negative": "negative alone", "both": "both"},
    )
    adjustBackground = Field(dtype=float, default=0.0, doc="Added to the background")
    reEstimateBackground = Field(dtype=bool, default=True, doc="Estimate the background anew afterwards?")
    background = ConfigurableField(target=SubtractBackgroundTask, doc="That background")
    tempLocalBackground = ConfigurableField(
        target=SubtractBackgroundTask, doc="Background that is taken off for the detection alone"
    )
    doTempLocalBackground = Field(dtype=bool, default=True, doc="Take off such a background?")

    def setDefaults(self) -> None:
        super().setDefaults()
        self.tempLocalBackground.binSize = 64
        self.tempLocalBackground.algorithm = "AKIMA_SPLINE"
        self.tempLocalBackground.useApprox = False


SourceDetectionTask = stand_in("lsst.meas.algorithms.detection.SourceDetectionTask", SourceDetectionConfig)


class PluginConfig(Config):
    """A measurement without settings of its own."""

    doMeasure = Field(dtype=bool, default=True, doc="Run this measurement?")


class CentroidConfig(PluginConfig):
    """A centroid that is checked against its footprint."""

    doFootprintCheck = Field(dtype=bool, default=True, doc="Must the centroid lie in the footprint?")
    maxDistToPeak = Field(dtype=float, default=-1.0, doc="Farthest from the peak (px); off if not positive")


class SdssCentroidConfig(CentroidConfig):
    """base_SdssCentroid."""

    binmax = Field(dtype=int, default=16, doc="Largest binning")
    peakMin = Field(dtype=float, default=-1.0, doc="Bin at least once below this peak")
    wfac = Field(dtype=float, default=1.5, doc="Adjusts the binning")


class NaiveCentroidConfig(CentroidConfig):
    """base_NaiveCentroid."""

    background = Field(dtype=float, default=0.0, doc="Taken off the pixels")


class SdssShapeConfig(PluginConfig):
    """base_SdssShape."""

    background = Field(dtype=float, default=0.0, doc="Added to the background")
    maxIter = Field(dtype=int, default=100, doc="Most iterations")
    maxShift = Field(dtype=float, default=0.0, doc="Largest shift of the centroid (px), kept within 2 to 10")
    tol1 = Field(dtype=float, default=1e-5, doc="Tolerance of the ellipticity")
    tol2 = Field(dtype=float, default=1e-4, doc="Tolerance of the width")
    doMeasurePsf = Field(dtype=bool, default=True, doc="Measure the PSF's shape too?")


class GaussianFluxConfig(PluginConfig):
    """base_GaussianFlux."""

    background = Field(dtype=float, default=0.0, doc="Taken off the pixels")


class PsfFluxConfig(PluginConfig):
    """base_PsfFlux."""

    badMaskPlanes = ListField(dtype=str, default=[], doc="Mask planes whose pixels are left out")


class CircularApertureFluxConfig(PluginConfig):
    """base_CircularApertureFlux."""

    radii = ListField(
        dtype=float, default=[3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0], doc="Radii (px)"
    )
    maxSincRadius = Field(dtype=float, default=10.0, doc="Largest radius (px) with exact weights")
    shiftKernel = Field(dtype=str, default="lanczos5", doc="Interpolation that shifts the weights")


class PeakLikelihoodFluxConfig(PluginConfig):
    """base_PeakLikelihoodFlux."""

    warpingKernelName = Field(dtype=str, default="lanczos4", doc="Interpolation of the peak")


class PixelFlagsConfig(PluginConfig):
    """base_PixelFlags."""

    masksFpCenter = ListField(dtype=str, default=[], doc="Further planes to look for in the centre")
    masksFpAnywhere = ListField(dtype=str, default=[], doc="Further planes to look for in the footprint")


class PsfDipoleFluxConfig(PluginConfig):
    """ip_diffim_PsfDipoleFlux."""

    stepSizeCoord = Field(dtype=float, default=0.1, doc="First step of the positions (px)")
    stepSizeFlux = Field(dtype=float, default=1.0, doc="First step of the fluxes")
    errorDef = Field(dtype=float, default=1.0, doc="Sigma that the errors stand for")
    maxFnCalls = Field(dtype=int, default=100000, doc="Most evaluations; 0: no limit")


class ClassificationDipoleConfig(PluginConfig):
    """ip_diffim_ClassificationDipole."""

    minSn = Field(dtype=float, default=7.0710678118654755, doc="Least S/N of the two lobes together")
    maxFluxRatio = Field(dtype=float, default=0.65, doc="Largest part of the flux in one lobe")


class DipoleFitPluginConfig(PluginConfig):
    """ip_diffim_DipoleFit."""

    fitAllDiaSources = Field(dtype=float, default=0.0, doc="Fit sources of one sign too?")
    maxSeparation = Field(dtype=float, default=5.0, doc="Largest separation (sigma of the PSF)")
    relWeight = Field(dtype=float, default=0.5, doc="Weight of the two images against their difference")
    tolerance = Field(dtype=float, default=1e-7, doc="Tolerance of the fit")
    fitBackground = Field(
        dtype=int, default=1, doc="Plane under the source: 0 none, 1 fitted first, 2 fitted first and again"
    )
    fitSeparateNegParams = Field(dtype=bool, default=False, doc="A flux of its own for the negative lobe?")
    minSn = Field(dtype=float, default=7.0710678118654755, doc="Least S/N of the two lobes together")
    maxFluxRatio = Field(dtype=float, default=0.65, doc="Largest part of the flux in one lobe")
    maxChi2DoF = Field(dtype=float, default=0.05, doc="Significance of the fit; not used")


PLUGINS: dict[str, type[Config]] = {
    "base_CircularApertureFlux": CircularApertureFluxConfig,
    "base_GaussianCentroid": CentroidConfig,
    "base_GaussianFlux": GaussianFluxConfig,
    "base_NaiveCentroid": NaiveCentroidConfig,
    "base_PeakCentroid": PluginConfig,
    "base_PeakLikelihoodFlux": PeakLikelihoodFluxConfig,
    "base_PixelFlags": PixelFlagsConfig,
    "base_PsfFlux": PsfFluxConfig,
    "base_SdssCentroid": SdssCentroidConfig,
    "base_SdssShape": SdssShapeConfig,
    "base_SkyCoord": PluginConfig,
    "base_Variance": PluginConfig,
    "ip_diffim_ClassificationDipole": ClassificationDipoleConfig,
    "ip_diffim_DipoleFit": DipoleFitPluginConfig,
    "ip_diffim_NaiveDipoleCentroid": PluginConfig,
    "ip_diffim_NaiveDipoleFlux": PluginConfig,
    "ip_diffim_PsfDipoleFlux": PsfDipoleFluxConfig,
}


def _slot(default: str | None, doc: str) -> Field:
    return Field(dtype=str, default=default, optional=True, doc=doc)


class SourceSlotConfig(Config):
    """Which measurement stands for the source."""

    centroid = _slot("base_SdssCentroid", "Position")
    shape = _slot("base_SdssShape", "Moments")
    apFlux = _slot("base_CircularApertureFlux_12_0", "Aperture flux")
    modelFlux = _slot("base_GaussianFlux", "Model flux")
    psfFlux = _slot("base_PsfFlux", "PSF flux")
    instFlux = _slot("base_GaussianFlux", "Instrumental flux")
    calibFlux = _slot("base_CircularApertureFlux_12_0", "Flux for the calibration")


class NoiseReplacerConfig(Config):
    """Noise in place of neighbours."""

    noiseSource = ChoiceField(
        dtype=str,
        doc="Where its mean and variance come from",
        default="measure",
        allowed={"measure": "the image", "meta": "BGMEAN of the metadata", "variance": "the variance plane"},
    )
    noiseOffset = Field(dtype=float, default=0.0, doc="Added to the noise")
    noiseSeedMultiplier = Field(dtype=int, default=1, doc="Seed, times the exposure's id; 0: fixed")


class SingleFrameMeasurementConfig(Config):
    """Measurements on one image."""

    slots = ConfigField(dtype=SourceSlotConfig, doc="Which measurement stands for the source")
    doReplaceWithNoise = Field(dtype=bool, default=True, doc="Replace neighbours by noise?")
    noiseReplacer = ConfigField(dtype=NoiseReplacerConfig, doc="How they are replaced")
    plugins = ConfigChoiceField(
        typemap=PLUGINS,
        multi=True,
        doc="Measurements to run, and their settings",
        default=[
            "base_PixelFlags",
            "base_SdssCentroid",
            "base_GaussianCentroid",
            "base_NaiveCentroid",
            "base_SdssShape",
            "base_GaussianFlux",
            "base_PsfFlux",
            "base_CircularApertureFlux",
            "base_SkyCoord",
            "base_Variance",
        ],
    )
    algorithms = property(lambda self: self.plugins, doc="Old name of ``plugins``.")


class DipoleFitTaskConfig(SingleFrameMeasurementConfig):
    """Measurements on a difference, with a dipole fit."""

    def setDefaults(self) -> None:
        super().setDefaults()
        self.plugins.names = [
            "base_CircularApertureFlux",
            "base_PixelFlags",
            "base_SkyCoord",
            "base_PsfFlux",
            "base_SdssCentroid",
            "base_SdssShape",
            "base_GaussianCentroid",
            "base_GaussianFlux",
            "base_PeakLikelihoodFlux",
            "base_PeakCentroid",
            "base_NaiveCentroid",
            "ip_diffim_NaiveDipoleCentroid",
            "ip_diffim_NaiveDipoleFlux",
            "ip_diffim_PsfDipoleFlux",
            "ip_diffim_ClassificationDipole",
        ]
        self.slots.calibFlux = None
        self.slots.modelFlux = None
        self.slots.instFlux = None
        self.slots.shape = "base_SdssShape"
        self.slots.centroid = "ip_diffim_NaiveDipoleCentroid"
        self.doReplaceWithNoise = False


SingleFrameMeasurementTask = stand_in(
    "lsst.meas.base.sfm.SingleFrameMeasurementTask", SingleFrameMeasurementConfig
)
DipoleFitTask = stand_in("lsst.ip.diffim.dipoleFitTask.DipoleFitTask", DipoleFitTaskConfig)
