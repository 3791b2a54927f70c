# SPDX-License-Identifier: BSD-3-Clause
"""World coordinates: the gnomonic projection with SIP polynomials, in parent pixels and ICRS degrees."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError

Array = NDArray[np.float64]
NO_WCS = "give an image with a TAN or TAN-SIP world coordinate system"
#: A card that says that an exposure has no WCS, and coordinates that are made up.
MADE_UP = "DIFFRUN_NO_WCS"
_MAX_SIP_ORDER = 9


@dataclass(frozen=True)
class TanSipWcs:
    """A tangent plane with SIP distortion (Shupe et al. 2005), as afw 12.1's ``TanWcs``.

    Attributes
    ----------
    crval : `tuple` [`float`, `float`]
        ICRS degrees of the tangent point.
    crpix : `tuple` [`float`, `float`]
        The tangent point's parent pixel, 0-based.
    cd : `numpy.ndarray`, (2, 2), float64
        Degrees per pixel: (ξ, η) = cd (u + A(u, v), v + B(u, v)), u = x - crpix_x, v = y - crpix_y.
    a, b : `numpy.ndarray`, (order + 1, order + 1), float64, or `None`
        SIP polynomials: element (i, j) goes with u^i v^j.
    ap, bp : `numpy.ndarray` or `None`
        The reverse polynomials as stored; written back, and the start of the exact inversion.
    """

    crval: tuple[float, float]
    crpix: tuple[float, float]
    cd: Array
    a: Array | None = None
    b: Array | None = None
    ap: Array | None = None
    bp: Array | None = None

    def pixel_to_sky(self, x: Array, y: Array) -> tuple[Array, Array]:
        """ICRS right ascension (0 to 360) and declination, degrees, of parent pixels."""
        u, v = np.asarray(x, float) - self.crpix[0], np.asarray(y, float) - self.crpix[1]
        u, v = u + _polynomial(self.a, u, v), v + _polynomial(self.b, u, v)
        xi = np.radians(self.cd[0, 0] * u + self.cd[0, 1] * v)
        eta = np.radians(self.cd[1, 0] * u + self.cd[1, 1] * v)
        dec0 = np.radians(self.crval[1])
        # Spherical trigonometry of the tangent plane (Calabretta & Greisen 2002, 5.1.3).
        north = np.cos(dec0) - eta * np.sin(dec0)
        ra = self.crval[0] + np.degrees(np.arctan2(xi, north))
        dec = np.degrees(np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, north)))
        return np.asarray(ra % 360.0), np.asarray(dec)

    def sky_to_pixel(self, ra: Array, dec: Array) -> tuple[Array, Array]:
        """Parent pixels of ICRS degrees; NaN for what lies behind the tangent plane."""
        dra, dec0 = np.radians(np.asarray(ra, float) - self.crval[0]), np.radians(self.crval[1])
        sin_dec, cos_dec = np.sin(np.radians(dec)), np.cos(np.radians(dec))
        depth = np.sin(dec0) * sin_dec + np.cos(dec0) * cos_dec * np.cos(dra)
        depth = np.where(depth > 0, depth, np.nan)
        xi = np.degrees(cos_dec * np.sin(dra) / depth)
        eta = np.degrees((np.cos(dec0) * sin_dec - np.sin(dec0) * cos_dec * np.cos(dra)) / depth)
        inverse = np.linalg.inv(self.cd)
        big_u = inverse[0, 0] * xi + inverse[0, 1] * eta
        big_v = inverse[1, 0] * xi + inverse[1, 1] * eta
        u, v = self._undistorted(big_u, big_v)
        return np.asarray(u + self.crpix[0]), np.asarray(v + self.crpix[1])

    def header(self, xy0: tuple[int, int]) -> dict[str, Any]:
        """The FITS cards for an image whose first pixel is parent pixel ``xy0``."""
        sip = self.a is not None
        cards: dict[str, Any] = {
            "RADESYS": "ICRS",
            "CRPIX1": self.crpix[0] + 1 - xy0[0],
            "CRPIX2": self.crpix[1] + 1 - xy0[1],
            "CD1_1": float(self.cd[0, 0]),
            "CD1_2": float(self.cd[0, 1]),
            "CD2_1": float(self.cd[1, 0]),
            "CD2_2": float(self.cd[1, 1]),
            "CRVAL1": self.crval[0],
            "CRVAL2": self.crval[1],
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CTYPE1": "RA---TAN-SIP" if sip else "RA---TAN",
            "CTYPE2": "DEC--TAN-SIP" if sip else "DEC--TAN",
        }
        for name, matrix in (("A", self.a), ("B", self.b), ("AP", self.ap), ("BP", self.bp)):
            if matrix is not None:
                cards[f"{name}_ORDER"] = len(matrix) - 1
                cards |= {f"{name}_{i}_{j}": float(matrix[i, j]) for i, j in np.argwhere(matrix)}
        return cards

    def with_reverse(self, box: tuple[float, float, float, float]) -> TanSipWcs:
        """The same WCS with reverse polynomials, which afw 12.1 demands of a distorted one.

        Parameters
        ----------
        box : `tuple` of `float`
            ``(min_x, min_y, max_x, max_y)``, the parent pixels over which they are fitted by least squares.
        """
        if self.a is None or self.b is None or (self.ap is not None and self.bp is not None):
            return self
        order = max(len(self.a), len(self.b))
        x = np.linspace(box[0], box[2], 4 * order) - self.crpix[0]
        y = np.linspace(box[1], box[3], 4 * order) - self.crpix[1]
        u, v = (grid.ravel() for grid in np.meshgrid(x, y))
        big_u, big_v = u + _polynomial(self.a, u, v), v + _polynomial(self.b, u, v)
        # Scaled variables keep high powers of pixels from drowning low ones.
        scale = max(float(np.abs(big_u).max()), float(np.abs(big_v).max()), 1.0)
        powers = [(i, j) for i in range(order + 1) for j in range(order + 1 - i)]
        design = np.stack([(big_u / scale) ** i * (big_v / scale) ** j for i, j in powers], axis=1)
        matrices = []
        for wanted in (u - big_u, v - big_v):
            solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
            matrix = np.zeros((order + 1, order + 1))
            for (i, j), coefficient in zip(powers, solution, strict=True):
                matrix[i, j] = coefficient / scale ** (i + j)
            matrices.append(matrix)
        return dataclasses.replace(self, ap=matrices[0], bp=matrices[1])

    def _undistorted(self, big_u: Array, big_v: Array) -> tuple[Array, Array]:
        """Solve u + A(u, v) = U, v + B(u, v) = V by Newton's method from the reverse polynomials."""
        if self.a is None or self.b is None:
            return big_u, big_v
        u, v = big_u + _polynomial(self.ap, big_u, big_v), big_v + _polynomial(self.bp, big_u, big_v)
        for _ in range(8):
            fu, fv = u + _polynomial(self.a, u, v) - big_u, v + _polynomial(self.b, u, v) - big_v
            au, av = _gradient(self.a, u, v)
            bu, bv = _gradient(self.b, u, v)
            det = (1 + au) * (1 + bv) - av * bu
            du, dv = ((1 + bv) * fu - av * fv) / det, ((1 + au) * fv - bu * fu) / det
            u, v = u - du, v - dv
            if not np.any(np.abs(du) + np.abs(dv) > 1e-10):
                break
        return u, v


def from_header(header: Mapping[str, Any], xy0: tuple[int, int]) -> TanSipWcs:
    """The WCS of a FITS header (FITS standard 4.0, section 8; SIP), turned to ICRS.

    Parameters
    ----------
    header : mapping
        Cards of an image HDU.
    xy0 : `tuple` [`int`, `int`]
        Parent pixel of the image's first pixel.

    Raises
    ------
    diffrun.errors.DataError
        If there is none, it is not TAN or TAN-SIP, or the cards of its reference pixel are missing.
    """
    kinds = (str(header.get("CTYPE1", "")).strip(), str(header.get("CTYPE2", "")).strip())
    sip = kinds == ("RA---TAN-SIP", "DEC--TAN-SIP")
    if not sip and kinds != ("RA---TAN", "DEC--TAN"):
        raise DataError(f"the image's WCS has CTYPE {kinds[0] or 'nothing'}, {kinds[1] or 'nothing'}", NO_WCS)
    refuse_missing(header)
    if float(header.get("LONPOLE", 180.0)) != 180.0:
        raise DataError(f"the image's WCS has LONPOLE {header['LONPOLE']}", NO_WCS)
    matrices = [_sip_matrix(header, name) if sip else None for name in ("A", "B", "AP", "BP")]
    wcs = TanSipWcs(
        (float(header["CRVAL1"]), float(header["CRVAL2"])),
        (float(header["CRPIX1"]) - 1 + xy0[0], float(header["CRPIX2"]) - 1 + xy0[1]),
        _cd_matrix(header),
        *matrices,
    )
    return checked(to_icrs(wcs, *frame(header)))


def refuse_missing(header: Mapping[str, Any]) -> None:
    """`DataError` without the cards of the reference pixel, for which wcslib silently takes 0."""
    missing = [card for card in ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2") if card not in header]
    if missing:
        raise DataError(f"the image's WCS lacks {', '.join(missing)}", NO_WCS)


def checked(wcs: TanSipWcs) -> TanSipWcs:
    """The WCS itself, if its numbers can be used."""
    matrices = [m for m in (wcs.a, wcs.b, wcs.ap, wcs.bp) if m is not None]
    numbers = np.concatenate([wcs.crval, wcs.crpix, *(m.ravel() for m in (wcs.cd, *matrices))])
    if not np.isfinite(numbers).all() or np.linalg.det(wcs.cd) == 0 or abs(wcs.crval[1]) > 90:
        raise DataError("the image's WCS has numbers that cannot be used", NO_WCS)
    return wcs


def to_icrs(wcs: TanSipWcs, frame: str, equinox: float) -> TanSipWcs:
    """The same map with ICRS coordinates; exact, as a rotation turns one tangent plane into another."""
    if frame == "ICRS":
        return wcs
    if frame != "FK5":
        raise DataError(f"the image's WCS is in the frame {frame}", NO_WCS)
    # Loaded here, as it takes longer than reading an image, and few files need it.
    from astropy.coordinates import FK5, ICRS, SkyCoord
    from astropy.time import Time

    # North of the tangent point by this much, to find the turn of the axes.
    step = 0.1 if wcs.crval[1] < 89 else -0.1
    dec = np.array([wcs.crval[1], wcs.crval[1] + step])
    named = FK5(equinox=Time(equinox, format="jyear"))
    icrs = SkyCoord(np.full(2, wcs.crval[0]), dec, unit="deg", frame=named).transform_to(ICRS())
    angle = float(icrs[0].position_angle(icrs[1]).rad) + (np.pi if step < 0 else 0.0)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return dataclasses.replace(
        wcs, crval=(float(icrs.ra.deg[0]), float(icrs.dec.deg[0])), cd=np.asarray(turn @ wcs.cd)
    )


def frame(header: Mapping[str, Any]) -> tuple[str, float]:
    """Frame and equinox by the rule of the FITS standard, as afw 12.1 applies it."""
    equinox = header.get("EQUINOX", header.get("EPOCH"))
    named = str(header.get("RADESYS", header.get("RADECSYS", ""))).strip().upper()
    if not named:
        named = "ICRS" if equinox is None else "FK4" if float(equinox) < 1984 else "FK5"
    return named, 2000.0 if equinox is None else float(equinox)


def _cd_matrix(header: Mapping[str, Any]) -> Array:
    """CDi_j, or CDELTi PCi_j when there is none (FITS standard 4.0, section 8.1)."""
    pairs = [(i, j) for i in (1, 2) for j in (1, 2)]
    if any(f"CD{i}_{j}" in header for i, j in pairs):
        flat = [float(header.get(f"CD{i}_{j}", 0.0)) for i, j in pairs]
    elif "CDELT1" in header and "CDELT2" in header:
        flat = [
            float(header[f"CDELT{i}"]) * float(header.get(f"PC{i}_{j}", 1.0 if i == j else 0.0))
            for i, j in pairs
        ]
    else:
        raise DataError("the image's WCS has neither CDi_j nor CDELTi", NO_WCS)
    return np.array(flat).reshape(2, 2)


def _sip_matrix(header: Mapping[str, Any], name: str) -> Array | None:
    """One SIP polynomial; `None` where its order is not given."""
    order = int(header.get(f"{name}_ORDER", 0))
    if not 0 <= order <= _MAX_SIP_ORDER:
        raise DataError(f"the image's WCS has {name}_ORDER {order}", NO_WCS)
    if order == 0:
        return np.zeros((1, 1)) if name in ("A", "B") else None
    matrix = np.zeros((order + 1, order + 1))
    for i in range(order + 1):
        for j in range(order + 1 - i):
            matrix[i, j] = float(header.get(f"{name}_{i}_{j}", 0.0))
    return matrix


def _polynomial(matrix: Array | None, u: Array, v: Array) -> Array:
    """Σ m_ij u^i v^j by Horner's rule, 0 for no matrix."""
    if matrix is None:
        return np.zeros_like(u)
    return np.asarray(np.polynomial.polynomial.polyval2d(u, v, matrix))


def _gradient(matrix: Array, u: Array, v: Array) -> tuple[Array, Array]:
    """The polynomial's derivatives along u and v."""
    by_u = np.arange(1, len(matrix))[:, np.newaxis] * matrix[1:]
    by_v = np.arange(1, len(matrix)) * matrix[:, 1:]
    return (
        _polynomial(by_u if by_u.size else None, u, v),
        _polynomial(by_v if by_v.size else None, u, v),
    )
