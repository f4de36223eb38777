"""Liver and tumors as segments: standard terminology and colors, one segment per tumor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from scipy import ndimage

from ..core.lesions import TOUCHING
from ..core.metrics import bounding_box
from .world import Lattice, as_array, as_matrix, image_of, lattice_of, paint_segment

LIVER_TERMINOLOGY = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^"
)
TUMOR_TERMINOLOGY = (
    "Segmentation category and type - DICOM master list~SCT^49755003^Morphologically Altered Structure"
    "~SCT^108369006^Neoplasm~^^~Anatomic codes - DICOM master list~SCT^10200004^Liver~^^"
)
LIVER_COLOR, TUMOR_COLOR = (221 / 255, 130 / 255, 101 / 255), (144 / 255, 238 / 255, 144 / 255)
"""Of the terminologies; the tumor's is that of a neoplasm."""
LIVER_ID, TUMOR_ID = "Liver", "Tumor_"
LIVER_CODE, NEOPLASM_CODE = "SCT^10200004", "SCT^108369006"
LIVER_OPACITY_3D = 0.3
SOURCE_TAG = "Diff4MMLiTS.Source"
"""Tag of a segment: who drew it, as in study.json. What has no tag was drawn by hand."""
MODEL, BY_HAND = "model", "annotation"

SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """How a segment appears.

    Args:
        name: For the user.
        terminology: What it is, for DICOM.
        color: Red, green, blue, 0 to 1.
        source: Who drew it, as in study.json.
    """

    name: str
    terminology: str
    color: tuple[float, float, float]
    source: str


@dataclass(frozen=True, eq=False)
class Part:
    """A box of a mask on a lattice.

    Args:
        mask: The box, (Z, Y, X).
        start: Index (x, y, z) of its first voxel.
        index_to_node: Voxel index -> coordinates of the node, (4, 4), RAS mm.
    """

    mask: BoolArray
    start: Sequence[int]
    index_to_node: FloatArray


@dataclass(frozen=True, eq=False)
class Tumors:
    """The tumors of a study, each one connected.

    Args:
        labels: Which tumor each voxel of a box belongs to, (Z, Y, X).
        numbers: The labels that are tumors, largest first; all others are none.
        start: Index (z, y, x) of the box's first voxel on the lattice.
    """

    labels: NDArray[np.signedinteger[Any]]
    numbers: tuple[int, ...]
    start: tuple[int, ...] = (0, 0, 0)


def new_segmentation(name: str, reference: slicer.vtkMRMLVolumeNode) -> Any:  # noqa: ANN401 (MRML is not typed)
    """Add an empty segmentation that shares the geometry of a volume and its place in the patient's study.

    It also gets the volume's parent transform, unless that bends or shears the volume: masks are then in the world.
    """
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    if lattice_of(reference) is not None:
        node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    put_beside(node, reference)
    return node


def set_liver(
    node: slicer.vtkMRMLSegmentationNode, mask: BoolArray, index_to_node: FloatArray, *, source: str = MODEL
) -> None:
    """Replace the liver segment by a mask; as ``set_tumors``."""
    if LIVER_ID in _ids(node):
        node.GetSegmentation().RemoveSegment(LIVER_ID)
    box = bounding_box(mask) or (slice(0, 1),) * 3
    part = Part(mask[box], [box[axis].start for axis in (2, 1, 0)], index_to_node)
    _add(node, LIVER_ID, Look("Liver", LIVER_TERMINOLOGY, LIVER_COLOR, source), part)
    node.GetDisplayNode().SetSegmentOpacity3D(LIVER_ID, LIVER_OPACITY_3D)


def set_tumors(
    node: slicer.vtkMRMLSegmentationNode, mask: BoolArray, index_to_node: FloatArray, *, source: str = MODEL
) -> None:
    """Replace all tumor segments by the components of a mask, largest first.

    Args:
        node: Other segments stay.
        mask: (Z, Y, X).
        index_to_node: Voxel index (x, y, z) -> coordinates of the node, (4, 4), RAS mm.
        source: Who drew it, as in study.json.
    """
    show_tumors(node, tumors_in(mask), index_to_node, source=source)


def tumors_in(mask: BoolArray) -> Tumors:
    """Return the components of a mask (Z, Y, X)."""
    box = bounding_box(mask)
    if box is None:
        return Tumors(np.zeros((0, 0, 0), dtype=np.int32), ())
    labels, count = ndimage.label(mask[box], structure=TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    return Tumors(labels, largest_first(sizes, np.arange(count + 1) > 0), tuple(part.start for part in box))


def largest_first(sizes: NDArray[np.int64], is_tumor: BoolArray) -> tuple[int, ...]:
    """Return the labels that are tumors in the order of their segments; both arrays are by label."""
    return tuple(int(label) for label in np.argsort(-sizes, kind="stable") if is_tumor[label])


def show_tumors(
    node: slicer.vtkMRMLSegmentationNode,
    tumors: Tumors,
    index_to_node: FloatArray,
    *,
    source: str = MODEL,
    with_surface: bool = True,
) -> None:
    """Replace all tumor segments.

    Args:
        node: Other segments stay.
        tumors: The new ones.
        index_to_node: Voxel index (x, y, z) -> coordinates of the node, (4, 4), RAS mm.
        source: Who drew them, as in study.json.
        with_surface: Whether they are seen in 3D, where the segmentation is; without is several times faster.
    """
    inside = ndimage.find_objects(tumors.labels) if tumors.numbers else []
    with _one_change(node):
        for segment_id in tumor_ids(node):
            node.GetSegmentation().RemoveSegment(segment_id)
        for number, label in enumerate(tumors.numbers, start=1):
            box = inside[label - 1]
            start = [box[axis].start + tumors.start[axis] for axis in (2, 1, 0)]
            look = Look(f"Tumor {number}", TUMOR_TERMINOLOGY, TUMOR_COLOR, source)
            part = Part(tumors.labels[box] == label, start, index_to_node)
            _add(node, f"{TUMOR_ID}{number}", look, part, with_surface=with_surface)


def mask_of(
    node: slicer.vtkMRMLSegmentationNode, segment_ids: Sequence[str], shape: Sequence[int], index_to_world: FloatArray
) -> BoolArray:
    """Return the union of segments on a lattice.

    Args:
        node: The segmentation.
        segment_ids: Its segments; ids that it does not have are left out.
        shape: Of the lattice, (Z, Y, X).
        index_to_world: Voxel index (x, y, z) -> world, (4, 4), RAS mm.
    """
    depth, height, width = shape
    lattice = Lattice((width, height, depth), index_to_world)
    union = np.zeros((depth, height, width), dtype=bool)
    for segment_id in segment_ids:
        if segment_id in _ids(node):
            paint_segment(union, node, segment_id, lattice)
    return union


def tumor_ids(node: slicer.vtkMRMLSegmentationNode) -> tuple[str, ...]:
    """Return the segments that are a neoplasm by their terminology, in their order."""
    return tuple(each for each in _ids(node) if NEOPLASM_CODE in _terminology(node, each))


def liver_id(node: slicer.vtkMRMLSegmentationNode) -> str:
    """Return the segment that is a liver by its terminology, else the one that is called so; empty when none is."""
    for segment_id in _ids(node):
        fields = _terminology(node, segment_id).split("~")
        if len(fields) > 2 and fields[2].startswith(LIVER_CODE):
            return segment_id
    named = (each for each in _ids(node) if node.GetSegmentation().GetSegment(each).GetName().lower() == "liver")
    return next(named, "")


def source_of(node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> str:
    """Return who drew a segment, as in study.json."""
    return _tag(node, segment_id, SOURCE_TAG) or BY_HAND


def world_to_node(node: slicer.vtkMRMLSegmentationNode) -> FloatArray:
    """Return the world in the coordinates of a segmentation, (4, 4); its parent transform, if any, is linear."""
    matrix = vtk.vtkMatrix4x4()
    if node.GetParentTransformNode() is not None:
        node.GetParentTransformNode().GetMatrixTransformFromWorld(matrix)
    return as_array(matrix)


def show_in_3d(node: slicer.vtkMRMLSegmentationNode) -> None:
    """Make the surfaces of all segments."""
    node.CreateClosedSurfaceRepresentation()


def put_beside(node: slicer.vtkMRMLNode, reference: slicer.vtkMRMLNode) -> None:
    """Put a node into the patient's study of another one, in the subject hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    beside = hierarchy.GetItemByDataNode(reference) if hierarchy is not None else 0
    if not beside:  # without the application's subject hierarchy nothing has a place in it
        return
    parent = hierarchy.GetItemParent(beside)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)


@contextmanager
def _one_change(node: slicer.vtkMRMLSegmentationNode) -> Iterator[None]:
    """Tell the views once of all that is done to a segmentation, not once per segment."""
    nodes = [node, *filter(None, [node.GetDisplayNode()])]
    before = [each.StartModify() for each in nodes]
    try:
        yield
    finally:
        for each, was_modifying in zip(nodes, before, strict=True):
            each.EndModify(was_modifying)


def _ids(node: slicer.vtkMRMLSegmentationNode) -> tuple[str, ...]:
    segmentation = node.GetSegmentation()
    return tuple(segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments()))


def _terminology(node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> str:
    return _tag(node, segment_id, slicer.vtkSegment.GetTerminologyEntryTagName())


def _tag(node: slicer.vtkMRMLSegmentationNode, segment_id: str, name: str) -> str:
    text = vtk.mutable("")
    return str(text) if node.GetSegmentation().GetSegment(segment_id).GetTag(name, text) else ""


def _add(
    node: slicer.vtkMRMLSegmentationNode, segment_id: str, look: Look, part: Part, *, with_surface: bool = True
) -> None:
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(image_of(part.mask.astype(np.uint8)))
    bounds = zip(part.start, part.mask.shape[::-1], strict=True)
    image.SetExtent(*(bound for first, count in bounds for bound in (first, first + count - 1)))
    image.SetImageToWorldMatrix(as_matrix(part.index_to_node))
    segment = slicer.vtkSegment()
    segment.SetName(look.name)
    segment.SetColor(*look.color)
    segment.SetTag(segment.GetTerminologyEntryTagName(), look.terminology)
    segment.SetTag(SOURCE_TAG, look.source)
    names = slicer.vtkSegmentationConverter
    segment.AddRepresentation(names.GetSegmentationBinaryLabelmapRepresentationName(), image)
    if not with_surface and node.GetSegmentation().ContainsRepresentation(SURFACE):
        segment.AddRepresentation(SURFACE, vtk.vtkPolyData())  # an empty one is not made anew
    node.GetSegmentation().AddSegment(segment, segment_id)
