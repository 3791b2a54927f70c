# SPDX-License-Identifier: BSD-3-Clause
"""The variance of an image: from a plane that comes with it, else from the image's own noise and a gain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.makecalexp import companions
from diffrun.engine.makecalexp.facts import Facts
from diffrun.engine.makecalexp.psffit import Fit
from diffrun.engine.makecalexp.sky import Sky, robust_sigma

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

#: A gain is believed if the noise that it tells for the sky is within this factor of the measured one.
_BELIEVED = 1.5
#: Pixels of stars, and levels of light among them, from which a gain can be told.
_ENOUGH_PIXELS, _BINS, _ENOUGH_IN_BIN = 300, 12, 25
_SURE = 3.0
#: How bright a sky must be, in units of its noise, to be compared with it.
_BRIGHT = 3.0


@dataclass(frozen=True)
class Choice:
    """Which noise was taken, in words and numbers.

    Attributes
    ----------
    known : `dict`
    notes : `tuple` [`str`, ...]
    lacks_gain : `bool`
        Whether the light of the sources has no noise of its own yet.
    """

    known: dict[str, Any]
    notes: tuple[str, ...] = ()
    lacks_gain: bool = False


def variance(given: companions.Noise | None, flat: Image, ground: Sky, detected: Bool, missing: Bool,
             said: Facts, gain: float) -> tuple[Image, Choice]:  # fmt: skip
    """The variance of each pixel, NaN where unknown.

    Parameters
    ----------
    given : `companions.Noise`, optional
        A plane that tells the noise.
    flat : `numpy.ndarray`, (ny, nx), float32
        The image with its sky at 0.
    ground : `Sky`
    detected, missing : `numpy.ndarray`, (ny, nx), bool
        Pixels of sources, and pixels without a value.
    said : `Facts`
        Gain and read noise as the cards have them.
    gain : `float`
        As the user has it, NaN for nothing; believed as it is.
    """
    notes: tuple[str, ...] = ()
    measured = float(np.median(ground.sigma[::16, ::16]))
    known: dict[str, Any] = {"sky_sigma": round(measured, 6)}
    if given is not None:
        plane, told = companions.as_variance(given, ground.sigma, ~(detected | missing))
        if plane is not None:
            return plane, Choice(known | {"variance": told}, (f"variance: {told}",))
        notes = (told,)
    own = "the image's own noise"
    found, origin, reason = gain, "as given", ""
    if not np.isfinite(gain):
        light = float(np.median(ground.level[::16, ::16])) - np.nan_to_num(said.pedestal)
        found, origin = said.gain, "of its card"
        reason = _doubt(said, light, measured)
        if np.isfinite(said.pedestal) and (reason or not np.isfinite(found)) and light > _BRIGHT * measured:
            found, origin, reason = light / measured**2, "that its sky tells above the pedestal", ""
    if not np.isfinite(found) or reason:
        notes += (reason,) if reason else ()
        return ground.sigma**2, Choice(known | {"variance": own, "gain": None}, notes, lacks_gain=True)
    total = ground.sigma**2 + _light(flat, detected) / np.float32(found)
    told = f"{own}, and the light of the sources with the gain {found:.4g} {origin}"
    return total, Choice(known | {"variance": told, "gain": found}, (*notes, f"variance: {told}"))


def with_gain_of_stars(choice: Choice, flat: Image, plain: Image, detected: Bool,
                       fit: Fit | None) -> tuple[Image, Choice]:  # fmt: skip
    """The variance with the noise of the sources' light as the stars themselves show it.

    What is left of stars once their models are taken off grows with their light: as light / gain where that
    is noise of photons, and as its square where the model is wrong.
    """
    gain = float("nan") if fit is None else _gain_of_stars(fit, float(np.median(plain[::16, ::16])))
    said = "variance: the image's own noise"
    if not np.isfinite(gain):
        note = f"{said}; no gain is known, so that the light of the sources adds none"
        return plain, replace(choice, notes=(*choice.notes, note), lacks_gain=False)
    told = f"the image's own noise, and the light of the sources with the gain {gain:.3g} measured on stars"
    known = choice.known | {"variance": told, "gain": gain}
    total = plain + _light(flat, detected) / np.float32(gain)
    return total, Choice(known, (*choice.notes, f"variance: {told}"))


def _light(flat: Image, detected: Bool) -> Image:
    return np.where(detected, np.maximum(flat, 0), np.float32(0)).astype(np.float32)


def _doubt(said: Facts, level: float, measured: float) -> str:
    """Why the gain of the card is not believed with a sky of this light, nothing if it is.

    A sky that was subtracted leaves nothing to compare with: then the card is believed.
    """
    if not np.isfinite(said.gain):
        return ""
    read = said.read_noise / said.gain if np.isfinite(said.read_noise) else 0.0
    expected = np.sqrt(max(level, 0.0) / said.gain + read**2)
    if level < _BRIGHT * measured:
        return ""
    if 1 / _BELIEVED < expected / measured < _BELIEVED:
        return ""
    return (
        f"the gain {said.gain:.4g} of its card is not believed: it tells a noise of {expected:.3g} for the "
        f"sky of {level:.4g}, measured is {measured:.3g}"
    )


def _gain_of_stars(fit: Fit, sky_variance: float) -> float:
    """Electrons per unit from the residuals of the PSF's stars; NaN where they do not tell."""
    good = np.isfinite(fit.residual) & fit.used[:, None, None] & (fit.model > 0.5 * np.sqrt(sky_variance))
    light, left = fit.model[good], fit.residual[good]
    if len(light) < _ENOUGH_PIXELS:
        return float("nan")
    edges = np.geomspace(light.min(), light.max() * 1.001, _BINS + 1)
    parts = [np.nonzero((light >= low) & (light < high))[0] for low, high in pairwise(edges)]
    parts = [p for p in parts if len(p) >= _ENOUGH_IN_BIN]
    if len(parts) < 3:
        return float("nan")
    level = np.array([light[p].mean() for p in parts])
    # Each star has taken a flux and a centre out of its own pixels, mostly of the bright ones.
    core = fit.model[fit.used] > 0.2 * fit.model[fit.used].max(axis=(1, 2), keepdims=True)
    free = 1 - 3 / max(float(np.median(core.sum(axis=(1, 2)))), 6.0)
    share = np.where(level > sky_variance / 10, free, 1.0)
    power = np.array([robust_sigma(left[p]) ** 2 for p in parts]) / share - sky_variance
    error = (power + sky_variance) * np.sqrt(2.0 / np.array([len(p) for p in parts]))
    terms = np.stack([level, level**2], axis=1) / error[:, None]
    from scipy.optimize import nnls

    found, _ = nnls(terms / terms.max(axis=0), power / error)
    inverse = found[0] / terms.max(axis=0)[0]
    spread = np.sqrt(np.linalg.pinv(terms.T @ terms)[0, 0])
    return float(1 / inverse) if inverse > _SURE * spread else float("nan")
