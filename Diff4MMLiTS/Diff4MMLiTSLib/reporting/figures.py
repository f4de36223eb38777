"""One figure per stage of the method, from studies to PNG: what went in, what came out, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.errors import InputError
from ..core.grid import Grid, Volume
from ..core.study import Mask, NormalStudy, RegisteredStudy, Segmentation, Study, SyntheticPair
from .pictures import ABDOMEN, LIVER, PREDICTED, REGION, TRUTH, Kind, Labels, Outline, Picture, draw_pictures
from .views import (
    Box,
    Plane,
    Plane2D,
    box_around,
    largest_piece,
    largest_slice,
    occupancy,
    sample,
    view_grid,
    whole_box,
)

LIVER_MARGIN_MM = 15.0
LESION_MARGIN_MM = 30.0
TILES = 8
"""Squares of a checkerboard along its longer side."""
SOFT_TISSUE_HU = (-30.0, 200.0)
MISSING_HU = -950.0
"""Below this is air, or nothing: a phase's field of view ended. Lung is above it."""
SMOOTHING_MM = 1.5
"""Differences between phases are smoothed by this deviation, since the noise of both adds up in them."""
MISALIGNMENT_HU = 200.0
"""Range of differences between phases; a border of liver and fat that moved differs by about that."""


@dataclass(frozen=True, eq=False)
class SegmentationCase:
    """A study with its truth and what was predicted for it.

    Args:
        study: Phases and true masks.
        predicted: The prediction; None when there is none.
        caption: A short line, for example ``DSC 0.81``.
    """

    study: Study
    predicted: Segmentation | None
    caption: str = ""


def overview_figure(study: Study) -> bytes:
    """Show every phase of a study, axial and coronal, with the tumor outlined on the reference phase.

    Args:
        study: Phases on any grids; each is shown where it lies in the world.

    Returns:
        A PNG image.
    """
    focus = _focus(study)
    box = whole_box(study.grid)
    rows = []
    for plane in Plane:
        view = view_grid(study.grid, box, plane, slice_index=largest_slice(focus, plane) if focus else None)
        row = []
        for phase, volume in study.phases.items():
            on_reference = study.tumor_mask if phase is study.reference_phase else None
            row.append(_ct(volume, view, (on_reference, TRUTH)))
        rows.append(row)
    legend = {"tumor": TRUTH} if study.tumor_mask else {}
    return draw_pictures(rows, Labels(tuple(study.phases), tuple(Plane), legend))


def registration_figure(before: Study, after: RegisteredStudy) -> bytes:
    """Show each phase against the reference phase, coronal, before and after registration.

    Checkerboards alternate squares of both phases. In both kinds of pictures the moving phase is shifted in brightness
    so that the liver's median equals the reference phase's: what remains is vessels, lesions and misalignment.
    Differences are moving minus reference, smoothed a little, and black where a phase shows nothing but air.

    Args:
        before: Phases as they were acquired.
        after: The same study, registered.

    Returns:
        A PNG image.

    Raises:
        InputError: There is no phase to compare with the reference phase.
    """
    moving = [phase for phase in after.phases if phase != after.reference_phase and phase in before.phases]
    if not moving:
        raise InputError(f"Study '{after.study_id}' has one phase only", expected="a phase to register")
    box = box_around(after.liver, LIVER_MARGIN_MM) if after.liver else whole_box(after.grid)
    slice_index = largest_slice(after.liver, Plane.CORONAL) if after.liver else None
    view = view_grid(after.grid, box, Plane.CORONAL, slice_index=slice_index)
    reference = sample(after.reference, view)
    liver = occupancy(after.liver, view) if after.liver else np.zeros_like(reference)
    outlines = (Outline(liver, LIVER),)
    rows = []
    for phase in moving:
        both = [_matched(sample(study.phases[phase], view), reference, liver) for study in (before, after)]
        boards = [Picture(_checkerboard(reference, values), _pixel(view), outlines) for values in both]
        differences = [
            Picture(_misalignment(values, reference, view), _pixel(view), outlines, Kind.DIFFERENCE) for values in both
        ]
        rows.append([*boards, *differences])
    titles = tuple(f"{what}, {when}" for what in ("checkerboard", "difference") for when in ("before", "after"))
    labels = tuple(f"{phase} against {after.reference_phase}" for phase in moving)
    legend = {f"liver on {after.reference_phase}": LIVER}
    return draw_pictures(rows, Labels(titles, labels, legend, MISALIGNMENT_HU))


def inpainting_figure(before: RegisteredStudy, after: NormalStudy) -> bytes:
    """Show how the largest tumor was removed from each phase.

    Args:
        before: The study with its tumor.
        after: The study without, with the mask of what was filled.

    Returns:
        A PNG image.

    Raises:
        InputError: Nothing was filled.
    """
    region = after.inpainting_mask
    if region is None or not region.array.any():
        raise InputError(f"Nothing was inpainted in study '{before.study_id}'", expected="an inpainting mask")
    view = _close_up(largest_piece(region))
    drawn = ((before.tumor_mask, TRUTH), (region, REGION))
    rows = _change_rows(before, after.study, view, drawn)
    legend = {"tumor": TRUTH, "inpainting mask (dashed)": REGION}
    return draw_pictures(rows, Labels(tuple(before.phases), ("with tumor", "inpainted", "difference"), legend))


def synthesis_figure(condition: NormalStudy, pair: SyntheticPair) -> bytes:
    """Show the largest synthetic tumor in each phase beside the tumor-free study it was put into.

    Args:
        condition: The tumor-free study.
        pair: The synthetic phases with their tumor mask.

    Returns:
        A PNG image.

    Raises:
        InputError: The synthetic tumor mask is empty.
    """
    mask = pair.study.tumor_mask
    if mask is None or not mask.array.any():
        raise InputError(f"Study '{pair.study.study_id}' has no synthetic tumor", expected="a tumor mask with voxels")
    view = _close_up(largest_piece(mask))
    rows = _change_rows(condition.study, pair.study, view, ((mask, REGION),))
    labels = Labels(
        tuple(pair.study.phases), ("normal", "synthetic", "difference"), {"tumor mask asked for (dashed)": REGION}
    )
    return draw_pictures(rows, labels)


def segmentation_figure(cases: Sequence[SegmentationCase]) -> bytes:
    """Show predicted against true outlines, a study per column: the liver, and a close-up of the tumor.

    Args:
        cases: One to six studies; the slice is the one with the largest true tumor, or predicted tumor if none is true.

    Returns:
        A PNG image.

    Raises:
        InputError: There is no study to show.
    """
    if not cases:
        raise InputError("No study to show", expected="at least one")
    columns = [_segmentation_column(case) for case in cases]
    titles = tuple(_shortened(case.study.study_id) for case in cases)
    legend = {"tumor, truth": TRUTH, "tumor, predicted (dashed)": PREDICTED, "liver, truth": LIVER}
    return draw_pictures(list(zip(*columns, strict=True)), Labels(titles, ("liver", "close-up"), legend))


def _segmentation_column(case: SegmentationCase) -> tuple[Picture, Picture]:
    study, predicted = case.study, case.predicted.tumor if case.predicted else None
    focus = _first_filled(study.tumor_mask, predicted, study.liver)
    slice_index = largest_slice(focus, Plane.AXIAL) if focus else None
    far = box_around(study.liver, LIVER_MARGIN_MM) if study.liver else whole_box(study.grid)
    near = box_around(largest_piece(focus), LESION_MARGIN_MM) if focus and focus is not study.liver else far
    views = [view_grid(study.grid, box, Plane.AXIAL, slice_index=slice_index) for box in (far, near)]
    tumor = (study.tumor_mask, TRUTH), (predicted, PREDICTED)
    overall = _ct(study.reference, views[0], (study.liver, LIVER), *tumor, caption=case.caption)
    return overall, _ct(study.reference, views[1], *tumor)


def _change_rows(
    before: RegisteredStudy, after: RegisteredStudy, view: Grid, drawn: Sequence[tuple[Mask | None, str]]
) -> list[list[Picture]]:
    """Return three rows, before, after and difference, with the masks drawn over the first and the last."""
    first, second, third = [], [], []
    for phase in after.phases:
        old, new = sample(before.phases[phase], view), sample(after.phases[phase], view)
        outlines = _outlines(drawn, view)
        first.append(Picture(old, _pixel(view), outlines))
        second.append(Picture(new, _pixel(view)))
        third.append(Picture(new - old, _pixel(view), outlines[-1:], Kind.DIFFERENCE))
    return [first, second, third]


def _ct(volume: Volume, view: Grid, *drawn: tuple[Mask | None, str], caption: str = "") -> Picture:
    return Picture(sample(volume, view), _pixel(view), _outlines(drawn, view), caption=caption)


def _outlines(drawn: Sequence[tuple[Mask | None, str]], view: Grid) -> tuple[Outline, ...]:
    return tuple(
        Outline(occupancy(mask, view), color, dashed=color in (REGION, PREDICTED)) for mask, color in drawn if mask
    )


def _close_up(mask: Mask) -> Grid:
    box = _square(box_around(mask, LESION_MARGIN_MM), mask.volume.grid)
    return view_grid(mask.volume.grid, box, Plane.AXIAL, slice_index=largest_slice(mask, Plane.AXIAL))


def _square(box: Box, grid: Grid) -> Box:
    """Return the box grown to the same extent in mm along x and y, where the image allows."""
    spacing, whole = np.array(grid.spacing_mm), whole_box(grid)
    extent_mm = (box.high - box.low) * spacing
    grow = np.zeros(3)
    grow[:2] = (extent_mm[:2].max() - extent_mm[:2]) / spacing[:2] / 2
    return Box(np.maximum(box.low - grow, whole.low), np.minimum(box.high + grow, whole.high))


def _focus(study: Study) -> Mask | None:
    return _first_filled(study.tumor_mask, study.liver)


def _first_filled(*masks: Mask | None) -> Mask | None:
    return next((mask for mask in masks if mask is not None and mask.array.any()), None)


def _matched(values: Plane2D, reference: Plane2D, liver: Plane2D) -> Plane2D:
    """Return the values shifted by the difference of the medians in the liver (in all soft tissue without a liver)."""
    region: NDArray[np.bool_] = liver > 0.5
    if not region.any():
        region = (reference > SOFT_TISSUE_HU[0]) & (reference < SOFT_TISSUE_HU[1])
    if not region.any():
        return values
    return np.asarray(values + (np.median(reference[region]) - np.median(values[region])), dtype=np.float32)


def _misalignment(values: Plane2D, reference: Plane2D, view: Grid) -> Plane2D:
    shown = [np.clip(each, ABDOMEN.low_hu, ABDOMEN.high_hu) for each in (values, reference)]
    difference = np.where(np.minimum(values, reference) < MISSING_HU, 0.0, shown[0] - shown[1])
    return np.asarray(ndimage.gaussian_filter(difference, SMOOTHING_MM / _pixel(view)), dtype=np.float32)


def _checkerboard(first: Plane2D, second: Plane2D) -> Plane2D:
    tile = max(1, max(first.shape) // TILES)
    rows, columns = np.indices(first.shape) // tile
    return np.where((rows + columns) % 2 == 0, first, second)


def _pixel(view: Grid) -> float:
    return view.spacing_mm[0]


def _shortened(text: str, limit: int = 22) -> str:
    """Return a text without its middle: study ids differ at their ends."""
    return text if len(text) <= limit else text[: limit // 3] + "…" + text[-(limit - limit // 3 - 1) :]
