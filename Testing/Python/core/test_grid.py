"""Laws of grids, volumes and resampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Grid, Volume, resample


@pytest.mark.parametrize(
    "change",
    [
        {"size": (24, 20, 13)},
        {"spacing_mm": (1.5, 1.51, 4.0)},
        {"origin_mm": (-30.0, 12.6, 100.0)},
        {"direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)},
    ],
)
def test_each_field_changed_alone_is_another_grid(a_grid, change):
    other = replace(a_grid, **change)
    assert not a_grid.same_as(other)
    assert a_grid.difference(other).startswith(next(iter(change)).removesuffix("_mm"))


def test_rounding_of_file_formats_is_the_same_grid(a_grid):
    rounded = replace(
        a_grid,
        spacing_mm=tuple(float(np.float32(value * (1 + 1e-6))) for value in a_grid.spacing_mm),
        origin_mm=tuple(value + 1e-4 for value in a_grid.origin_mm),
    )
    assert a_grid.same_as(rounded)


def test_world_and_index_are_inverse_and_agree_with_itk(a_grid):
    image = Volume(np.zeros(a_grid.shape, dtype=np.int16), a_grid).to_image()
    index = np.array([[0.0, 0.0, 0.0], [3.5, 7.25, 2.0], [23.0, 19.0, 11.0]])
    world = a_grid.to_world(index)
    expected = [image.TransformContinuousIndexToPhysicalPoint(point.tolist()) for point in index]
    np.testing.assert_allclose(world, expected, atol=1e-9)
    np.testing.assert_allclose(a_grid.to_index(world), index, atol=1e-9)


def test_axes_that_are_perpendicular_only_roughly_do_not_move_far_points():
    grid = Grid((512, 512, 100), (0.8, 0.8, 3.0), direction=(1.0, 0.005, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    far = np.array([500.0, 400.0, 90.0])
    np.testing.assert_allclose(grid.to_index(grid.to_world(far)), far, atol=1e-6)


def test_an_image_keeps_its_grid_through_volume_and_back(a_grid):
    volume = Volume(np.arange(np.prod(a_grid.shape), dtype=np.int16).reshape(a_grid.shape), a_grid)
    again = Volume.from_image(volume.to_image())
    assert again.grid.same_as(a_grid)
    np.testing.assert_array_equal(again.array, volume.array)


def test_a_volume_cannot_be_changed(a_grid):
    volume = Volume(np.zeros(a_grid.shape), a_grid)
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0] = 1


def test_a_finer_grid_covers_the_same_box(a_grid):
    fine = a_grid.with_spacing((1.0, 1.0, 1.0))
    corner = np.full(3, -0.5)
    np.testing.assert_allclose(fine.to_world(corner), a_grid.to_world(corner), atol=1e-9)
    assert fine.size == (36, 30, 48)


def test_a_cropped_grid_keeps_the_places_of_its_voxels(a_grid):
    part = a_grid.cropped((2, 3, 4), (5, 6, 7))
    np.testing.assert_allclose(part.to_world(np.zeros(3)), a_grid.to_world(np.array([2.0, 3.0, 4.0])))


def test_resampling_whole_numbers_rounds_instead_of_truncating():
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0))
    ramp = np.broadcast_to(np.array([-3, -2, -1, 0], dtype=np.int16), (4, 4, 4))
    moved = resample(Volume(ramp.copy(), grid), grid, transform=sitk.TranslationTransform(3, (0.4, 0.0, 0.0)))
    np.testing.assert_array_equal(moved.array[0, 0], [-3, -2, -1, 0])


def test_resampling_follows_the_transform_from_grid_to_volume():
    grid = Grid((8, 8, 8), (2.0, 2.0, 2.0))
    values = np.zeros(grid.shape, dtype=np.float32)
    values[4, 4, 5] = 1.0  # at x = 10 mm
    moved = resample(Volume(values, grid), grid, transform=sitk.TranslationTransform(3, (4.0, 0.0, 0.0)))
    assert np.unravel_index(moved.array.argmax(), grid.shape) == (4, 4, 3)  # found at 6 mm, since 6 -> 10


@pytest.mark.parametrize(
    "fields",
    [
        {"size": (0, 4, 4), "spacing_mm": (1.0, 1.0, 1.0)},
        {"size": (4, 4, 4), "spacing_mm": (1.0, -1.0, 1.0)},
        {"size": (4, 4, 4), "spacing_mm": (1.0, 1.0, float("nan"))},
        {"size": (4, 4), "spacing_mm": (1.0, 1.0)},
        {"size": (4, 4, 4), "spacing_mm": (1.0, 1.0, 1.0), "direction": (1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)},
    ],
)
def test_impossible_grids_cannot_be_built(fields):
    with pytest.raises(InputError):
        Grid(**fields)
