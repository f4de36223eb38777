"""Who the phantom is: the random traits of one patient, each drawn from a range seen in abdominal CT."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np

from .fields import Field, Point, rotation, smooth_noise


class Ingredient(IntEnum):
    """Independent random streams of one seed; a new ingredient gets a new number and leaves the others as they are."""

    PATIENT = 0
    LIVER = 1
    GUT = 2
    VESSELS = 3
    TUMORS = 4
    ENHANCEMENT = 5
    TEXTURE = 6
    MOTION = 7
    GRIDS = 8
    NOISE = 9
    WARP = 10


class LiverDisease(StrEnum):
    """State of the parenchyma."""

    NORMAL = "normal"
    STEATOTIC = "steatotic"
    CIRRHOTIC = "cirrhotic"


def random_stream(seed: int, ingredient: Ingredient, part: int = 0) -> np.random.Generator:
    """Return the random numbers of one ingredient of one seed; ``part`` separates for example phases."""
    return np.random.default_rng(np.random.SeedSequence([seed, int(ingredient), part]))


@dataclass(frozen=True)
class Body:
    """Outline and skeleton, in the patient's frame scaled by ``scale`` (vertebral canal front at x = 0, y = 0 mm)."""

    scale: float
    offset_mm: Point
    roll_deg: float
    half_width_mm: float
    half_depth_mm: float
    fat_front_mm: float
    fat_side_mm: float
    fat_back_mm: float
    muscle: float
    rib_phase_mm: float
    rib_spacing_mm: float
    vertebra_phase_mm: float
    table_gap_mm: float
    table_curve_mm: float


@dataclass(frozen=True)
class LiverShape:
    """Proportions of the liver; see ``liver.liver_distance``."""

    disease: LiverDisease
    dome_mm: float
    right_bottom_mm: float
    left_bottom_mm: float
    left_end_mm: float
    tilt_mm: float
    back_slope: float
    fissure_x_mm: float
    fissure_depth_mm: float
    caudate: float
    roundness_mm: float
    right_gap_mm: float
    ligament_mm: float
    waves: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Organs:
    """Sizes and places of the other organs."""

    spleen: float
    kidney: float
    kidney_shift_mm: Point
    stomach: float
    stomach_fluid_level_mm: float
    oral_contrast: bool
    food: bool
    gallbladder: float
    gallbladder_shift_mm: Point
    aorta_radius_mm: float
    cava_radius_mm: float
    left_dome_mm: float
    heart: float
    ascites_mm: float


@dataclass(frozen=True, eq=False)
class Patient:
    """All traits of one patient and the smooth deformations that make the analytic shapes organic.

    Args:
        seed: Seed of every ingredient.
        body: Outline and skeleton.
        liver: Proportions of the liver.
        organs: Everything else.
        body_warp: Slow deformation of the whole body, mm, three components.
        organ_warp: Additional, faster deformation of the organs inside the cavity, mm.
        surface: Unit noise that makes a cirrhotic surface nodular.
    """

    seed: int
    body: Body
    liver: LiverShape
    organs: Organs
    body_warp: Field
    organ_warp: Field
    surface: Field


def draw_patient(seed: int) -> Patient:
    """Draw a patient; the same seed gives the same patient whatever the grid."""
    rng = random_stream(seed, Ingredient.PATIENT)
    body = _draw_body(rng)
    liver = _draw_liver(random_stream(seed, Ingredient.LIVER), body)
    organs = _draw_organs(rng, liver.disease)
    warp = random_stream(seed, Ingredient.WARP)
    slow = smooth_noise(warp, length_mm=70.0, channels=3)
    fast = smooth_noise(warp, length_mm=26.0, channels=3)
    turned = _with_roll(slow, amplitude_mm=float(warp.uniform(3.0, 6.0)), roll_deg=body.roll_deg)
    organic = Field(fast.values * np.float32(warp.uniform(2.0, 3.6)), fast.origin_mm, fast.spacing_mm)
    return Patient(seed, body, liver, organs, turned, organic, smooth_noise(warp, length_mm=4.5, tile_mm=200.0))


def _draw_body(rng: np.random.Generator) -> Body:
    obesity = float(rng.beta(1.6, 3.0))  # 0 lean ... 1 obese, mostly below the middle
    front = 5.0 + 38.0 * obesity * float(rng.uniform(0.6, 1.2))
    return Body(
        scale=float(np.clip(rng.normal(1.0, 0.06), 0.86, 1.15)),
        offset_mm=(float(rng.normal(0, 12)), float(rng.normal(0, 15)), float(rng.normal(0, 25))),
        roll_deg=float(rng.normal(0, 2.0)),
        half_width_mm=float(rng.normal(136, 5) + 8 * obesity),
        half_depth_mm=float(np.clip(rng.normal(90, 7) + 14 * obesity, 74, 118)),
        fat_front_mm=front,
        fat_side_mm=4.0 + 0.7 * front * float(rng.uniform(0.6, 1.1)),
        fat_back_mm=4.0 + 0.5 * front * float(rng.uniform(0.6, 1.1)),
        muscle=float(rng.uniform(0.8, 1.25)),
        rib_phase_mm=float(rng.uniform(0, 27)),
        rib_spacing_mm=float(rng.uniform(24, 29)),
        vertebra_phase_mm=float(rng.uniform(0, 34)),
        table_gap_mm=float(rng.uniform(2, 22)),
        table_curve_mm=float(rng.uniform(0, 45)),
    )


def _draw_liver(rng: np.random.Generator, body: Body) -> LiverShape:
    states = (LiverDisease.NORMAL, LiverDisease.STEATOTIC, LiverDisease.CIRRHOTIC)
    disease = states[rng.choice(3, p=(0.6, 0.18, 0.22))]
    shrunk = 1.0 if disease is LiverDisease.CIRRHOTIC else 0.0
    riedel = float(rng.random() < 0.12)
    long_left = float(rng.random() < 0.2)
    return LiverShape(
        disease=disease,
        dome_mm=float(rng.normal(101, 8)),
        right_bottom_mm=float(rng.normal(-54, 13)) - 40 * riedel + 16 * shrunk,
        left_bottom_mm=float(rng.normal(46, 9)) - 4 * shrunk,
        left_end_mm=float(rng.normal(46, 15)) + 36 * long_left,
        tilt_mm=float(rng.normal(-6, 12)),
        back_slope=float(rng.uniform(0.45, 1.3)),
        fissure_x_mm=float(rng.normal(2, 8)),
        fissure_depth_mm=float(rng.uniform(14, 34)) + 6 * shrunk,
        caudate=float(rng.uniform(0.8, 1.2)) + 0.25 * shrunk,
        roundness_mm=float(rng.uniform(14, 26)),
        right_gap_mm=float(rng.uniform(0.5, 2.5)) + 4.0 * shrunk * float(rng.random()),
        ligament_mm=float(rng.uniform(-1.0, 1.8)),
        waves=tuple(_draw_wave(rng) for _ in range(4)),
    )


def _draw_wave(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw one ripple of the visceral surface: wave numbers along the two axes (1/mm), phase, amplitude (mm)."""
    direction, length = rng.uniform(0, 2 * np.pi), rng.uniform(70, 150)
    wave = 2 * np.pi / length * np.array((np.cos(direction), np.sin(direction)))
    return float(wave[0]), float(wave[1]), float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(1.5, 6.0))


def _draw_organs(rng: np.random.Generator, disease: LiverDisease) -> Organs:
    cirrhotic = disease is LiverDisease.CIRRHOTIC
    return Organs(
        spleen=float(np.clip(rng.normal(1.22 if cirrhotic else 1.0, 0.1), 0.8, 1.5)),
        kidney=float(np.clip(rng.normal(1.0, 0.07), 0.82, 1.18)),
        kidney_shift_mm=(float(rng.normal(0, 4)), float(rng.normal(0, 4)), float(rng.normal(0, 10))),
        stomach=float(rng.uniform(0.7, 1.2)),
        stomach_fluid_level_mm=float(rng.uniform(-110, -40)),
        oral_contrast=bool(rng.random() < 0.3),
        food=bool(rng.random() < 0.35),
        gallbladder=float(rng.uniform(0.65, 1.3)) if rng.random() < 0.86 else 0.0,
        gallbladder_shift_mm=(float(rng.normal(0, 8)), float(rng.normal(0, 7)), float(rng.normal(0, 7))),
        aorta_radius_mm=float(rng.uniform(8.5, 12.5)),
        cava_radius_mm=float(rng.uniform(9, 13)),
        left_dome_mm=float(rng.normal(92, 8)),
        heart=float(rng.uniform(0.9, 1.15)),
        ascites_mm=float(rng.uniform(4, 14)) if cirrhotic and rng.random() < 0.3 else 0.0,
    )


def _with_roll(noise: Field, *, amplitude_mm: float, roll_deg: float) -> Field:
    """Return the noise scaled to mm plus a rotation of the body about its long axis."""
    size = noise.values.shape[1:]
    axes = [
        origin + noise.spacing_mm * np.arange(count) for origin, count in zip(noise.origin_mm, size[::-1], strict=True)
    ]
    y, x = np.meshgrid(axes[1], axes[0], indexing="ij")
    turn = rotation((0.0, 0.0, roll_deg)) - np.eye(3)
    values = amplitude_mm * noise.values
    values[0] += (turn[0, 0] * x + turn[0, 1] * y)[None]
    values[1] += (turn[1, 0] * x + turn[1, 1] * y)[None]
    return Field(values.astype(np.float32), noise.origin_mm, noise.spacing_mm)
