"""Liver tumors: families, sizes, irregular shapes, places, and what they look like inside in every phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.grid import Grid
from ..core.phases import ALL_PHASES, Phase
from .fields import FloatArray, Point, rotation
from .patient import Ingredient, LiverDisease, Patient, random_stream


class TumorFamily(StrEnum):
    """Kind of tumor."""

    HCC = "hcc"
    METASTASIS = "metastasis"
    CYST = "cyst"
    HEMANGIOMA = "hemangioma"


COUNT_PROBABILITIES = (0.08, 0.28, 0.22, 0.16, 0.12, 0.08, 0.06)
"""Probability of 0 ... 6 tumors in a study."""
DIAMETER_RANGE_MM = (4.0, 80.0)
FAMILY_ODDS: Mapping[LiverDisease, tuple[float, float, float, float]] = {
    LiverDisease.NORMAL: (0.2, 0.45, 0.2, 0.15),
    LiverDisease.STEATOTIC: (0.25, 0.45, 0.18, 0.12),
    LiverDisease.CIRRHOTIC: (0.8, 0.02, 0.12, 0.06),
}
PLACEMENT_TRIES = 400
LEAST_CONTRAST_HU = 15.0
"""Contrast to the liver that every tumor reaches in at least one phase: nobody annotates what cannot be seen."""


@dataclass(frozen=True)
class Interior:
    """How a tumor differs from the liver around it, in HU by phase (NC, AP, PVP, DELAY).

    Args:
        core: HU of the middle.
        rim: HU of the rim.
        rim_width: Width of the rim relative to the radius.
        capsule: HU added in a thin shell at the border.
        texture_hu: Standard deviation of the inner heterogeneity.
        necrosis: HU of necrotic parts.
        necrosis_share: Fraction of the radius that is necrotic, 0 for none.
        border_mm: Width over which the tumor fades into the liver.
        nodular: Whether the rim is broken into nodules (hemangioma).
    """

    core: tuple[float, ...]
    rim: tuple[float, ...]
    rim_width: float
    capsule: tuple[float, ...]
    texture_hu: float
    necrosis: float
    necrosis_share: float
    border_mm: float
    nodular: bool


@dataclass(frozen=True)
class Tumor:
    """One tumor.

    Args:
        family: Its kind.
        center_mm: Center in the world of the reference phase, LPS mm.
        diameter_mm: Diameter of the sphere it was shaped from.
        ratios: Semi-axes relative to the radius.
        angles_deg: Orientation.
        power: Exponent of the super-ellipsoid; 2 is an ellipsoid.
        bump: Relative height of border irregularity.
        lobes: Offsets of further lobes relative to the radius (metaballs); empty for none.
        interior: What it looks like.
        seed: Seed of its border and texture.
    """

    family: TumorFamily
    center_mm: Point
    diameter_mm: float
    ratios: Point
    angles_deg: Point
    power: float
    bump: float
    lobes: tuple[Point, ...]
    interior: Interior
    seed: int

    @property
    def radius_mm(self) -> float:
        """Half the diameter."""
        return self.diameter_mm / 2

    @property
    def reach_mm(self) -> float:
        """No part of the tumor lies farther from its center."""
        return self.radius_mm * (1.75 if self.lobes else 1.45) + self.interior.border_mm + 2


def draw_tumors(
    patient: Patient, liver: NDArray[np.bool_], grid: Grid, liver_hu: NDArray[np.float32], *, shifted: bool
) -> tuple[Tumor, ...]:
    """Draw the tumors of a study and their places in the liver.

    Args:
        patient: Whose seed and liver disease to use.
        liver: The liver on ``grid``, (Z, Y, X).
        grid: Lattice of ``liver``.
        liver_hu: HU of the liver by phase, (P,).
        shifted: Lobulated and super-quadric shapes instead of ellipsoids.

    Returns:
        0 to 6 tumors that do not touch each other; fewer than drawn when there is no room.
    """
    rng = random_stream(patient.seed, Ingredient.TUMORS)
    depth = ndimage.distance_transform_edt(liver, sampling=grid.spacing_zyx_mm)
    count = int(rng.choice(len(COUNT_PROBABILITIES), p=COUNT_PROBABILITIES))
    families = list(TumorFamily)
    main = families[rng.choice(4, p=FAMILY_ODDS[patient.liver.disease])]
    tumors: list[Tumor] = []
    for _ in range(count):
        family = main if rng.random() < 0.75 else families[rng.choice(4, p=FAMILY_ODDS[patient.liver.disease])]
        diameter = _draw_diameter(rng, family)
        center = _place(rng, depth, grid, diameter=diameter, others=tumors)
        if center is not None:
            tumors.append(_shape(rng, family, center, diameter=diameter, liver_hu=liver_hu, shifted=shifted))
    return tuple(tumors)


def tumor_distance(tumor: Tumor, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    """Return the signed distance (mm, negative inside) to a tumor's irregular border at world points of any shape."""
    turn = rotation(tumor.angles_deg).astype(np.float32)
    offset = [
        np.float32(1) * (axis - np.float32(center)) for axis, center in zip((x, y, z), tumor.center_mm, strict=True)
    ]
    local = [sum(turn[row, k] * offset[k] for k in range(3)) / np.float32(tumor.radius_mm) for row in range(3)]
    if tumor.lobes:
        centers = ((0.0, 0.0, 0.0), *tumor.lobes)
        field = sum(np.exp(-2.2 * sum((local[k] - lobe[k]) ** 2 for k in range(3))) for lobe in centers)
        ratio = np.sqrt(np.maximum(-np.log(np.maximum(field, 1e-12)) / 2.2 + 0.28, 0))
    else:
        ratio = sum(np.abs(local[k] / np.float32(tumor.ratios[k])) ** tumor.power for k in range(3)) ** (
            1 / tumor.power
        )
    return np.asarray((ratio - 1 - tumor.bump * _bumps(tumor, local)) * tumor.radius_mm, dtype=np.float32)


def tumor_hu(tumor: Tumor, distance: FloatArray, noise: FloatArray, phase: Phase) -> FloatArray:
    """Return the HU inside a tumor in one phase.

    Args:
        tumor: Which.
        distance: Its signed distance, mm, any shape.
        noise: Unit noise of the same shape, correlated over a few mm.
        phase: Which phase.
    """
    inner, index = tumor.interior, ALL_PHASES.index(phase)
    t = np.clip(1 + distance / tumor.radius_mm, 0, 1.2)  # 0 at the center, 1 at the border
    edge = 1 - inner.rim_width
    share = np.clip((t - edge + 0.12 * noise) / max(0.6 * inner.rim_width, 0.05), 0, 1)
    if inner.nodular:
        share = share * (noise > -0.35 - 0.6 * (index >= 2))
    hu = inner.core[index] + share * (inner.rim[index] - inner.core[index])
    if inner.necrosis_share > 0:
        dead = np.clip((inner.necrosis_share - t + 0.22 * noise) / 0.12, 0, 1)
        hu = hu + dead * (inner.necrosis - hu)
    hu = hu + inner.texture_hu * (0.5 + (index > 0)) * noise
    shell = np.exp(-(((distance + 1.0) / 1.1) ** 2))
    return np.asarray(hu + shell * inner.capsule[index], dtype=np.float32)


def _draw_diameter(rng: np.random.Generator, family: TumorFamily) -> float:
    median = {
        TumorFamily.HCC: 21.0,
        TumorFamily.METASTASIS: 17.0,
        TumorFamily.CYST: 11.0,
        TumorFamily.HEMANGIOMA: 17.0,
    }[family]
    return float(np.clip(median * np.exp(rng.normal(0, 0.62)), *DIAMETER_RANGE_MM))


def _place(
    rng: np.random.Generator, depth: NDArray[np.float64], grid: Grid, *, diameter: float, others: list[Tumor]
) -> Point | None:
    """Return a center inside the liver, away from the other tumors; subcapsular tumors may be cut by the surface."""
    radius = diameter / 2
    deepest = float(depth.max())
    least = min(radius * float(rng.choice((0.45, 0.8, 1.1))) + 1.0, 0.8 * deepest)
    candidates = np.argwhere(depth >= least)
    for _ in range(PLACEMENT_TRIES if len(candidates) else 0):
        index = candidates[rng.integers(len(candidates))][::-1] + rng.uniform(-0.5, 0.5, 3)
        center = grid.to_world(index)
        gaps = [np.linalg.norm(center - other.center_mm) - 1.25 * (radius + other.radius_mm) - 2 for other in others]
        if min(gaps, default=1.0) > 0:
            return (float(center[0]), float(center[1]), float(center[2]))
    return None


def _shape(
    rng: np.random.Generator,
    family: TumorFamily,
    center: Point,
    *,
    diameter: float,
    liver_hu: NDArray[np.float32],
    shifted: bool,
) -> Tumor:
    ratios = rng.uniform(0.78, 1.22, 3)
    angles = rng.uniform(-180, 180, 3)
    round_family = family in (TumorFamily.CYST,)
    bump = float(rng.uniform(0.01, 0.04) if round_family else rng.uniform(0.04, 0.14))
    lobes: tuple[Point, ...] = ()
    power = 2.0
    if shifted and not round_family:
        power = float(rng.choice((1.6, 3.5)))
        if rng.random() < 0.6:
            drawn = rng.normal(0, 0.5, (int(rng.integers(2, 5)), 3)).clip(-0.75, 0.75)
            lobes = tuple((float(a), float(b), float(c)) for a, b, c in drawn)
    return Tumor(
        family=family,
        center_mm=center,
        diameter_mm=diameter,
        ratios=(float(ratios[0]), float(ratios[1]), float(ratios[2])),
        angles_deg=(float(angles[0]), float(angles[1]), float(angles[2])),
        power=power,
        bump=bump,
        lobes=lobes,
        interior=_interior(rng, family, diameter, liver_hu),
        seed=int(rng.integers(2**31)),
    )


def _interior(
    rng: np.random.Generator, family: TumorFamily, diameter: float, liver_hu: NDArray[np.float32]
) -> Interior:
    build = {
        TumorFamily.HCC: _hcc,
        TumorFamily.METASTASIS: _metastasis,
        TumorFamily.CYST: _cyst,
        TumorFamily.HEMANGIOMA: _hemangioma,
    }[family]
    liver = np.asarray(liver_hu, dtype=np.float64)
    interior = build(rng, diameter, liver)
    strongest = float(np.abs(interior.core - liver).max())
    if strongest >= LEAST_CONTRAST_HU:
        return interior
    gain = LEAST_CONTRAST_HU / max(strongest, 1.0)
    core, rim = (_four(liver + gain * (np.array(part) - liver)) for part in (interior.core, interior.rim))
    return replace(interior, core=core, rim=rim)


def _hcc(rng: np.random.Generator, diameter: float, liver: NDArray[np.float64]) -> Interior:
    hyper = rng.normal(30, 11) if rng.random() < 0.87 else rng.normal(-8, 6)  # 13 % are hypovascular
    wash = rng.normal(-19, 9) if rng.random() < 0.76 else rng.normal(-2, 5)  # 76 % wash out
    core = liver + np.array([rng.normal(-8, 4), hyper, 0.6 * wash + rng.normal(0, 4), wash])
    has_capsule = rng.random() < 0.55 and diameter > 12
    capsule = (0.0, 2.0, 10.0, 17.0) if has_capsule else (0.0, 0.0, 0.0, 0.0)
    dead = float(rng.uniform(0.25, 0.6)) if diameter > 35 and rng.random() < 0.6 else 0.0
    return Interior(
        _four(core), _four(core + rng.normal(0, 3)), 0.25, capsule, float(rng.uniform(4, 10)),
        float(rng.normal(32, 6)), dead, float(rng.uniform(1.0, 4.0)), nodular=False,
    )  # fmt: skip


def _metastasis(rng: np.random.Generator, diameter: float, liver: NDArray[np.float64]) -> Interior:
    contrast = float(rng.uniform(0.55, 1.2))
    core = liver + contrast * np.array([-12.0, -19.0, -40.0, -24.0]) + rng.normal(0, 3)
    rim = liver + contrast * np.array([-8.0, 8.0, -22.0, -12.0]) + rng.normal(0, 4)
    dead = float(rng.uniform(0.3, 0.65)) if diameter > 22 and rng.random() < 0.55 else 0.0
    return Interior(
        _four(core), _four(rim), float(rng.uniform(0.2, 0.4)), (0.0, 0.0, 0.0, 0.0), float(rng.uniform(3, 7)),
        float(rng.normal(30, 6)), dead, float(rng.uniform(1.5, 5.0)), nodular=False,
    )  # fmt: skip


def _cyst(rng: np.random.Generator, _diameter: float, _liver: NDArray[np.float64]) -> Interior:
    water = float(rng.normal(8, 5))
    fluid = (water, water + 0.5, water + 2, water + 2)
    return Interior(fluid, fluid, 0.1, (0.0, 0.0, 0.0, 0.0), 0.5, 0.0, 0.0, 0.8, nodular=False)


def _hemangioma(rng: np.random.Generator, diameter: float, liver: NDArray[np.float64]) -> Interior:
    filling = float(np.clip(rng.normal(1.0, 0.25) * (1.5 if diameter < 15 else 1.0), 0.3, 1.6))
    core = np.array([38.0, 45.0 + 20 * (filling - 1), 90.0 + 25 * (filling - 1), 115.0])
    rim = np.array([38.0, 185.0, 165.0, 118.0]) + rng.normal(0, 8)
    core[3] = liver[3] + rng.uniform(8, 25)
    return Interior(
        _four(core), _four(rim), float(np.clip(0.22 * filling, 0.12, 0.5)), (0.0, 0.0, 0.0, 0.0),
        float(rng.uniform(3, 6)),
        0.0, 0.0, float(rng.uniform(0.8, 2.0)), nodular=True,
    )  # fmt: skip


def _bumps(tumor: Tumor, local: list[FloatArray]) -> FloatArray:
    """Return a smooth unit pattern that makes the border irregular: a few random waves."""
    rng = np.random.default_rng(tumor.seed)
    total = np.zeros(np.broadcast_shapes(*(part.shape for part in local)), dtype=np.float32)
    for frequency in (1.8, 2.6, 3.8, 5.5):
        wave = rng.normal(0, frequency, 3)
        total = (
            total
            + np.cos(sum(wave[k].astype(np.float32) * local[k] for k in range(3)) + rng.uniform(0, 6.3))
            / frequency**0.5
        )
    return np.asarray(total, dtype=np.float32)


def _four(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
