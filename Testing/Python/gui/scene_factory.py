"""Volumes, transforms and segmentations for tests, made in the scene."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from scipy import ndimage
from vtk.util.numpy_support import numpy_to_vtk

from Diff4MMLiTSLib.gui.segments import new_segmentation, set_liver
from Diff4MMLiTSLib.gui.world import as_matrix, image_of, matrix_of, world_points

SHAPE = (12, 20, 24)
"""(Z, Y, X)."""


def ijk_to_ras(*, spacing=(1.5, 1.2, 4.0), angle_deg=0.0, flip=(1, 1, 1), origin=(-20.25, 11.5, 101.125)):
    """Return voxel index -> RAS of a lattice turned about two axes, with axes flipped."""
    turn = np.deg2rad(angle_deg)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    result = np.eye(4)
    result[:3, :3] = about_z @ about_x @ np.diag(np.multiply(spacing, flip))
    result[:3, 3] = origin
    return result


def smooth_values(shape=SHAPE, seed=0):
    """Return CT values that trilinear interpolation follows well, int16, with fat among them."""
    rng = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(rng.normal(0, 1, shape), 2.0)
    return np.rint(values / values.std() * 100).astype(np.int16)


def add_volume(array, matrix, name="volume"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetAndObserveImageData(image_of(array))
    node.SetIJKToRASMatrix(as_matrix(matrix))
    return node


def add_linear(matrix):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "linear")
    node.SetMatrixTransformToParent(as_matrix(matrix))
    return node


def add_grid(displacement, origin, spacing):
    """Add a displacement field (Z, Y, X, 3), RAS mm, to the parent."""
    image = vtk.vtkImageData()
    image.SetDimensions(*displacement.shape[2::-1])
    image.SetOrigin(*origin)
    image.SetSpacing(*spacing)
    image.GetPointData().SetScalars(numpy_to_vtk(displacement.reshape(-1, 3).astype(np.float64), deep=True))
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetInterpolationModeToLinear()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "grid")
    node.SetAndObserveTransformToParent(grid)
    return node


def add_liver(reference, mask, matrix=None):
    """Add a segmentation with a liver on a lattice, the volume's own by default."""
    node = new_segmentation("drawn", reference)
    set_liver(node, mask, matrix_of(reference) if matrix is None else matrix, source="annotation")
    return node


def world_of(node, index_xyz):
    """Return where voxels of a volume lie in the world, (N, 3), RAS mm."""
    matrix = matrix_of(node)
    return world_points(node, np.asarray(index_xyz, dtype=float) @ matrix[:3, :3].T + matrix[:3, 3])
