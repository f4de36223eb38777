"""Makes a phantom: a multiphase study with everything that is known about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .. import __version__
from ..core.grid import Grid, Volume, resample
from ..core.phases import ALL_PHASES, Phase
from ..core.progress import Progress
from ..core.study import TUMOR_FREE, HistoryEntry, Mask, MaskSource, Study
from ..core.study_io import write_study
from .anatomy import Tissue
from .enhancement import draw_enhancement
from .fields import Field
from .imaging import Exposure, PhaseImages, scan
from .motion import backward_motion, displacement_on, draw_motion
from .patient import Ingredient, LiverDisease, Patient, draw_patient, random_stream
from .scanner import SAMPLINGS, Acquisition, Preset, Sampling, body_box_mm, draw_acquisitions, draw_kernel
from .specimen import Specimen, paint, render, survey
from .tumors import Tumor, draw_tumors

REFERENCE = Phase.PVP
MOVING = tuple(phase for phase in ALL_PHASES if phase is not REFERENCE)
RESIDUAL_REACH_MM = 12.0
"""Farthest that rotation and residual move tissue beyond the translation."""


class Variant(StrEnum):
    """Family of phantoms: ``shifted`` has textures, lesions, timing, motion and noise that ``standard`` never has."""

    STANDARD = "standard"
    SHIFTED = "shifted"


@dataclass(frozen=True, eq=False)
class Phantom:
    """A study and the truth about it.

    Args:
        study: Phases on their own grids; liver and tumor masks on the grid of PVP.
        displacement: By moving phase, vector images (mm LPS) on the reference grid: PVP point p is found at p + u(p).
        normal: By phase, the noise-free tumor-free CT on the phase's own grid, int16, HU.
        tumor: By phase, the tumors on the phase's own grid, uint8.
        organs: ``Tissue`` labels on the reference grid, uint8.
        tumors: What the tumors are; centers and diameters hold in the reference phase.
        liver_disease: State of the parenchyma.
    """

    study: Study
    displacement: Mapping[Phase, sitk.Image]
    normal: Mapping[Phase, Volume]
    tumor: Mapping[Phase, Volume]
    organs: Volume
    tumors: tuple[Tumor, ...]
    liver_disease: LiverDisease


def make_phantom(seed: int, *, preset: Preset, variant: Variant, healthy: bool = False, progress: Progress) -> Phantom:
    """Make one phantom; the same arguments give the same labels and the same HU within 1.

    Args:
        seed: Which phantom; the patient is the same at every preset.
        preset: How finely it is sampled.
        variant: Which family of phantoms.
        healthy: Leave out the tumors.
        progress: Told after every phase.

    Raises:
        CanceledError: The user asked to stop.
    """
    config = {"preset": str(preset), "variant": str(variant), "healthy": healthy}
    entry = HistoryEntry(stage="phantom", version=__version__, config=config, seed=seed)
    phantom = build_phantom(seed, sampling=SAMPLINGS[preset], variant=variant, healthy=healthy, progress=progress)
    name = phantom_id(seed, preset=preset, variant=variant, healthy=healthy)
    return replace(phantom, study=replace(phantom.study, study_id=name, history=(entry,)))


def phantom_id(seed: int, *, preset: Preset, variant: Variant, healthy: bool) -> str:
    """Return the name of the study that these arguments of ``make_phantom`` give."""
    return f"phantom-{variant}-{preset}-{seed:04d}" + ("-healthy" if healthy else "")


def build_phantom(
    seed: int, *, sampling: Sampling, variant: Variant, healthy: bool = False, progress: Progress
) -> Phantom:
    """Make one phantom with any sampling; see ``make_phantom``.

    Args:
        seed: Which phantom.
        sampling: How finely it is sampled.
        variant: Which family of phantoms.
        healthy: Leave out the tumors.
        progress: Told after every phase.
    """
    shifted = variant is Variant.SHIFTED
    patient = draw_patient(seed)
    liver = survey(patient)
    traits = {phase: draw_motion(_stream(seed, Ingredient.MOTION, phase), shifted=shifted) for phase in MOVING}
    scans = draw_acquisitions(patient, _z_range(*liver), random_stream(seed, Ingredient.GRIDS), sampling=sampling)
    enhancement = draw_enhancement(patient, random_stream(seed, Ingredient.ENHANCEMENT), shifted=shifted)
    tumors = () if healthy else draw_tumors(patient, *liver, enhancement.table_hu[:, Tissue.LIVER], shifted=shifted)
    kernel = draw_kernel(random_stream(seed, Ingredient.NOISE), shifted=shifted)
    progress.update(0.05, "anatomy")
    reach = max(abs(part.shift_mm[2]) for part in traits.values()) + RESIDUAL_REACH_MM
    tissues = paint(patient, _model_grid(patient, scans, sampling.model_mm, reach_mm=reach))
    specimen = render(patient, tissues, tumors, liver, shifted=shifted)
    motions = {
        phase: backward_motion(patient, traits[phase], _stream(seed, Ingredient.MOTION, phase, 10), tissues.grid)
        for phase in MOVING
    }
    images = {}
    for number, phase in enumerate(ALL_PHASES):
        progress.update(0.3 + 0.15 * number, f"phase {phase}")
        rng = _stream(seed, Ingredient.NOISE, phase, 10)
        exposure = Exposure(scans[phase], motions.get(phase), kernel)
        images[phase] = scan(specimen, enhancement, phase, exposure=exposure, rng=rng)
    progress.update(0.95, "truth")
    return _assemble(specimen, images, motions)


def write_phantom(phantom: Phantom, folder: Path, *, force: bool = False) -> None:
    """Write a phantom as a study folder with its truth beside it.

    Args:
        phantom: What to write.
        folder: The study's folder.
        force: Replace a folder that is already there.

    Raises:
        InputError: The folder exists, or cannot be written.
    """
    extras: dict[str, sitk.Image | str] = {"truth/phantom.json": json.dumps(describe(phantom), indent=1)}
    extras |= {f"truth/displacement_{phase}.nrrd": image for phase, image in phantom.displacement.items()}
    extras |= {f"truth/normal_{phase}.nrrd": volume.to_image() for phase, volume in phantom.normal.items()}
    extras |= {f"truth/tumor_{phase}.nrrd": volume.to_image() for phase, volume in phantom.tumor.items()}
    extras["truth/organs.nrrd"] = phantom.organs.to_image()
    write_study(phantom.study, folder, force=force, extras=extras)


def describe(phantom: Phantom) -> dict[str, object]:
    """Return what is known about a phantom's patient and tumors as plain JSON values."""
    tumors = [
        {
            "family": str(tumor.family),
            "diameter_mm": round(tumor.diameter_mm, 2),
            "center_mm": [round(value, 2) for value in tumor.center_mm],
        }
        for tumor in phantom.tumors
    ]
    return {"liver_disease": str(phantom.liver_disease), "tumors": tumors}


def _stream(seed: int, ingredient: Ingredient, phase: Phase, first: int = 0) -> np.random.Generator:
    return random_stream(seed, ingredient, first + ALL_PHASES.index(phase))


def _z_range(liver: NDArray[np.bool_], grid: Grid) -> tuple[float, float]:
    rows = np.flatnonzero(liver.any(axis=(1, 2)))
    return tuple(float(grid.origin_mm[2] + grid.spacing_mm[2] * row) for row in (rows[0], rows[-1]))  # type: ignore[return-value]  # two rows


def _model_grid(patient: Patient, scans: Mapping[Phase, Acquisition], spacing_mm: float, *, reach_mm: float) -> Grid:
    """Return the lattice that covers the body where any phase looks, after any motion."""
    low, high = body_box_mm(patient)
    bottom = min(scan.grid.origin_mm[2] for scan in scans.values()) - reach_mm
    top = max(scan.grid.to_world(np.array(scan.grid.size) - 1.0)[2] for scan in scans.values()) + reach_mm
    table = 30.0
    extent = np.array((high[0] - low[0], high[1] - low[1] + table, top - bottom))
    size = np.ceil(extent / spacing_mm).astype(int) + 1
    return Grid((int(size[0]), int(size[1]), int(size[2])), (spacing_mm,) * 3, (low[0], low[1], float(bottom)))


def _assemble(specimen: Specimen, images: Mapping[Phase, PhaseImages], motions: Mapping[Phase, Field]) -> Phantom:
    grid = images[REFERENCE].ct.grid
    tumor = images[REFERENCE].tumor
    liver = _on_grid(specimen.tissues.liver, specimen.tissues.grid, grid) | (np.asarray(tumor.array) > 0)
    labels = Volume(specimen.tissues.combined, specimen.tissues.grid)
    study = Study(
        study_id=f"phantom-{specimen.patient.seed:04d}",
        phases={phase: image.ct for phase, image in images.items()},
        reference_phase=REFERENCE,
        liver=Mask(Volume(liver.astype(np.uint8), grid), MaskSource.PHANTOM),
        tumor=Mask(tumor, MaskSource.PHANTOM) if specimen.lesions else TUMOR_FREE,
    )
    return Phantom(
        study=study,
        displacement={phase: _displacement(specimen, motion, grid) for phase, motion in motions.items()},
        normal={phase: image.normal for phase, image in images.items()},
        tumor={phase: image.tumor for phase, image in images.items()},
        organs=resample(labels, grid, linear=False, outside=float(Tissue.AIR)),
        tumors=tuple(lesion.tumor for lesion in specimen.lesions),
        liver_disease=specimen.patient.liver.disease,
    )


def _on_grid(mask: NDArray[np.bool_], source: Grid, grid: Grid) -> NDArray[np.bool_]:
    return np.asarray(resample(Volume(mask.astype(np.float32), source), grid).array) >= 0.5


def _displacement(specimen: Specimen, motion: Field, grid: Grid) -> sitk.Image:
    """Return u on the reference grid: the inverse of the motion inside the cavity, zero in the static wall."""
    moved = displacement_on(grid, motion, Volume(specimen.tissues.cavity, specimen.tissues.grid))
    image = sitk.GetImageFromArray(np.moveaxis(moved, 0, -1), isVector=True)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    return image
