# SPDX-License-Identifier: BSD-3-Clause
"""Masks within the 16 planes that afw 12.1 reads; a wider one it takes for blank."""

from __future__ import annotations

import numpy as np

from diffrun.errors import DataError
from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure

_MAX_PLANES = 16


def sixteen_planes(exposure: Exposure) -> Exposure:
    """The exposure with bits below 16: of more planes those go that no pixel has.

    An exposure that has such bits already is given back as it is.

    Raises
    ------
    diffrun.errors.DataError
        If more than 16 planes are in use.
    """
    if all(0 <= bit < _MAX_PLANES for bit in exposure.planes.values()):
        return exposure
    used = int(np.bitwise_or.reduce(exposure.mask, axis=None)) & 0xFFFFFFFF
    ordered = sorted(exposure.planes.items(), key=lambda item: item[1])
    kept = [(name, old) for name, old in ordered if name in DEFAULT_PLANES or used >> old & 1]
    if len(kept) > _MAX_PLANES:
        names = ", ".join(name for name, _ in kept if name not in DEFAULT_PLANES)
        raise DataError(f"the mask has {len(kept)} planes in use", f"drop some of {names}: 16 can be written")
    taken = {old for _, old in kept if old < _MAX_PLANES}
    free = iter(bit for bit in range(_MAX_PLANES) if bit not in taken)
    planes = {name: old if old < _MAX_PLANES else next(free) for name, old in kept}
    mask = exposure.mask & np.int32(0xFFFF)
    for name, old in kept:
        if planes[name] != old:
            mask &= ~np.int32(1 << planes[name])
            mask |= ((exposure.mask >> np.int32(old)) & np.int32(1)) << np.int32(planes[name])
    return exposure.replace(mask=mask, planes=planes)
