"""What the slice views show: one phase, two phases together, the place of a lesion."""

from __future__ import annotations

import numpy as np
import slicer
from numpy.typing import NDArray

from .roles import ROLE_ATTRIBUTE
from .scene import ALIGNED_ROLE
from .texts import _

FIELD_VOXELS = 24
"""Edge of a field of the checkerboard; 15-20 mm in a usual abdominal CT, so that a vessel crosses several."""
CHECKERBOARD_ATTRIBUTE = "Diff4MMLiTS.Checkerboard"


def show_volume(volume: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Show one volume in all slice views."""
    slicer.util.setSliceViewerLayers(background=volume, foreground=None)


def show_pair(reference: slicer.vtkMRMLScalarVolumeNode, other: slicer.vtkMRMLScalarVolumeNode, opacity: float) -> None:
    """Show a volume over another one; ``opacity`` (0 to 1) is that of the upper one."""
    slicer.util.setSliceViewerLayers(background=reference, foreground=other, foregroundOpacity=opacity)


def set_opacity(opacity: float) -> None:
    """Change how strongly the upper volume covers the lower one, 0 to 1."""
    slicer.util.setSliceViewerLayers(foregroundOpacity=opacity)


def jump_to(point_ras_mm: tuple[float, float, float]) -> None:
    """Move all slice views to a point of the world."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(
        slicer.mrmlScene, *point_ras_mm, slicer.vtkMRMLSliceNode.CenteredJumpSlice, -1, None
    )


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
