# SPDX-License-Identifier: BSD-3-Clause
"""afw's ``SkyWcs``: a set of frames of AST, from parent pixels to ICRS (afw.md 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw import astdump, astmaps, nearest
from diffrun.files.afw.astdump import ANEW
from diffrun.files.afw.wcs import TanSipWcs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SkyWcs:
    """World coordinates that no FITS header can hold in general.

    Attributes
    ----------
    chain : `diffrun.files.afw.astmaps.Mapping`
        From 0-based parent pixels to ICRS right ascension and declination, radians.
    crval : `tuple` [`float`, `float`]
        The tangent point, degrees.
    """

    chain: astmaps.Mapping
    crval: tuple[float, float]

    def pixel_to_sky(self, x: Array, y: Array) -> tuple[Array, Array]:
        """ICRS right ascension (0 to 360) and declination, degrees, of parent pixels."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        ra, dec = np.degrees(self.chain.forward(np.stack([x.ravel(), y.ravel()])))
        return np.asarray(ra % 360.0).reshape(x.shape), np.asarray(dec).reshape(x.shape)

    def sky_to_pixel(self, ra: Array, dec: Array) -> tuple[Array, Array]:
        """Parent pixels of ICRS degrees; NaN for what lies behind the tangent plane."""
        ra, dec = np.broadcast_arrays(np.asarray(ra, float), np.asarray(dec, float))
        x, y = self.chain.inverse(np.radians(np.stack([ra.ravel(), dec.ravel()])))
        return np.asarray(x).reshape(ra.shape), np.asarray(y).reshape(ra.shape)

    def with_reverse(self, box: tuple[float, float, float, float]) -> TanSipWcs:
        """The TAN-SIP nearest to it over a box of parent pixels, which is what files hold."""
        return nearest.tan_sip(self, box)


def from_bytes(content: bytes) -> SkyWcs:
    """The WCS of the bytes that afw stores: ``1 SkyWcs <0|1> `` and a dump of a FrameSet.

    Raises
    ------
    diffrun.errors.DataError
        If it is damaged, is not in ICRS, or has a mapping that is not known here.
    """
    frames = astdump.parse(_text(content, "SkyWcs"))
    if frames.kind != "FrameSet":
        raise DataError(f"the WCS is an AST {frames.kind}", ANEW)
    last = frames.count("Currnt", frames.count("Nframe"))
    sky = frames.part(f"Frm{last}")
    system = sky.values.get("System", "ICRS")
    if sky.kind != "SkyFrame" or system != "ICRS" or "Axp1" in sky.values:
        raise DataError(f"the WCS ends in an AST {sky.kind} of the system {system}", "give a WCS in ICRS")
    chain = _chain(frames, frames.count("Base", 1), last)
    if (chain.n_in, chain.n_out) != (2, 2):
        raise DataError(f"the WCS maps {chain.n_in} axes to {chain.n_out}", ANEW)
    centre = float(np.degrees(sky.number("SRef1", 0.0))) % 360.0, float(np.degrees(sky.number("SRef2", 0.0)))
    return SkyWcs(chain, centre)


def transform(content: bytes) -> astmaps.Mapping:
    """The map of the bytes of a ``TransformPoint2ToPoint2``."""
    made = astmaps.mapping(astdump.parse(_text(content, "TransformPoint2ToPoint2")))
    if (made.n_in, made.n_out) != (2, 2):
        raise DataError(f"a transform maps {made.n_in} axes to {made.n_out}", ANEW)
    return made


def _text(content: bytes, kind: str) -> str:
    """The dump after afw's own words."""
    text = content.decode("ascii")
    if not text.startswith(f"1 {kind} "):
        raise DataError(f"a {kind} begins with {text[:20]!r}", ANEW)
    return text[text.find("Begin ") :]


def _chain(frames: astdump.Object, first: int, last: int) -> astmaps.Mapping:
    """The way from one frame to another, from parent to parent."""
    steps: list[astmaps.Mapping] = []
    frame = last
    while frame != first and len(steps) < frames.count("Nframe"):
        steps.append(astmaps.mapping(frames.part(f"Map{frame}"), bool(frames.count(f"Inv{frame}", 0))))
        frame = frames.count(f"Lnk{frame}")
    if frame != first or not steps:
        raise DataError("the WCS has no way from pixels to sky", ANEW)
    chain = steps.pop()
    while steps:
        after = steps.pop()
        if chain.n_out != after.n_in:
            raise DataError("the WCS joins maps that do not fit", ANEW)
        chain = astmaps.Series(chain, after)
    return chain
