# SPDX-License-Identifier: BSD-3-Clause
"""The truth beside the images: one row an object and visit, as ECSV."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.table import Table
from render import Light, lights
from scene import Scene
from visits import READ_NOISE, SCALE, SIZE, STAMP, XY0, Visit

COLUMNS = {
    "object": ("", "identity, the same in every visit"),
    "kind": ("", "supernova, quasar, variable, asteroid; star and galaxy in static.ecsv"),
    "host": ("", "galaxy of static.ecsv that it lies on (lens for a quasar), 0 for none"),
    "neighbour": ("arcsec", "distance to the nearest other object of at least a tenth of its flux"),
    "visit": ("", "visit number"),
    "band": ("", "filter"),
    "ra": ("deg", "ICRS, middle of the exposure"),
    "dec": ("deg", "ICRS, middle of the exposure"),
    "x": ("pix", "parent pixel, 0-based, centres at integers"),
    "y": ("pix", "parent pixel"),
    "mag": ("mag", "AB magnitude, inf when there is no light"),
    "flux": (
        "ct",
        f"counts of this visit on the PSF's {STAMP} x {STAMP} pixel stamp: flux_mag0 10^(-0.4 mag)",
    ),
    "flux_total": ("ct", "all counts of this visit, the wings outside the stamp included"),
    "snr": (
        "",
        "flux sqrt(sum(P^2) / V), P the true PSF, V sky plus read noise: alone, without a difference",
    ),
}


def tables(scene: Scene, visits: Iterable[Visit]) -> tuple[Table, Table]:
    """(injected objects, constant stars and galaxies that fall on the cutout)."""
    injected: list[tuple[object, ...]] = []
    static: list[tuple[object, ...]] = []
    hosts = {o.number: o.host for o in scene.injected}
    for visit in visits:
        seen = lights(scene, visit)
        fraction, area = visit.stamp_fraction(), _area(visit)
        noise = np.sqrt(area * (visit.sky_level + READ_NOISE**2))
        for light in seen:
            changing = light.number in hosts
            if not (changing or _inside(light)):
                continue
            snr = light.flux / noise if light.kind != "galaxy" else float("nan")
            row = (
                light.number, light.kind, hosts.get(light.number, 0), _neighbour(light, seen), visit.number,
                visit.band, round(light.ra, 8), round(light.dec, 8), round(light.x, 4), round(light.y, 4),
                round(light.mag, 4), round(light.flux, 3), round(light.flux / fraction, 3), round(snr, 2),
            )  # fmt: skip
            (injected if changing else static).append(row)
    return _table(injected), _table(static)


def write(path: Path, table: Table) -> None:
    """Write ECSV; the caller owns the folder."""
    table.write(path, format="ascii.ecsv", overwrite=True)


def _table(rows: list[tuple[object, ...]]) -> Table:
    table = Table(rows=rows, names=list(COLUMNS))
    for name, (unit, description) in COLUMNS.items():
        table[name].unit = unit or None
        table[name].description = description
    return table


def _inside(light: Light) -> bool:
    return all(o <= c <= o + SIZE - 1 for c, o in zip((light.x, light.y), XY0, strict=True))


def _area(visit: Visit) -> float:
    """Effective area of the PSF at the middle of the cutout, pixels."""
    psf = visit.psf(XY0[0] + SIZE / 2, XY0[1] + SIZE / 2, folding_threshold=1e-3)
    image = psf.drawImage(nx=STAMP, ny=STAMP, scale=SCALE, dtype=float).array
    return float(image.sum() ** 2 / np.sum(image**2))


def _neighbour(light: Light, seen: list[Light]) -> float:
    bright = [o for o in seen if o.number != light.number and o.flux > max(0.1 * light.flux, 1.0)]
    if not bright:
        return float("inf")
    return round(SCALE * min(float(np.hypot(o.x - light.x, o.y - light.y)) for o in bright), 2)
