# SPDX-License-Identifier: BSD-3-Clause
"""PSF fluxes at given places, where neighbours that overlap are fitted together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import cg

from diffrun.engine import scene
from diffrun.engine.fluxes import Fluxes
from diffrun.engine.smoothpsf import full_convolution
from diffrun.engine.stamps import Floats
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel

Bools = NDArray[np.bool_]
#: Smallest eigenvalue of a group of neighbours, of its largest, that is told from 0.
_SINGULAR = 1e-6
#: Neighbours of neighbours that are solved as one dense system: more take n³ operations.
_DENSE = 200


def fluxes_at(exposure: Exposure, x: Floats, y: Floats) -> tuple[Fluxes, Bools]:
    """PSF fluxes at parent positions, those of neighbours by one least squares fit of all their PSFs.

    Alone, a source has the flux of `diffrun.engine.fluxes.weigh`: f = Σ m d / Σ m². Neighbours have
    f = (MᵀM)⁻¹ Mᵀ d with one column of M for each, and the covariance (MᵀM)⁻¹ MᵀVM (MᵀM)⁻¹.

    Parameters
    ----------
    exposure : `Exposure`
        With a PSF.
    x, y : `numpy.ndarray`, (N,)

    Returns
    -------
    fluxes : `Fluxes`
    blended : `numpy.ndarray`, (N,), bool
        What was fitted together with a neighbour.
    """
    flux, sigma = np.full((2, len(x)), np.nan)
    empty, edge, blended = np.ones((3, len(x)), bool)
    for some in scene.batches(x, y, scene.reach(exposure)):
        found, blended[some] = of_design(exposure, scene.design(exposure, x[some], y[some]))
        flux[some], sigma[some] = found.flux, found.sigma
        empty[some], edge[some] = found.empty, found.edge
    return Fluxes(flux, sigma, empty, edge), blended


def of_design(exposure: Exposure, design: scene.Design) -> tuple[Fluxes, Bools]:
    """One least squares fit of some sources: their fluxes, and what was fitted with a neighbour."""
    part = design.profile
    image, variance = (p.ravel()[design.pixels].astype(float) for p in (exposure.image, exposure.variance))
    normal = (part.T @ part).tocsc()
    projected = part.T @ image
    noise = (part.T @ part.multiply(variance[:, None])).tocsc()
    norm = normal.diagonal()
    empty = ~(norm > 0)
    safe = np.where(empty, np.nan, norm)
    flux, sigma = projected / safe, np.sqrt(noise.diagonal()) / safe
    blended = np.zeros(len(norm), bool)
    for group in scene.groups(normal):
        blended[group] = True
        of_group = np.ix_(group, group)
        if len(group) > _DENSE:
            flux[group], sigma[group] = _chain(normal[of_group], projected[group], noise[of_group])
            continue
        inverse = np.linalg.pinv(normal[of_group].toarray(), rcond=_SINGULAR, hermitian=True)
        flux[group] = inverse @ projected[group]
        sigma[group] = np.sqrt(np.diag(inverse @ noise[of_group].toarray() @ inverse))
    return Fluxes(flux, sigma, empty, design.edge), blended


def _chain(normal: csc_matrix, projected: Floats, noise: csc_matrix) -> tuple[Floats, Floats]:
    """The same for very many in a chain: by conjugate gradients, and each error beside its own neighbours."""
    flux, _ = cg(normal, projected, rtol=1e-6, maxiter=2000)
    sigma = np.empty(len(flux))
    for k in range(len(flux)):
        near = normal.indices[normal.indptr[k] : normal.indptr[k + 1]]
        of_near = np.ix_(near, near)
        weights = np.linalg.pinv(normal[of_near].toarray(), rcond=_SINGULAR, hermitian=True)[near == k]
        sigma[k] = np.sqrt((weights @ noise[of_near] @ weights.T)[0, 0])
    return flux, sigma


def noise_gain(exposure: Exposure, kernel: LinearCombinationKernel) -> float:
    """How much larger the error of a PSF flux is than its variance plane tells, on a convolved image.

    The pixels of K ⊗ T are not independent: a sum with weights w has the variance Σ (w ⊗ K)² v instead of
    Σ w² ΣK² v, with v that of T. Taken in the middle of the field.
    """
    x, y = exposure.psf.average_position
    w, k = exposure.psf.kernel_image(x, y), kernel.at(x, y)
    return float(np.sqrt((full_convolution(w, k) ** 2).sum() / ((k**2).sum() * (w**2).sum())))
