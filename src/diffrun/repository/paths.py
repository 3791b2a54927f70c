# SPDX-License-Identifier: BSD-3-Clause
"""Where each dataset lies in a Gen2 repository: ``policy/LsstSimMapper.paf`` of obs_lsstSim 12.1.

Templates marked central there come from obs_base 12.1, ``policy/datasets.yaml``. ``kernel`` is ours: the
PSF-matching kernel beside each difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from diffrun.errors import UsageError
from diffrun.repository.dataid import DataId

_CCD = "v%(visit)d-f%(filter)s/R%(raft)s"
_SNAP = "v%(visit)d-f%(filter)s/E%(snap)03d/R%(raft)s"
_AMP = "R%(raft)s_S%(sensor)s_C%(channel)s"


def _difference(prefix: str, schema: str) -> dict[str, str]:
    folder = f"{prefix}/{_CCD}"
    return {
        f"{prefix}_differenceExp": f"{folder}/diffexp-S%(sensor)s.fits",
        f"{prefix}_matchedExp": f"{folder}/matchexp-S%(sensor)s.fits",
        f"{prefix}_diaSrc": f"{folder}/diaSrc-S%(sensor)s.fits",
        f"{prefix}_kernelSrc": f"{folder}/kernelSrc-S%(sensor)s.fits",
        f"{prefix}_kernel": f"{folder}/kernel-S%(sensor)s.fits",
        f"{prefix}_metadata": f"{folder}/metadata-S%(sensor)s.boost",
        f"{prefix}_config": f"config/{prefix}.py",
        f"{prefix}_diaSrc_schema": f"schema/{schema}.fits",
    }


#: Dataset name -> path template, in the notation of the policy.
TEMPLATES: Mapping[str, str] = {
    "raw": f"raw/{_SNAP}/S%(sensor)s/imsim_%(visit)d_{_AMP}_E%(snap)03d.fits.gz",
    "eimage": f"eimage/{_SNAP}/eimage_%(visit)d_R%(raft)s_S%(sensor)s_E%(snap)03d.fits.gz",
    "postISRCCD": f"postISRCCD/{_CCD}/S%(sensor)s.fits",
    "icExp": f"icExp/{_CCD}/S%(sensor)s.fits",
    "icExpBackground": f"icExp/{_CCD}/bkgd-S%(sensor)s.fits",
    "icSrc": f"icSrc/{_CCD}/S%(sensor)s.fits",
    "icMatch": f"icMatch/{_CCD}/S%(sensor)s.fits",
    "calexp": f"calexp/{_CCD}/S%(sensor)s.fits",
    "calexpBackground": f"calexp/{_CCD}/bkgd-S%(sensor)s.fits",
    "src": f"src/{_CCD}/S%(sensor)s.fits",
    "srcMatch": f"srcMatch/{_CCD}/S%(sensor)s.fits",
    "processCcd_metadata": f"processCcd_metadata/{_CCD}/S%(sensor)s.boost",
    "processCcd_config": "config/processCcd.py",
    "processEimage_metadata": (
        "processEimage_metadata/v%(visit)d-f%(filter)s/s%(snap)i/R%(raft)s/S%(sensor)s.boost"
    ),
    "processEimage_config": "config/processEimage.py",
    "src_schema": "schema/src.fits",
    "icSrc_schema": "schema/icSrc.fits",
    "packages": "config/packages.pickle",
    "deepCoadd": "deepCoadd/%(filter)s/%(tract)d/%(patch)s.fits",
    "deepCoadd_skyMap": "deepCoadd/skyMap.pickle",
    "dcrModel": "dcrModel/%(filter)s%(subfilter)s/%(tract)d/%(patch)s.fits",
    **_difference("deepDiff", "deepDiff_diaSrc"),
    **_difference("goodSeeingDiff", "goodSeeingDiffSrc"),
}


def relative(dataset: str, data_id: DataId | None = None, **keys: int | str) -> PurePosixPath:
    """The path of a dataset below the root of its repository.

    Parameters
    ----------
    dataset : `str`
        A key of `TEMPLATES`.
    data_id : `DataId`, optional
        Not needed by datasets of the whole repository, such as ``deepDiff_config``.
    **keys
        Further keys of the template: ``snap``, ``channel``, ``tract``, ``patch``, ``subfilter``.

    Raises
    ------
    UsageError
        If there is no such dataset, or its template has a key that is not given.
    """
    template = TEMPLATES.get(dataset)
    if template is None:
        raise UsageError(f"obs_lsstSim has no dataset {dataset!r}", f"it has {', '.join(sorted(TEMPLATES))}")
    values = {**(data_id.as_dict() if data_id else {}), **keys}
    for key in ("raft", "sensor", "channel"):
        if key in values:
            values[key] = str(values[key]).replace(",", "")
    try:
        return PurePosixPath(template % values)
    except KeyError as missing:
        raise UsageError(f"the path of {dataset} needs the key {missing}") from None
