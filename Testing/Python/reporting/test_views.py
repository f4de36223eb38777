"""A view shows the patient's right on the left, anterior or superior on top, in mm, on any input grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.study import Mask, MaskSource
from Diff4MMLiTSLib.reporting.views import Plane, box_around, largest_slice, occupancy, sample, view_grid, whole_box


def ramp(grid: Grid, axis: int) -> Volume:
    """A volume whose value is the world coordinate (LPS mm) along one axis."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), axis=-1)
    return Volume(grid.to_world(index)[..., axis].transpose(2, 1, 0).astype(np.float32), grid)


def turned_grids() -> list[Grid]:
    grids = []
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        matrix = np.zeros((3, 3))
        matrix[list(order), range(3)] = signs
        grids.append(Grid((9, 11, 13), (1.0, 2.0, 3.0), (5.0, -7.0, 11.0), tuple(matrix.ravel())))
    return grids


@pytest.mark.parametrize(("plane", "row_axis", "row_sign"), [(Plane.AXIAL, 1, 1), (Plane.CORONAL, 2, -1)])
def test_left_is_right_and_top_is_anterior_or_superior_for_every_orientation(plane, row_axis, row_sign):
    for grid in turned_grids():
        view = view_grid(grid, whole_box(grid), plane, slice_index=None)
        to_left, down = sample(ramp(grid, 0), view), sample(ramp(grid, row_axis), view)
        inside = np.s_[1:-1, 1:-1]
        assert (np.diff(to_left[inside], axis=1) > 0).all()
        assert (row_sign * np.diff(down[inside], axis=0) > 0).all()


def test_pixels_are_isotropic_on_an_anisotropic_grid(a_grid):
    view = view_grid(a_grid, whole_box(a_grid), Plane.CORONAL, slice_index=None)
    columns, rows, _ = view.size
    assert view.spacing_mm[0] == view.spacing_mm[1]
    assert columns * view.spacing_mm[0] == pytest.approx(a_grid.size[0] * a_grid.spacing_mm[0], abs=3)
    assert rows * view.spacing_mm[1] == pytest.approx(a_grid.size[2] * a_grid.spacing_mm[2], abs=5)


def test_the_slice_with_the_largest_area_is_chosen(a_grid):
    mask = np.zeros(a_grid.shape, dtype=np.uint8)
    mask[2:9, 5:8, 5:8] = 1
    mask[7, 2:15, 2:15] = 1
    chosen = Mask(Volume(mask, a_grid), MaskSource.ANNOTATION)
    assert largest_slice(chosen, Plane.AXIAL) == 7.0
    view = view_grid(a_grid, box_around(chosen, 5.0), Plane.AXIAL, slice_index=7.0)
    area_mm2 = float((occupancy(chosen, view) > 0.5).sum()) * view.spacing_mm[0] ** 2
    assert area_mm2 == pytest.approx(13 * 13 * 1.5 * 1.5, rel=0.1)


def test_beyond_the_image_a_view_is_air(a_study):
    far = Grid((5, 5, 1), (1.0, 1.0, 1.0), (9000.0, 0.0, 0.0))
    assert (sample(a_study.reference, far) == -1000).all()
