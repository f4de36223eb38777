"""Voxels in the world: exact where the lattice can stay, resampled where transforms bend it."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.gui.crossing import load_volume, write_image
from Diff4MMLiTSLib.gui.world import array_of, in_world, lattice_of, matrix_of, segment_on
from gui.scene_factory import SHAPE, add_grid, add_linear, add_liver, add_volume, ijk_to_ras, smooth_values, world_of

LATTICES = {
    "plain": {},
    "oblique": {"angle_deg": 17},
    "flipped": {"flip": (-1, 1, -1)},
    "left-handed": {"flip": (1, 1, -1)},
    "oblique, flipped, left-handed": {"angle_deg": -33, "flip": (-1, -1, -1)},
    "fine and thick": {"spacing": (0.4375, 0.61, 7.3), "angle_deg": 5},
}


def values_at(file, points_ras):
    """Return the values of an image file at the voxels nearest to world points."""
    image = sitk.ReadImage(str(file))
    index = np.rint(Grid.of_image(image).to_index(points_ras * [-1, -1, 1])).astype(int)
    array = sitk.GetArrayFromImage(image)
    return array[index[:, 2], index[:, 1], index[:, 0]]


@pytest.fixture
def everywhere():
    """The index (x, y, z) of every voxel."""
    return np.stack(np.meshgrid(*map(np.arange, SHAPE[::-1]), indexing="ij"), axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("lattice", LATTICES)
def test_every_voxel_keeps_its_value_and_its_place_in_the_patient(scene, tmp_path, everywhere, lattice):
    array = smooth_values()
    node = add_volume(array, ijk_to_ras(**LATTICES[lattice]))
    write_image(in_world(node), tmp_path / "a ü.nrrd")
    x, y, z = everywhere.T
    assert np.array_equal(values_at(tmp_path / "a ü.nrrd", world_of(node, everywhere)), array[z, y, x])
    back = load_volume(tmp_path / "a ü.nrrd", "back")
    inverse = np.linalg.inv(matrix_of(node))
    index = world_of(back, everywhere) @ inverse[:3, :3].T + inverse[:3, 3]
    assert np.abs(index - np.rint(index)).max() < 1e-6  # the reader turns left-handed lattices, voxels stay in place
    i, j, k = np.rint(index).astype(int).T
    assert np.array_equal(array_of(back.GetImageData())[z, y, x], array[k, j, i])


@pytest.mark.parametrize("lattice", LATTICES)
def test_what_is_written_is_read_on_the_same_lattice(scene, tmp_path, lattice):
    made = in_world(add_volume(smooth_values(), ijk_to_ras(**LATTICES[lattice])))
    write_image(made, tmp_path / "a.nrrd")
    back = load_volume(tmp_path / "a.nrrd", "back")
    assert lattice_of(back).same_as(lattice_of(made))
    assert np.array_equal(array_of(back.GetImageData()), array_of(made.GetImageData()))


@pytest.mark.parametrize("lattice", LATTICES)
def test_a_linear_parent_moves_the_lattice_and_no_value_changes(scene, tmp_path, everywhere, lattice):
    array = smooth_values()
    node = add_volume(array, ijk_to_ras(**LATTICES[lattice]))
    node.SetAndObserveTransformNodeID(add_linear(ijk_to_ras(spacing=(1, 1, 1), angle_deg=40)).GetID())
    write_image(in_world(node), tmp_path / "a.nrrd")
    x, y, z = everywhere.T
    assert np.array_equal(values_at(tmp_path / "a.nrrd", world_of(node, everywhere)), array[z, y, x])


def test_a_sheared_volume_is_resampled_on_perpendicular_axes(scene, tmp_path, everywhere):
    array = smooth_values()
    node = add_volume(array, ijk_to_ras())
    shear = np.eye(4)
    shear[1, 2] = 0.3  # a gantry tilt
    node.SetAndObserveTransformNodeID(add_linear(shear).GetID())
    assert lattice_of(node) is None
    made = in_world(node)
    assert lattice_of(made) is not None
    write_image(made, tmp_path / "a.nrrd")
    assert_follows(tmp_path / "a.nrrd", node, array)


def assert_follows(file, node, array):
    """Check the values inside a resampled volume against the bent original."""
    inner = np.stack(np.meshgrid(*[np.arange(2, n - 2) for n in SHAPE[::-1]], indexing="ij"), axis=-1).reshape(-1, 3)
    x, y, z = inner.T
    image = sitk.ReadImage(str(file))
    points = world_of(node, inner) * [-1, -1, 1]
    found = np.array([image.EvaluateAtPhysicalPoint(tuple(point), sitk.sitkLinear) for point in points.tolist()])
    error = np.abs(found - array[z, y, x])
    assert np.percentile(error, 95) < 15  # of values with a deviation of 100
    assert np.abs(np.mean(found - array[z, y, x])) < 1


def test_irregular_slices_become_regular_in_the_world(scene, tmp_path):
    array = smooth_values()
    node = add_volume(array, ijk_to_ras(spacing=(1.5, 1.2, 4.0)))
    # an acquisition transform: the upper half of the slices is 1.5 times as far apart
    z_mm = np.arange(12) * 4.0
    shift = np.where(z_mm > 24, (z_mm - 24) * 0.5, 0.0)
    displacement = np.zeros((12, 2, 2, 3))
    displacement[..., 2] = shift[:, None, None]
    origin = (-100.0, -100.0, 101.125)
    node.SetAndObserveTransformNodeID(add_grid(displacement, origin, (300.0, 300.0, 4.0)).GetID())
    made = in_world(node)
    assert made.GetImageData().GetDimensions()[2] > 12
    write_image(made, tmp_path / "a.nrrd")
    assert_follows(tmp_path / "a.nrrd", node, array)


def test_a_deformation_over_a_turned_volume_is_honored(scene, tmp_path):
    array = smooth_values()
    node = add_volume(array, ijk_to_ras(angle_deg=20))
    rng = np.random.default_rng(1)
    displacement = rng.normal(0, 2.0, (5, 5, 5, 3))
    grid = add_grid(displacement, (-120.0, -120.0, 0.0), (60.0, 60.0, 60.0))
    linear = add_linear(ijk_to_ras(spacing=(1, 1, 1), angle_deg=-10, origin=(5, 0, 3)))
    linear.SetAndObserveTransformNodeID(grid.GetID())
    node.SetAndObserveTransformNodeID(linear.GetID())
    write_image(in_world(node), tmp_path / "a.nrrd")
    assert_follows(tmp_path / "a.nrrd", node, array)


@pytest.mark.parametrize("lattice", LATTICES)
def test_a_segment_on_its_own_lattice_comes_back_voxel_for_voxel(scene, lattice):
    node = add_volume(smooth_values(), ijk_to_ras(**LATTICES[lattice]))
    mask = smooth_values(seed=3) > 50
    segmentation = add_liver(node, mask)
    found = segment_on(segmentation, "Liver", lattice_of(node))
    assert np.array_equal(array_of(found.GetImageData()), mask)


def test_a_segment_and_a_volume_under_different_transforms_meet_in_the_world(scene):
    reference = add_volume(smooth_values(), ijk_to_ras())
    mask = np.zeros(SHAPE, dtype=bool)
    mask[4:8, 6:14, 5:15] = True
    segmentation = add_liver(reference, mask)
    shift = np.eye(4)
    shift[0, 3] = 3.0  # two voxels
    segmentation.SetAndObserveTransformNodeID(add_linear(shift).GetID())
    found = array_of(segment_on(segmentation, "Liver", lattice_of(reference)).GetImageData())
    assert np.array_equal(found, np.roll(mask, 2, axis=2))


def test_a_segment_that_moves_with_its_volume_is_copied_not_resampled(scene, monkeypatch):
    node = add_volume(smooth_values(), ijk_to_ras())
    node.SetAndObserveTransformNodeID(add_linear(ijk_to_ras(spacing=(1, 1, 1), angle_deg=11)).GetID())
    mask = smooth_values(seed=3) > 50
    segmentation = add_liver(node, mask)
    monkeypatch.setattr("Diff4MMLiTSLib.gui.world._resampled", None)
    found = array_of(segment_on(segmentation, "Liver", lattice_of(node)).GetImageData())
    assert np.array_equal(found, mask)


def test_an_empty_segment_is_an_empty_mask(scene):
    reference = add_volume(smooth_values(), ijk_to_ras())
    segmentation = add_liver(reference, np.zeros(SHAPE, dtype=bool))
    segmentation.GetSegmentation().AddEmptySegment("empty")
    for segment_id in ("empty", "Liver"):
        assert not array_of(segment_on(segmentation, segment_id, lattice_of(reference)).GetImageData()).any()
