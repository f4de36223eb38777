"""Voxels in world coordinates: parent transforms are applied, and only what cannot stay on its lattice is resampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

OUTSIDE_HU = -1024
PERPENDICULAR = 1e-4
"""Largest cosine between two axes of a lattice that an image file can describe."""
SAMPLES = 9
"""Points along each axis at which a bent lattice is looked at."""

FloatArray = NDArray[np.float64]
Voxels = NDArray[Any]  # Any: of whatever type the image is


@dataclass(frozen=True, eq=False)
class Lattice:
    """Where voxels lie in world coordinates of the scene.

    Args:
        size: Number of voxels along i, j, k.
        to_world: Continuous voxel index -> world position, (4, 4), RAS mm.
    """

    size: tuple[int, int, int]
    to_world: FloatArray

    def same_as(self, other: Lattice) -> bool:
        """Whether both put their voxels at the same places, but for the rounding of files."""
        step = float(np.linalg.norm(self.to_world[:3, :3], axis=0).min())
        return self.size == other.size and bool(np.allclose(self.to_world, other.to_world, rtol=0, atol=1e-3 * step))


def lattice_of(volume: slicer.vtkMRMLVolumeNode) -> Lattice | None:
    """Return where the voxels of a volume lie in the world; None when its transforms bend or shear its lattice."""
    parent = volume.GetParentTransformNode()
    matrix = matrix_of(volume)
    if parent is not None:
        if not parent.IsTransformToWorldLinear():
            return None
        to_world = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformToWorld(to_world)
        matrix = as_array(to_world) @ matrix
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    is_lattice = np.allclose(axes.T @ axes, np.eye(3), atol=PERPENDICULAR)
    return Lattice(_size(volume.GetImageData()), matrix) if is_lattice else None


def in_world(volume: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLScalarVolumeNode:
    """Return a copy without parent transform, which is in no scene; the values are shared where the lattice can stay.

    A bent or sheared lattice (an acquisition transform, a gantry tilt, a deformation) is resampled, trilinearly, on a
    straight one that covers it and is nowhere coarser. The lattice is right-handed, as that of every volume that Slicer
    reads from a file, so that results lie on it voxel for voxel.
    """
    lattice = lattice_of(volume)
    if lattice is not None:
        image, lattice = _right_handed(volume.GetImageData(), lattice)
        return _node_of(image, lattice, "vtkMRMLScalarVolumeNode")
    to_world = _transform(volume.GetParentTransformNode(), None)
    lattice = _covering(volume, to_world)
    to_local = _transform(None, volume.GetParentTransformNode())
    image = _resampled(volume.GetImageData(), matrix_of(volume), to_local, lattice, is_mask=False)
    return _node_of(image, lattice, "vtkMRMLScalarVolumeNode")


def segment_on(
    node: slicer.vtkMRMLSegmentationNode, segment_id: str, lattice: Lattice
) -> slicer.vtkMRMLLabelMapVolumeNode:
    """Return a segment as a mask of 0 and 1 on a lattice in the world (nearest neighbor), in no scene."""
    mask = np.zeros(lattice.size[::-1], dtype=bool)
    paint_segment(mask, node, segment_id, lattice)
    return _node_of(image_of(mask.view(np.uint8)), lattice, "vtkMRMLLabelMapVolumeNode")


def paint_segment(
    mask: NDArray[np.bool_], node: slicer.vtkMRMLSegmentationNode, segment_id: str, lattice: Lattice
) -> None:
    """Set the voxels of a segment in a mask (Z, Y, X) on a lattice in the world (nearest neighbor)."""
    image = segment_image(node, segment_id)
    if image.IsEmpty():
        return
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    parent = node.GetParentTransformNode()
    if parent is None or parent.IsTransformToWorldLinear():
        to_world = vtk.vtkMatrix4x4()
        if parent is not None:
            parent.GetMatrixTransformToWorld(to_world)
        if Lattice(lattice.size, as_array(to_world) @ as_array(matrix)).same_as(lattice):
            _paste(mask, array_of(image) > 0, image.GetExtent()[::2])
            return
    plain = vtk.vtkImageData()  # image coordinates are voxel indices, as those of a volume node's are
    plain.SetExtent(image.GetExtent())
    plain.GetPointData().SetScalars(image.GetPointData().GetScalars())
    mask |= array_of(_resampled(plain, as_array(matrix), _transform(None, parent), lattice, is_mask=True)) > 0


def segment_image(node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> Any:  # noqa: ANN401 (VTK is not typed)
    """Return a segment as an oriented image of 0 and 1 in the node's own coordinates; it may be empty."""
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if not node.GetSegmentation().ContainsRepresentation(name):
        node.CreateBinaryLabelmapRepresentation()
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, image)
    return image


def world_points(node: slicer.vtkMRMLTransformableNode, points: FloatArray) -> FloatArray:
    """Return points (N, 3) of a node's own coordinates in the world, RAS mm."""
    return _moved(points, _transform(node.GetParentTransformNode(), None))


def local_points(node: slicer.vtkMRMLTransformableNode, points: FloatArray) -> FloatArray:
    """Return points (N, 3) of the world in a node's own coordinates, RAS mm."""
    return _moved(points, _transform(None, node.GetParentTransformNode()))


def array_of(image: vtk.vtkImageData) -> Voxels:
    """Return the values of an image, (Z, Y, X), as a view."""
    values: Voxels = vtk_to_numpy(image.GetPointData().GetScalars())
    return values.reshape(image.GetDimensions()[::-1])


def image_of(array: Voxels) -> vtk.vtkImageData:
    """Return an image with a copy of these values (Z, Y, X), its first voxel at 0."""
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True))
    return image


def matrix_of(volume: slicer.vtkMRMLVolumeNode) -> FloatArray:
    """Return voxel index -> the volume's own coordinates, (4, 4), RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return as_array(matrix)


def as_array(matrix: vtk.vtkMatrix4x4) -> FloatArray:
    """Return a VTK matrix as an array (4, 4)."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def as_matrix(array: FloatArray) -> vtk.vtkMatrix4x4:
    """Return an array (4, 4) as a VTK matrix."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(array.ravel().tolist())
    return matrix


def _node_of(image: vtk.vtkImageData, lattice: Lattice, class_name: str) -> Any:  # noqa: ANN401 (MRML is not typed)
    node = getattr(slicer, class_name)()
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(as_matrix(lattice.to_world))
    return node


def _paste(mask: NDArray[np.bool_], part: NDArray[np.bool_], start_xyz: tuple[int, ...]) -> None:
    """Set the voxels of a part in a mask (Z, Y, X); what reaches beyond is cut off."""
    low = np.array(start_xyz[::-1])
    first, last = np.clip(low, 0, mask.shape), np.clip(low + part.shape, 0, mask.shape)
    here = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    there = tuple(slice(a, b) for a, b in zip(first - low, last - low, strict=True))
    mask[here] |= part[there]


def _size(image: vtk.vtkImageData) -> tuple[int, int, int]:
    first, second, third = image.GetDimensions()
    return first, second, third


def _transform(source: Any, target: Any) -> vtk.vtkGeneralTransform:  # noqa: ANN401 (MRML is not typed)
    """Return the transform between the coordinates of two transform nodes; None is the world."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    return transform


def _moved(points: FloatArray, transform: vtk.vtkGeneralTransform) -> FloatArray:
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    source.SetDataTypeToDouble()
    target.SetDataTypeToDouble()
    source.SetData(numpy_to_vtk(np.ascontiguousarray(points, dtype=np.float64), deep=True))
    transform.TransformPoints(source, target)
    return np.array(vtk_to_numpy(target.GetData()), dtype=np.float64)


def _right_handed(image: vtk.vtkImageData, lattice: Lattice) -> tuple[vtk.vtkImageData, Lattice]:
    """Return the same voxels at the same places, with the last axis turned where the lattice is left-handed."""
    if np.linalg.det(lattice.to_world[:3, :3]) > 0:
        return image, lattice
    turn = np.diag([1.0, 1.0, -1.0, 1.0])
    turn[2, 3] = lattice.size[2] - 1
    return image_of(array_of(image)[::-1]), Lattice(lattice.size, lattice.to_world @ turn)


def _covering(volume: slicer.vtkMRMLVolumeNode, to_world: vtk.vtkGeneralTransform) -> Lattice:
    """Return the straight lattice that covers a bent one and is as fine as its finest part."""
    size, matrix = _size(volume.GetImageData()), matrix_of(volume)
    along = [np.linspace(-0.5, count - 0.5, SAMPLES) for count in size]
    index = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 3)
    world = _moved(index @ matrix[:3, :3].T + matrix[:3, 3], to_world)
    # 1. The rotation nearest to the affine map that fits the bent lattice best (polar decomposition), right-handed.
    design = np.column_stack([index, np.ones(len(index))])
    affine = np.linalg.lstsq(design, world, rcond=None)[0][:3].T
    left, _, right = np.linalg.svd(affine / np.linalg.norm(affine, axis=0))
    axes = left @ right
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    # 2. The smallest step along each axis, averaged over the other two.
    bent = world.reshape(SAMPLES, SAMPLES, SAMPLES, 3)
    steps = [np.linalg.norm(np.diff(bent, axis=axis), axis=-1) for axis in range(3)]
    spacing = np.array(
        [
            step.mean(axis=tuple({0, 1, 2} - {axis})).min() * (SAMPLES - 1) / size[axis]
            for axis, step in enumerate(steps)
        ]
    )
    # 3. The box around everything.
    inside = world @ axes
    low, high = inside.min(axis=0), inside.max(axis=0)
    count = np.maximum(1, np.ceil((high - low) / spacing - 1e-3)).astype(int)
    result = np.eye(4)
    result[:3, :3] = axes * spacing
    result[:3, 3] = axes @ (low + spacing / 2)
    return Lattice((int(count[0]), int(count[1]), int(count[2])), result)


def _resampled(
    image: vtk.vtkImageData,
    index_to_local: FloatArray,
    world_to_local: vtk.vtkGeneralTransform,
    lattice: Lattice,
    *,
    is_mask: bool,
) -> vtk.vtkImageData:
    chain = vtk.vtkGeneralTransform()  # voxel of the lattice -> world -> local -> voxel of the image
    chain.PostMultiply()
    chain.Concatenate(as_matrix(lattice.to_world))
    chain.Concatenate(world_to_local)
    chain.Concatenate(as_matrix(np.asarray(np.linalg.inv(index_to_local), dtype=np.float64)))
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(image)
    reslice.SetResliceTransform(chain)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent(*(bound for count in lattice.size for bound in (0, count - 1)))
    reslice.SetBackgroundLevel(0 if is_mask else OUTSIDE_HU)
    if is_mask:
        reslice.SetInterpolationModeToNearestNeighbor()
        reslice.SetOutputScalarType(vtk.VTK_UNSIGNED_CHAR)
    else:
        reslice.SetInterpolationModeToLinear()
    reslice.Update()
    return reslice.GetOutput()
