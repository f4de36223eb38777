"""The rendered patient: tissues, vessels, texture and tumors on one fine lattice, from which every phase is sampled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.grid import Grid
from ..core.phases import Phase
from .anatomy import LabelArray, Tissue, cavity_distance, paint_wall, patient_points
from .enhancement import Enhancement
from .fields import FloatArray, grid_axes
from .organs import cava_path, paint_organs, portal_root
from .patient import Ingredient, Patient, random_stream
from .texture import TISSUE_GRAIN_HU, grain, liver_texture
from .tumors import Tumor, tumor_distance, tumor_hu
from .vessels import coverage, grow_mesentery, grow_trees, point_to_world

WORKERS = 2
SLAB = 8
"""Slices that one worker renders at a time; bounds the memory."""
SURVEY_MM = 4.0
"""Spacing of the coarse rendering in which vessels grow and tumors are placed; the same for every preset."""
LUNG_VESSEL_HU = 420.0
"""How bright the grain of the lung becomes where it exceeds 1.5 deviations: its small vessels."""
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Tissues:
    """Tissue labels on a lattice.

    Args:
        grid: The lattice.
        wall: Static tissues: what does not breathe, (Z, Y, X).
        organs: Tissues that move, painted beyond the cavity's wall too.
        cavity: Whether a voxel lies in the body cavity.
    """

    grid: Grid
    wall: LabelArray
    organs: LabelArray
    cavity: NDArray[np.bool_]

    @property
    def combined(self) -> LabelArray:
        """The tissue of every voxel in the reference phase."""
        return np.where(self.cavity, self.organs, self.wall)

    @property
    def liver(self) -> NDArray[np.bool_]:
        """The liver with its vessels and tumors."""
        return np.asarray(self.cavity & (self.organs == Tissue.LIVER))


@dataclass(frozen=True, eq=False)
class Lesion:
    """A tumor rendered on a block of the lattice.

    Args:
        tumor: What it is.
        box: The block of the lattice.
        grid: The block's own grid.
        alpha: How much of every voxel is tumor, 0 ... 1.
        distance: Signed distance to its border, mm.
        noise: Unit noise for its interior.
    """

    tumor: Tumor
    box: Box
    grid: Grid
    alpha: FloatArray
    distance: FloatArray
    noise: FloatArray


@dataclass(frozen=True, eq=False)
class Specimen:
    """Everything that a phase is rendered from.

    Args:
        patient: Who.
        tissues: Labels on the fine lattice.
        liver_box: Block of the lattice around the liver.
        portal: Coverage by portal veins in that block, 0 ... 1.
        hepatic: Coverage by hepatic veins.
        mesentery: Coverage by the vessels of the visceral fat, over the lattice, 0 ... 255.
        texture: Inhomogeneity of the liver, HU.
        lesions: Rendered tumors.
        grain: Unit fine noise over the lattice, (Z, Y, X).
    """

    patient: Patient
    tissues: Tissues
    liver_box: Box
    portal: FloatArray
    hepatic: FloatArray
    mesentery: NDArray[np.uint8]
    texture: FloatArray
    lesions: tuple[Lesion, ...]
    grain: FloatArray


def paint(patient: Patient, grid: Grid) -> Tissues:
    """Evaluate the patient's implicit shapes on any axis-aligned grid."""
    axes = grid_axes(grid)

    def slab(first: int) -> tuple[LabelArray, LabelArray, NDArray[np.bool_]]:
        static, moving = patient_points(patient, axes, slice(first, first + SLAB))
        wall = paint_wall(static, patient.body)
        return wall, paint_organs(moving, patient), (cavity_distance(static, patient.body) < 0)

    with ThreadPoolExecutor(WORKERS) as pool:
        slabs = list(pool.map(slab, range(0, grid.size[2], SLAB)))
    wall, organs, cavity = (np.concatenate(parts) for parts in zip(*slabs, strict=True))
    return Tissues(grid, wall, organs, cavity)


def survey(patient: Patient) -> tuple[NDArray[np.bool_], Grid]:
    """Return the liver on a coarse grid that is the same for every preset."""
    body = patient.body
    low = np.array(body.offset_mm) + body.scale * np.array((-160.0, -165.0, -190.0))
    size = np.ceil(body.scale * np.array((320.0, 240.0, 330.0)) / SURVEY_MM).astype(int)
    grid = Grid(
        (int(size[0]), int(size[1]), int(size[2])), (SURVEY_MM,) * 3, (float(low[0]), float(low[1]), float(low[2]))
    )
    liver = paint(patient, grid).liver
    labels, count = ndimage.label(liver)
    if count > 1:
        liver = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return liver, grid


def render(
    patient: Patient,
    tissues: Tissues,
    tumors: tuple[Tumor, ...],
    liver: tuple[NDArray[np.bool_], Grid],
    *,
    shifted: bool,
) -> Specimen:
    """Render vessels, texture and tumors of a patient on the lattice of the tissues.

    Args:
        patient: Who.
        tissues: Labels on the fine lattice.
        tumors: Tumors to render.
        liver: The liver on the survey grid.
        shifted: Texture model of the shifted variant.
    """
    grid = tissues.grid
    box = _liver_box(tissues.liver)
    block = _block_grid(grid, box)
    dome = cava_path(patient)[3]
    roots = (point_to_world(patient, portal_root(patient)), point_to_world(patient, (dome[0], dome[1], dome[2] - 4)))
    portal, hepatic = (coverage(tree, block) for tree in grow_trees(patient, *liver, roots))
    texture = liver_texture(patient, _patient_axes(patient, block), shifted=shifted)
    noise = grain(patient).on_axes(*_patient_axes(patient, grid))[0]
    lesions = tuple(_lesion(tumor, tissues, noise) for tumor in tumors)
    strands = coverage(grow_mesentery(patient), grid) * (tissues.organs == Tissue.VISCERAL_FAT)
    mesentery = np.rint(255 * strands).astype(np.uint8)
    return Specimen(
        patient, tissues, box, portal, hepatic, mesentery, texture, tuple(part for part in lesions if part), noise
    )


def organs_hu(specimen: Specimen, enhancement: Enhancement, phase: Phase) -> FloatArray:
    """Return the noise-free, tumor-free CT of the moving tissues on the lattice, (Z, Y, X), HU."""
    table = enhancement.hu(phase)
    hu = _tissue_hu(specimen.tissues.organs, table, specimen.grain)
    block = hu[specimen.liver_box]
    is_liver = specimen.tissues.organs[specimen.liver_box] == Tissue.LIVER
    strength = np.float32(0.55 + 0.45 * np.clip(table[Tissue.LIVER] / 110, 0.3, 1.2))
    filled = np.where(is_liver, block + strength * specimen.texture, block)
    for vessels, tissue in ((specimen.hepatic, Tissue.HEPATIC_VEIN), (specimen.portal, Tissue.PORTAL_VEIN)):
        filled = np.where(is_liver, filled + vessels * (table[tissue] - filled), filled)
    hu[specimen.liver_box] = filled
    strands = np.nonzero(specimen.mesentery)
    share = specimen.mesentery[strands].astype(np.float32) / 255
    hu[strands] += share * (table[Tissue.PORTAL_VEIN] - hu[strands])
    lung = specimen.tissues.organs == Tissue.LUNG
    hu[lung] += LUNG_VESSEL_HU * np.maximum(specimen.grain[lung] - 1.5, 0)
    return hu


def wall_hu(specimen: Specimen, enhancement: Enhancement, phase: Phase) -> FloatArray:
    """Return the noise-free CT of the static tissues on the lattice, (Z, Y, X), HU."""
    return _tissue_hu(specimen.tissues.wall, enhancement.hu(phase), specimen.grain)


def lesion_change_hu(specimen: Specimen, lesion: Lesion, normal_hu: FloatArray, phase: Phase) -> FloatArray:
    """Return what a tumor adds to the tumor-free CT of its block, HU."""
    inside = tumor_hu(lesion.tumor, lesion.distance, lesion.noise, phase)
    return np.asarray(lesion.alpha * (inside - normal_hu[lesion.box]), dtype=np.float32)


def _tissue_hu(labels: LabelArray, table: FloatArray, noise: FloatArray) -> FloatArray:
    amplitude = np.zeros_like(table)
    for tissue, deviation in TISSUE_GRAIN_HU.items():
        amplitude[tissue] = deviation
    return np.asarray(table[labels] + amplitude[labels] * noise, dtype=np.float32)


def _liver_box(liver: NDArray[np.bool_]) -> Box:
    found = ndimage.find_objects(liver.astype(np.int8))[0]
    z, y, x = (slice(max(0, part.start - 2), part.stop + 2) for part in found)
    return z, y, x


def _block_grid(grid: Grid, box: Box) -> Grid:
    start = (box[2].start, box[1].start, box[0].start)
    stop = [min(part.stop, size) for part, size in zip(box[::-1], grid.size, strict=True)]
    return grid.cropped(start, (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]))


def _patient_axes(patient: Patient, grid: Grid) -> tuple[FloatArray, FloatArray, FloatArray]:
    body = patient.body
    x, y, z = (
        ((axis - np.float32(offset)) / np.float32(body.scale)).astype(np.float32)
        for axis, offset in zip(grid_axes(grid), body.offset_mm, strict=True)
    )
    return x, y, z


def _lesion(tumor: Tumor, tissues: Tissues, noise: FloatArray) -> Lesion | None:
    grid = tissues.grid
    center = grid.to_index(np.array(tumor.center_mm))
    reach = tumor.reach_mm / np.array(grid.spacing_mm)
    low = np.clip(np.floor(center - reach), 0, grid.size).astype(int)
    high = np.clip(np.ceil(center + reach) + 1, 0, grid.size).astype(int)
    if (high <= low).any():
        return None
    box = (slice(int(low[2]), int(high[2])), slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    block = _block_grid(grid, box)
    x, y, z = grid_axes(block)
    distance = tumor_distance(tumor, x[None, None, :], y[None, :, None], z[:, None, None])
    width = max(tumor.interior.border_mm, float(grid.spacing_mm[0]))
    alpha = np.clip(0.5 - distance / width, 0, 1) * (tissues.organs[box] == Tissue.LIVER)
    own = random_stream(tumor.seed, Ingredient.TEXTURE).standard_normal((24, 24, 24), dtype=np.float32)
    return Lesion(tumor, box, block, alpha.astype(np.float32), distance, _own_noise(own, block))


def _own_noise(white: FloatArray, block: Grid) -> FloatArray:
    """Return unit noise correlated over a few mm, fixed in the world, on a block of the lattice."""
    smooth = ndimage.gaussian_filter(white, 0.8, mode="wrap")
    smooth /= smooth.std()
    index = np.meshgrid(*(axis / 3.2 for axis in grid_axes(block)[::-1]), indexing="ij")
    return np.asarray(ndimage.map_coordinates(smooth, index, order=1, mode="grid-wrap"), dtype=np.float32)
