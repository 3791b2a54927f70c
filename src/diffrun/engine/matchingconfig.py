# SPDX-License-Identifier: BSD-3-Clause
"""Configuration of PSF matching: ``subtract`` with its kernel, warping and background.

Names, nesting and defaults are those of ip_diffim 12.1 (``imagePsfMatch.py``, ``psfMatch.py``), afw 12.1
(``warper.py``) and meas_algorithms 12.1 (``subtractBackground.py``); the texts are ours.
"""

from __future__ import annotations

from lsst.pex.config import ChoiceField, Config, ConfigField, Field, ListField, RangeField

THRESHOLD_TYPES = {
    "value": "counts",
    "stdev": "times the standard deviation of the image",
    "variance": "the variance of the image",
    "pixel_stdev": "times the standard deviation of each pixel, from the variance plane",
}


class WarperConfig(Config):
    """How an image is resampled onto the pixels of another."""

    warpingKernelName = ChoiceField(
        dtype=str,
        doc="Interpolation of the pixels",
        default="lanczos3",
        allowed={
            "bilinear": "bilinear",
            "lanczos3": "Lanczos of order 3",
            "lanczos4": "Lanczos of order 4",
            "lanczos5": "Lanczos of order 5",
        },
    )
    maskWarpingKernelName = ChoiceField(
        dtype=str,
        doc="Which pixels a mask bit is taken from",
        default="bilinear",
        allowed={
            "": "those of the pixels' own interpolation",
            "bilinear": "bilinear",
            "lanczos3": "Lanczos of order 3",
            "lanczos4": "Lanczos of order 4",
            "lanczos5": "Lanczos of order 5",
        },
    )
    interpLength = Field(
        dtype=int, default=10, doc="Positions are exact on a grid of this step (px) and linear between"
    )
    cacheSize = Field(dtype=int, default=1000000, doc="Values of the interpolation kernel that are kept")
    devicePreference = Field(dtype=int, default=0, doc="Processor or graphics card; 0: as available")
    growFullMask = Field(dtype=int, default=16, doc="Mask bits spread over the whole kernel: EDGE")


class SubtractBackgroundConfig(Config):
    """A smooth background: a statistic in bins, interpolated or approximated."""

    statisticsProperty = ChoiceField(
        dtype=str,
        doc="Statistic of each bin",
        default="MEANCLIP",
        allowed={"MEANCLIP": "clipped mean", "MEAN": "mean", "MEDIAN": "median"},
    )
    undersampleStyle = ChoiceField(
        dtype=str,
        doc="What to do with too few bins for the interpolation",
        default="REDUCE_INTERP_ORDER",
        allowed={
            "THROW_EXCEPTION": "fail",
            "REDUCE_INTERP_ORDER": "interpolate at a lower order",
            "INCREASE_NXNYSAMPLE": "make more bins",
        },
    )
    binSize = RangeField(dtype=int, default=128, min=1, doc="Side of a bin (px)")
    algorithm = ChoiceField(
        dtype=str,
        doc="Interpolation between the bins",
        default="NATURAL_SPLINE",
        optional=True,
        allowed={
            "CONSTANT": "one value",
            "LINEAR": "linear",
            "NATURAL_SPLINE": "cubic spline, straight at its ends",
            "AKIMA_SPLINE": "Akima's spline, less moved by outliers",
            "NONE": "no background",
        },
    )
    ignoredPixelMask = ListField(
        dtype=str,
        doc="Mask planes whose pixels are left out",
        default=["BAD", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA"],
    )
    isNanSafe = Field(dtype=bool, default=False, doc="Leave out NaN?")
    useApprox = Field(dtype=bool, default=True, doc="Approximate by Chebyshev polynomials?")
    approxOrderX = Field(dtype=int, default=6, doc="Order of the approximation in x")
    approxOrderY = Field(dtype=int, default=-1, doc="Order of the approximation in y; -1: as in x")
    weighting = Field(dtype=bool, default=True, doc="Weight the approximation by inverse variance?")


class DetectionConfig(Config):
    """Which detections can be stamps for the kernel, where no source catalogue is used."""

    detThreshold = RangeField(dtype=float, default=10.0, min=3.0, doc="Detection threshold")
    detThresholdType = ChoiceField(
        dtype=str, doc="Unit of the threshold", default="pixel_stdev", allowed=THRESHOLD_TYPES
    )
    detOnTemplate = Field(
        dtype=bool, default=True, doc="Detect on the template rather than the science image?"
    )
    badMaskPlanes = ListField(
        dtype=str, default=["NO_DATA", "EDGE", "SAT"], doc="Mask planes that spoil a detection"
    )
    fpNpixMin = RangeField(dtype=int, default=5, min=5, doc="Fewest pixels of a footprint")
    fpNpixMax = RangeField(
        dtype=int, default=500, max=500, inclusiveMax=True, doc="Most pixels of a footprint"
    )
    fpGrowKernelScaling = RangeField(
        dtype=float,
        default=1.0,
        min=1.0,
        doc="Stamp half-width in units of the kernel's size, if scaleByFwhm",
    )
    fpGrowPix = RangeField(dtype=int, default=30, min=10, doc="Stamp half-width (px), if not scaleByFwhm")
    scaleByFwhm = Field(dtype=bool, default=True, doc="Scale the stamps with the kernel?")


class PsfMatchConfig(Config):
    """The matching kernel: basis, spatial model, candidates and their rejection."""

    warpingConfig = ConfigField(dtype=WarperConfig, doc="Warping of the template")
    detectionConfig = ConfigField(dtype=DetectionConfig, doc="Detection of stamps")
    afwBackgroundConfig = ConfigField(dtype=SubtractBackgroundConfig, doc="Background before the fit")
    useAfwBackground = Field(dtype=bool, default=False, doc="Subtract such a background before the fit?")
    fitForBackground = Field(dtype=bool, default=False, doc="Fit a differential background with the kernel?")
    kernelBasisSet = ChoiceField(
        dtype=str,
        doc="Basis of the kernel",
        default="alard-lupton",
        allowed={
            "alard-lupton": "Gaussians times polynomials; the kernel sum is the same everywhere",
            "delta-function": "one function a pixel",
        },
    )
    kernelSize = Field(dtype=int, default=21, doc="Side of the kernel (px, odd), if not scaled by FWHM")
    scaleByFwhm = Field(dtype=bool, default=True, doc="Scale the kernel and its Gaussians by the two FWHM?")
    kernelSizeFwhmScaling = RangeField(
        dtype=float, default=6.0, min=1.0, doc="Side of the kernel in units of its largest sigma"
    )
    kernelSizeMin = Field(dtype=int, default=35, doc="Smallest side of the kernel (px)")
    kernelSizeMax = Field(dtype=int, default=35, doc="Largest side of the kernel (px)")
    spatialModelType = ChoiceField(
        dtype=str,
        doc="Functions for the variation over the field",
        default="chebyshev1",
        allowed={
            "chebyshev1": "Chebyshev polynomials of the first kind",
            "polynomial": "polynomials in x, y",
        },
    )
    spatialKernelOrder = RangeField(dtype=int, default=2, min=0, doc="Order of the kernel's variation")
    spatialBgOrder = RangeField(dtype=int, default=1, min=0, doc="Order of the differential background")
    sizeCellX = RangeField(dtype=int, default=128, min=32, doc="Width of a cell of candidates (px)")
    sizeCellY = RangeField(dtype=int, default=128, min=32, doc="Height of a cell of candidates (px)")
    nStarPerCell = RangeField(dtype=int, default=3, min=1, doc="Candidates used in each cell")
    maxSpatialIterations = RangeField(
        dtype=int, default=3, min=1, max=5, inclusiveMax=True, doc="Rounds of rejection in the spatial fit"
    )
    usePcaForSpatialKernel = Field(dtype=bool, default=False, doc="Fit principal components of the kernels?")
    subtractMeanForPca = Field(dtype=bool, default=True, doc="Take off their mean first?")
    numPrincipalComponents = RangeField(dtype=int, default=5, min=3, doc="Components, the mean included")
    singleKernelClipping = Field(dtype=bool, default=True, doc="Reject candidates by their own residual?")
    kernelSumClipping = Field(dtype=bool, default=True, doc="Reject candidates by their kernel sum?")
    spatialKernelClipping = Field(dtype=bool, default=True, doc="Reject candidates after the spatial fit?")
    checkConditionNumber = Field(dtype=bool, default=False, doc="Reject ill-conditioned candidates?")
    badMaskPlanes = ListField(
        dtype=str, default=["NO_DATA", "EDGE", "SAT"], doc="Mask planes whose pixels spoil a candidate"
    )
    candidateResidualMeanMax = RangeField(
        dtype=float, default=0.25, min=0.0, doc="Largest mean residual of a candidate (sigma a pixel)"
    )
    candidateResidualStdMax = RangeField(
        dtype=float, default=1.5, min=0.0, doc="Largest rms residual of a candidate (sigma a pixel)"
    )
    useCoreStats = Field(dtype=bool, default=False, doc="Judge the residual in the core alone?")
    candidateCoreRadius = RangeField(dtype=int, default=3, min=1, doc="Radius of the core (px)")
    maxKsumSigma = RangeField(dtype=float, default=3.0, min=0.0, doc="Clipping of kernel sums (sigma)")
    maxConditionNumber = RangeField(dtype=float, default=5.0e7, min=0.0, doc="Worst condition of a candidate")
    conditionNumberType = ChoiceField(
        dtype=str,
        doc="How the condition is measured",
        default="EIGENVALUE",
        allowed={"SVD": "by singular values", "EIGENVALUE": "by eigenvalues"},
    )
    maxSpatialConditionNumber = RangeField(
        dtype=float, default=1.0e10, min=0.0, doc="Worst condition of the spatial fit before a warning"
    )
    iterateSingleKernel = Field(dtype=bool, default=False, doc="Refit each candidate with a better variance?")
    constantVarianceWeighting = Field(dtype=bool, default=True, doc="One weight for all pixels of a stamp?")
    calculateKernelUncertainty = Field(dtype=bool, default=False, doc="Errors of each candidate's kernel?")
    useBicForKernelBasis = Field(dtype=bool, default=False, doc="Choose the basis by information criterion?")


class PsfMatchConfigAL(PsfMatchConfig):
    """Alard-Lupton basis."""

    alardNGauss = RangeField(dtype=int, default=3, min=1, doc="Number of Gaussians")
    alardDegGauss = ListField(dtype=int, default=[4, 2, 2], doc="Degree of the polynomial on each Gaussian")
    alardSigGauss = ListField(
        dtype=float, default=[0.7, 1.5, 3.0], doc="Sigma of each Gaussian (px), if not scaled by FWHM"
    )
    alardGaussBeta = RangeField(dtype=float, default=2.0, min=0.0, doc="Ratio between successive sigmas")
    alardMinSig = RangeField(dtype=float, default=0.7, min=0.25, doc="Smallest sigma (px)")
    alardDegGaussDeconv = RangeField(
        dtype=int, default=3, min=1, doc="Degree of all polynomials in a deconvolution"
    )
    alardMinSigDeconv = RangeField(
        dtype=float, default=0.4, min=0.25, doc="Smallest sigma (px) in a deconvolution"
    )
    alardNGaussDeconv = RangeField(dtype=int, default=3, min=1, doc="Gaussians in a deconvolution")
    wingSigma = RangeField(
        dtype=float,
        default=6.0,
        min=0.0,
        doc="Sigma (px) of one more Gaussian, of degree 0, for the wings; 0 for none. The engine's own",
    )

    def setDefaults(self) -> None:
        super().setDefaults()
        self.kernelBasisSet = "alard-lupton"
        self.maxConditionNumber = 5.0e7


class PsfMatchConfigDF(PsfMatchConfig):
    """Delta-function basis."""

    useRegularization = Field(dtype=bool, default=True, doc="Smooth the kernel by regularisation?")
    regularizationType = ChoiceField(
        dtype=str,
        doc="What is penalised",
        default="centralDifference",
        allowed={
            "centralDifference": "second derivatives, by central differences",
            "forwardDifference": "first to third derivatives, by forward differences",
        },
    )
    centralRegularizationStencil = ChoiceField(
        dtype=int,
        doc="Points of the central difference",
        default=9,
        allowed={5: "neighbours in x and y", 9: "diagonal neighbours too"},
    )
    forwardRegularizationOrders = ListField(
        dtype=int, default=[1, 2], itemCheck=lambda order: 0 < order < 4, doc="Orders of the derivatives"
    )
    regularizationBorderPenalty = RangeField(dtype=float, default=3.0, min=0.0, doc="Penalty at the border")
    lambdaType = ChoiceField(
        dtype=str,
        doc="How strong the regularisation is",
        default="absolute",
        allowed={
            "absolute": "lambdaValue",
            "relative": "lambdaScaling times the ratio of the traces",
            "minimizeBiasedRisk": "by the least biased risk",
            "minimizeUnbiasedRisk": "by the least unbiased risk",
        },
    )
    lambdaValue = Field(dtype=float, default=0.2, doc="Absolute strength")
    lambdaScaling = Field(dtype=float, default=1e-4, doc="Relative strength")
    lambdaStepType = ChoiceField(
        dtype=str,
        doc="Steps of the search for the least risk",
        default="log",
        allowed={"log": "in the logarithm", "linear": "in the value"},
    )
    lambdaMin = Field(dtype=float, default=-1.0, doc="Start of the search")
    lambdaMax = Field(dtype=float, default=2.0, doc="End of the search")
    lambdaStep = Field(dtype=float, default=0.1, doc="Step of the search")

    def setDefaults(self) -> None:
        super().setDefaults()
        self.kernelBasisSet = "delta-function"
        self.maxConditionNumber = 5.0e6
        self.usePcaForSpatialKernel = True
        self.subtractMeanForPca = True
        self.useBicForKernelBasis = False
