# SPDX-License-Identifier: BSD-3-Clause
"""Configuration of the tasks that the engine does by other means, or not at all.

Names, nesting and defaults are those of ip_diffim, meas_algorithms, meas_astrom and pipe_tasks 12.1; the
texts are ours. They are here so that a configuration of the stack can be read, compared and refused by name.
"""

from __future__ import annotations

from lsst.pex.config import (
    Config,
    ConfigChoiceField,
    ConfigField,
    ConfigurableField,
    Field,
    ListField,
    RangeField,
)

from diffrun.engine.matchingconfig import PsfMatchConfigAL, PsfMatchConfigDF, WarperConfig
from diffrun.engine.sourceconfig import SingleFrameMeasurementTask, SourceDetectionTask
from diffrun.engine.targets import stand_in


class ImagePsfMatchConfig(Config):
    """Subtraction of two images."""

    kernel = ConfigChoiceField(
        typemap={"AL": PsfMatchConfigAL, "DF": PsfMatchConfigDF}, default="AL", doc="Kind of matching kernel"
    )
    selectDetection = ConfigurableField(
        target=SourceDetectionTask, doc="Detection of stars for the kernel where there is no src"
    )
    selectMeasurement = ConfigurableField(target=SingleFrameMeasurementTask, doc="Their measurement")

    def setDefaults(self) -> None:
        super().setDefaults()
        self.selectDetection.reEstimateBackground = False
        self.selectDetection.thresholdValue = 10.0
        self.selectMeasurement.plugins.names = [
            "base_SdssCentroid",
            "base_PsfFlux",
            "base_PixelFlags",
            "base_SdssShape",
            "base_GaussianFlux",
            "base_SkyCoord",
        ]
        self.selectMeasurement.slots.modelFlux = None
        self.selectMeasurement.slots.apFlux = None
        self.selectMeasurement.slots.calibFlux = None


class DecorrelateALKernelConfig(Config):
    """Whitening of the noise."""

    ignoreMaskPlanes = ListField(
        dtype=str,
        default=["INTRP", "EDGE", "DETECTED", "SAT", "CR", "BAD", "NO_DATA", "DETECTED_NEGATIVE"],
        doc="Mask planes whose pixels are left out of the mean variances",
    )


class GetCoaddAsTemplateConfig(Config):
    """A template from coadd patches."""

    templateBorderSize = Field(dtype=int, default=10, doc="Border of the template (px)")
    coaddName = Field(dtype=str, default="deep", doc="Name of the coadd")


class GetCalexpAsTemplateConfig(Config):
    """A template from one visit."""

    doAddCalexpBackground = Field(dtype=bool, default=True, doc="Add the background back to the template?")


class RegisterConfig(Config):
    """Registration of the images by their sources."""

    matchRadius = RangeField(dtype=float, default=1.0, min=0.0, inclusiveMin=False, doc="Radius (arcsec)")
    sipOrder = RangeField(dtype=int, default=4, min=2, doc="Order of the distortion")
    sipIter = RangeField(dtype=int, default=3, min=1, doc="Rounds of rejection")
    sipRej = RangeField(dtype=float, default=3.0, min=0.0, inclusiveMin=False, doc="Rejection (sigma)")
    warper = ConfigField(dtype=WarperConfig, doc="Warping")


class LoadReferenceObjectsConfig(Config):
    """Reference objects."""

    pixelMargin = RangeField(dtype=int, default=50, min=0, doc="Margin round the image (px)")
    defaultFilter = Field(dtype=str, default="", doc="Filter where none is known")


class MatcherConfig(Config):
    """Matching of sources to reference objects."""

    sourceFluxType = Field(dtype=str, default="Ap", doc="Flux of the sources")
    maxMatchDistArcSec = RangeField(dtype=float, default=3.0, min=0.0, doc="Farthest match (arcsec)")
    numBrightStars = RangeField(dtype=int, default=50, min=2, doc="Bright stars used")
    minMatchedPairs = RangeField(dtype=int, default=30, min=2, doc="Fewest pairs")
    minFracMatchedPairs = RangeField(dtype=float, default=0.3, min=0.0, doc="Smallest part matched")
    maxOffsetPix = RangeField(dtype=int, default=300, min=0, doc="Largest shift (px)")
    maxRotationDeg = RangeField(dtype=float, default=1.0, min=0.0, doc="Largest rotation (deg)")
    allowedNonperpDeg = RangeField(dtype=float, default=3.0, min=0.0, doc="Largest skew (deg)")
    numPointsForShape = Field(dtype=int, default=6, doc="Points of a shape")
    maxDeterminant = Field(dtype=float, default=0.02, doc="Largest change of area")
    minSnr = Field(dtype=float, default=40.0, doc="Least S/N")


class FitTanSipWcsConfig(Config):
    """Fit of a WCS."""

    order = RangeField(dtype=int, default=4, min=0, doc="Order of the distortion")
    numIter = RangeField(dtype=int, default=3, min=1, doc="Iterations")
    numRejIter = RangeField(dtype=int, default=1, min=0, doc="Rounds of rejection")
    rejSigma = RangeField(dtype=float, default=3.0, min=0.0, doc="Rejection (sigma)")
    maxScatterArcsec = RangeField(dtype=float, default=10.0, min=0.0, doc="Largest scatter (arcsec)")


class AstrometryConfig(Config):
    """Match of sources to reference objects."""

    forceKnownWcs = Field(dtype=bool, default=False, doc="Keep the WCS?")
    maxIter = RangeField(dtype=int, default=3, min=1, doc="Iterations")
    matchDistanceSigma = RangeField(dtype=float, default=2.0, min=0.0, doc="Match distance (sigma)")
    minMatchDistanceArcSec = RangeField(dtype=float, default=0.001, min=0.0, doc="Least distance (arcsec)")
    matcher = ConfigurableField(
        target=stand_in("lsst.meas.astrom.matchOptimisticB.MatchOptimisticBTask", MatcherConfig),
        doc="Matcher",
    )
    wcsFitter = ConfigurableField(
        target=stand_in("lsst.meas.astrom.fitTanSipWcs.FitTanSipWcsTask", FitTanSipWcsConfig), doc="Fitter"
    )


class ObjectSizeStarSelectorConfig(Config):
    """Stars by their size."""

    kernelSize = Field(dtype=int, default=21, doc="Size of PSF candidates (px)")
    borderWidth = Field(dtype=int, default=0, doc="Border of PSF candidates (px)")
    badFlags = ListField(
        dtype=str,
        default=[
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_interpolatedCenter",
            "base_PixelFlags_flag_saturatedCenter",
            "base_PixelFlags_flag_crCenter",
            "base_PixelFlags_flag_bad",
            "base_PixelFlags_flag_interpolated",
        ],
        doc="Flags of sources that are no candidates",
    )
    fluxMin = RangeField(dtype=float, default=12500.0, min=0.0, doc="Least flux")
    fluxMax = RangeField(dtype=float, default=0.0, min=0.0, doc="Largest flux; 0: no limit")
    widthMin = RangeField(dtype=float, default=0.0, min=0.0, doc="Least width (px)")
    widthMax = RangeField(dtype=float, default=10.0, min=0.0, doc="Largest width (px)")
    sourceFluxField = Field(dtype=str, default="base_GaussianFlux_flux", doc="Flux that is meant")
    widthStdAllowed = RangeField(dtype=float, default=0.15, min=0.0, doc="Scatter of the stars' width")
    nSigmaClip = RangeField(dtype=float, default=2.0, min=0.0, doc="Clipping about their median (sigma)")
