"""An abdomen of plain shapes whose organs have exactly the brightness that a test gives them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import Phase

LITERATURE_HU: Mapping[Phase, Mapping[str, float]] = {
    Phase.NC: {"aorta": 42, "cava": 42, "veins": 42, "liver": 58, "spleen": 48, "cortex": 35, "medulla": 35},
    Phase.AP: {"aorta": 330, "cava": 75, "veins": 110, "liver": 78, "spleen": 150, "cortex": 235, "medulla": 90},
    Phase.PVP: {"aorta": 160, "cava": 160, "veins": 170, "liver": 118, "spleen": 125, "cortex": 190, "medulla": 180},
    Phase.DELAY: {"aorta": 110, "cava": 108, "veins": 110, "liver": 95, "spleen": 98, "cortex": 150, "medulla": 160},
}
SPACING_MM = 3.0
SIZE = (118, 86, 40)
"""Of the grid, (x, y, z); the middle of the vertebrae is at 0, 0; x grows to the left, y to the back."""
Window = tuple[float, float]
VEINS_MM = ((-70.0, -80.0), (-95.0, -70.0), (-85.0, -105.0), (-60.0, -60.0))


def an_abdomen(phase: Phase, *, noise_hu: float = 8.0, seed: int = 0, **changed_hu: float) -> Volume:
    """Return a CT (Z, Y, X), HU, with the literature's means of a phase.

    Args:
        phase: Whose means.
        noise_hu: Standard deviation of white noise.
        seed: Of the noise.
        changed_hu: Brightness of single organs; ``stomach`` (absent by default) lies in front of the left kidney.
    """
    hu = {**LITERATURE_HU[phase], **changed_hu}
    grid = Grid(SIZE, (SPACING_MM,) * 3, (-SPACING_MM * SIZE[0] / 2, -183.0, -500.0))
    values = _organs(hu)
    values += np.random.default_rng(seed).normal(0.0, noise_hu, values.shape)
    return Volume(np.rint(values).clip(-1024, 3000).astype(np.int16), grid)


def _organs(hu: Mapping[str, float]) -> NDArray[np.float64]:
    values = np.full(SIZE[::-1], -1000.0)
    for radii, tissue in (((165.0, 120.0), -100.0), ((145.0, 100.0), 55.0), ((135.0, 90.0), -100.0)):
        values[_tube((0.0, -55.0), radii)] = tissue
    for center, radius, tissue in (((0.0, 0.0), 20.0, 260.0), ((0.0, 27.0), 19.0, 400.0), ((0.0, 27.0), 9.0, 30.0)):
        values[_tube(center, (radius, radius))] = tissue
    values[_tube((-82.0, -80.0), (52.0, 60.0))] = hu["liver"]
    for center in VEINS_MM:
        values[_tube(center, (7.0, 7.0))] = hu["veins"]
    values[_tube((12.0, -34.0), (10.0, 10.0))] = hu["aorta"]
    values[_tube((-26.0, -36.0), (11.0, 11.0))] = hu["cava"]
    values[_tube((95.0, -5.0), (25.0, 42.0), z_mm=(75.0, 120.0))] = hu["spleen"]
    for side in (-1.0, 1.0):
        values[_tube((side * 58.0, 10.0), (20.0, 22.0), z_mm=(0.0, 66.0))] = hu["cortex"]
        values[_tube((side * 58.0, 10.0), (13.0, 15.0), z_mm=(0.0, 60.0))] = hu["medulla"]
    if "stomach" in hu:
        values[_tube((60.0, -75.0), (28.0, 24.0))] = hu["stomach"]
    return values


def _tube(
    center_mm: tuple[float, float], radii_mm: tuple[float, float], *, z_mm: Window = (0.0, 999.0)
) -> NDArray[np.bool_]:
    z, y, x = (np.arange(count) * SPACING_MM for count in SIZE[::-1])
    x, y = x - SPACING_MM * SIZE[0] / 2, y - 183.0
    inside = ((x[None] - center_mm[0]) / radii_mm[0]) ** 2 + ((y[:, None] - center_mm[1]) / radii_mm[1]) ** 2 <= 1
    return np.asarray(inside[None] & ((z >= z_mm[0]) & (z < z_mm[1]))[:, None, None])
