"""What the slice views show: one phase, two phases together, the place of a lesion."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from .roles import ROLE_ATTRIBUTE
from .scene import ALIGNED_ROLE
from .texts import _

FIELD_VOXELS = 24
"""Edge of a field of the checkerboard; 15-20 mm in a usual abdominal CT, so that a vessel crosses several."""
CHECKERBOARD_ATTRIBUTE = "Diff4MMLiTS.Checkerboard"
REVIEW_VIEW = "Review-"
"""How the names of the views of a review begin; they show pairs and nothing else."""

Node = Any
"""A node or a part of the application; Any: MRML and Qt are not typed."""


class Outlines:
    """Shows segmentations without their fill while it would hide what is compared, and gives the fill back."""

    def __init__(self) -> None:
        self._filled: list[Node] = []

    def begin(self) -> None:
        """Take the fill of all segmentations away."""
        for display in slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode"):
            if display.GetVisibility2DFill():
                display.SetVisibility2DFill(False)
                self._filled.append(display)

    def end(self) -> None:
        """Give it back to those that are still there; harmless when nothing was taken."""
        for display in filter(slicer.mrmlScene.IsNodePresent, self._filled):
            display.SetVisibility2DFill(True)
        self._filled = []


def layout_manager() -> Node | None:
    """Return what arranges the views; None in Slicer without its window."""
    application = getattr(slicer, "app", None)
    return getattr(application, "layoutManager", lambda: None)()


def show_volume(volume: slicer.vtkMRMLScalarVolumeNode, *, fit: bool = False) -> None:
    """Show one volume in all slice views.

    Args:
        volume: The volume.
        fit: Whether the views move and zoom to it; without, they stay where the user left them.
    """
    for layers in _own("vtkMRMLSliceCompositeNode"):
        layers.SetBackgroundVolumeID(volume.GetID())
        layers.SetForegroundVolumeID(None)
    manager = layout_manager()
    if fit and manager is not None:
        for name in manager.sliceViewNames():
            if not name.startswith(REVIEW_VIEW):
                manager.sliceWidget(name).sliceLogic().FitSliceToBackground()


def show_pair(reference: slicer.vtkMRMLScalarVolumeNode, other: slicer.vtkMRMLScalarVolumeNode, opacity: float) -> None:
    """Show a volume over another one; ``opacity`` (0 to 1) is that of the upper one."""
    for layers in _own("vtkMRMLSliceCompositeNode"):
        layers.SetBackgroundVolumeID(reference.GetID())
        layers.SetForegroundVolumeID(other.GetID())
        layers.SetForegroundOpacity(opacity)


def set_opacity(opacity: float) -> None:
    """Change how strongly the upper volume covers the lower one, 0 to 1."""
    for layers in _own("vtkMRMLSliceCompositeNode"):
        layers.SetForegroundOpacity(opacity)


def hide(node: Node) -> None:
    """Hide a segmentation in all views."""
    if node.GetDisplayNode() is not None:
        node.GetDisplayNode().SetVisibility(False)


def jump_to(point_ras_mm: tuple[float, float, float]) -> None:
    """Move all slice views to a point of the world."""
    for node in _own("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*point_ras_mm)


def mixed(first: NDArray[np.generic], second: NDArray[np.generic], field: int = FIELD_VOXELS) -> NDArray[np.generic]:
    """Return fields of one array and the other, like a chess board.

    Args:
        first: Shape (Z, Y, X).
        second: Same shape.
        field: Edge of a field in voxels, in each axis.
    """
    parity = sum(np.ix_(*(np.arange(size) // field for size in first.shape))) % 2
    return np.where(parity == 0, first, second)


def show_checkerboard(
    reference: slicer.vtkMRMLScalarVolumeNode, other: slicer.vtkMRMLScalarVolumeNode
) -> slicer.vtkMRMLScalarVolumeNode:
    """Show fields of two volumes on one grid; the node that holds them is made anew."""
    remove_checkerboard()
    board = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, reference, _("Checkerboard"))
    board.SetAttribute(CHECKERBOARD_ATTRIBUTE, "1")
    board.RemoveAttribute(ROLE_ATTRIBUTE)
    board.SetNodeReferenceID(ALIGNED_ROLE, None)
    board.SetHideFromEditors(True)
    board.SaveWithSceneOff()
    fields = mixed(slicer.util.arrayFromVolume(reference), slicer.util.arrayFromVolume(other))
    slicer.util.updateVolumeFromArray(board, fields)
    show_volume(board)
    return board


def remove_checkerboard() -> None:
    """Remove the node that ``show_checkerboard`` made, if there is one."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetAttribute(CHECKERBOARD_ATTRIBUTE):
            slicer.mrmlScene.RemoveNode(node)


def _own(kind: str) -> list[Node]:
    """Return the nodes of the user's slice views, without those of a review."""
    return [
        node for node in slicer.util.getNodesByClass(kind) if not (node.GetLayoutName() or "").startswith(REVIEW_VIEW)
    ]
