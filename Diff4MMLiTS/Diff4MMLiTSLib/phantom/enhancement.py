"""Contrast enhancement: the HU of every tissue in every phase for one patient.

Mean values follow the literature on triphasic liver CT (Goshima 2006, Kanematsu 2005, Naruo 2007, Francis 2003); values
between them were interpolated. A patient deviates from them by contrast dose, circulation time and body size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.phases import ALL_PHASES, Phase
from .anatomy import Tissue
from .patient import LiverDisease, Patient

PhaseValues = tuple[float, float, float, float]

MEAN_HU: Mapping[Tissue, PhaseValues] = {
    Tissue.AIR: (-1000, -1000, -1000, -1000),
    Tissue.SKIN: (5, 10, 20, 18),
    Tissue.FAT: (-104, -104, -103, -103),
    Tissue.MUSCLE: (55, 60, 65, 63),
    Tissue.BONE_CORTEX: (560, 565, 570, 570),
    Tissue.BONE_MARROW: (190, 195, 200, 200),
    Tissue.CARTILAGE: (105, 106, 108, 108),
    Tissue.DISC: (85, 86, 88, 88),
    Tissue.CORD: (30, 32, 36, 36),
    Tissue.LUNG: (-860, -850, -850, -852),
    Tissue.HEART: (42, 210, 150, 108),
    Tissue.LIVER: (58, 78, 118, 95),
    Tissue.SPLEEN: (48, 150, 125, 98),
    Tissue.KIDNEY_CORTEX: (35, 235, 190, 150),
    Tissue.KIDNEY_MEDULLA: (35, 90, 180, 160),
    Tissue.GUT_WALL: (38, 72, 90, 80),
    Tissue.GAS: (-960, -960, -960, -960),
    Tissue.FLUID: (14, 14, 15, 16),
    Tissue.ORAL_CONTRAST: (330, 330, 330, 330),
    Tissue.FECES: (-25, -25, -25, -25),
    Tissue.PANCREAS: (40, 112, 98, 78),
    Tissue.GALLBLADDER: (8, 8, 9, 10),
    Tissue.ARTERY: (42, 330, 160, 110),
    Tissue.CAVA: (42, 82, 160, 108),
    Tissue.PORTAL_VEIN: (42, 130, 175, 110),
    Tissue.HEPATIC_VEIN: (42, 75, 165, 108),
    Tissue.VISCERAL_FAT: (-100, -99, -97, -98),
    Tissue.ASCITES: (8, 8, 9, 10),
    Tissue.TABLE: (-140, -140, -140, -140),
    Tissue.ADRENAL: (30, 80, 75, 60),
    Tissue.RENAL_PELVIS: (8, 10, 25, 420),
    Tissue.FOOD: (42, 42, 42, 42),
    Tissue.MYOCARDIUM: (45, 115, 110, 90),
}
DISEASED_LIVER_HU: Mapping[LiverDisease, PhaseValues] = {
    LiverDisease.NORMAL: MEAN_HU[Tissue.LIVER],
    LiverDisease.STEATOTIC: (32, 50, 88, 66),
    LiverDisease.CIRRHOTIC: (51, 66, 91, 82),
}
BLOOD = (Tissue.ARTERY, Tissue.CAVA, Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN, Tissue.HEART)
SOLID = (
    Tissue.LIVER, Tissue.SPLEEN, Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA, Tissue.PANCREAS, Tissue.GUT_WALL,
    Tissue.MUSCLE, Tissue.ADRENAL, Tissue.MYOCARDIUM,
)  # fmt: skip
LEAST_PAUSE = 0.45
"""Between two phases, as part of the usual pause: scanners need time, and no phase is scanned before the one before."""


@dataclass(frozen=True)
class Timing:
    """When the scanner ran, as a fraction of the way to the neighboring phase; 0 is the textbook moment.

    Args:
        arterial: -1 is early arterial (veins not yet enhanced), +1 is portal venous inflow.
        portal: -1 is late arterial, +1 is the equilibrium.
        delayed: -1 is portal venous.
    """

    arterial: float
    portal: float
    delayed: float


@dataclass(frozen=True, eq=False)
class Enhancement:
    """HU of one patient.

    Args:
        table_hu: HU by phase and tissue, (P, T), float32, by the order of ``Phase`` and the value of ``Tissue``.
        timing: When the phases were scanned.
    """

    table_hu: NDArray[np.float32]
    timing: Timing

    def hu(self, phase: Phase) -> NDArray[np.float32]:
        """Return HU by tissue value, (T,)."""
        return np.asarray(self.table_hu[ALL_PHASES.index(phase)])


def draw_enhancement(patient: Patient, rng: np.random.Generator, *, shifted: bool) -> Enhancement:
    """Draw the patient's deviation from the mean enhancement.

    Args:
        patient: Whose liver disease sets the liver's curve.
        rng: Source of randomness.
        shifted: Contrast timing outside the standard range.
    """
    table = np.zeros((len(ALL_PHASES), max(Tissue) + 1), dtype=np.float32)
    for tissue, values in MEAN_HU.items():
        table[:, tissue] = values
    table[:, Tissue.LIVER] = DISEASED_LIVER_HU[patient.liver.disease]
    dose = float(np.clip(rng.normal(1.0, 0.10), 0.75, 1.3))  # iodine per kg
    for tissue in BLOOD:
        table[1:, tissue] = table[0, tissue] + (table[1:, tissue] - table[0, tissue]) * dose * rng.normal(1, 0.08)
    for tissue in SOLID:
        table[1:, tissue] = table[0, tissue] + (table[1:, tissue] - table[0, tissue]) * dose * rng.normal(1, 0.05)
        table[:, tissue] += rng.normal(0, 3.5)
    table[:, Tissue.HEPATIC_VEIN] += table[:, Tissue.CAVA] - np.array(MEAN_HU[Tissue.CAVA])
    table[:, Tissue.LUNG] += rng.normal(0, 25)
    table[:, Tissue.BONE_MARROW] += rng.normal(0, 45)
    table[:, Tissue.ORAL_CONTRAST] += rng.uniform(-120, 320)
    table[:, Tissue.GALLBLADDER] += rng.uniform(-6, 10)
    table[:, Tissue.RENAL_PELVIS] *= np.float32(rng.uniform(0.5, 1.2))
    timing = _draw_timing(rng, shifted=shifted)
    return Enhancement(_with_timing(table, timing), timing)


def _draw_timing(rng: np.random.Generator, *, shifted: bool) -> Timing:
    if not shifted:
        return Timing(*(float(value) for value in np.clip(rng.normal(0, 0.12, 3), -0.25, 0.25)))
    while True:  # most draws are in order: the loop ends
        early = rng.random() < 0.5
        arterial = rng.uniform(-0.85, -0.45) if early else rng.uniform(0.4, 0.7)
        portal = rng.choice((-1, 1)) * rng.uniform(0.35, 0.6)
        delayed = rng.uniform(-0.5, 0.5)
        if min(1 + portal - arterial, 1 + delayed - portal) >= LEAST_PAUSE:
            return Timing(float(arterial), float(portal), float(delayed))


def _with_timing(table: NDArray[np.float32], timing: Timing) -> NDArray[np.float32]:
    """Return the table moved along every tissue's own curve; an early arterial phase lies before the arterial."""
    early = table[1].copy()
    for tissue in range(table.shape[1]):
        early[tissue] = table[0, tissue] + 0.25 * (table[1, tissue] - table[0, tissue])
    early[Tissue.ARTERY] = table[1, Tissue.ARTERY] * 1.08
    early[Tissue.KIDNEY_CORTEX] = table[0, Tissue.KIDNEY_CORTEX] + 0.6 * (table[1] - table[0])[Tissue.KIDNEY_CORTEX]
    late = table[3] + 0.45 * (table[3] - table[2])  # washes out further
    curve = (early, table[1], table[2], table[3], late)
    result = table.copy()
    for row, shift in ((1, timing.arterial), (2, timing.portal), (3, timing.delayed)):
        neighbor = curve[row + (1 if shift > 0 else -1)]
        result[row] = curve[row] + abs(shift) * (neighbor - curve[row])
    result[:, Tissue.RENAL_PELVIS] = table[:, Tissue.RENAL_PELVIS]
    return result
