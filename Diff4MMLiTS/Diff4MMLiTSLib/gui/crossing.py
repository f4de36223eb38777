"""Files between MRML (RAS) and the engine (LPS): MRML's own readers and writers do the crossing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk

from ..core.errors import InputError
from ..core.intensity import Window
from .texts import _

SYNTHETIC_ATTRIBUTE = "SYNTHETIC"
"""Attribute of a volume with synthetic tumors; whatever is made from it inherits the mark."""
LIVER_WINDOW = Window(-30.0, 190.0)
"""Liver at 50 to 130 HU and its tumors with contrast: narrower than the abdomen's usual window."""


def write_image(node: slicer.vtkMRMLVolumeNode, path: Path) -> None:
    """Write a volume that has no parent transform; the node keeps the file it was loaded from.

    Raises:
        InputError: The file could not be written.
    """
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()  # of its own: exportNode would remember its arguments
    storage.SetFileName(str(path))
    # a mask shrinks to nothing at once; a CT would take seconds, in which the window could not be used
    storage.SetUseCompression(node.GetImageData().GetScalarType() == vtk.VTK_UNSIGNED_CHAR)
    if not storage.WriteData(node) or not path.is_file():
        raise InputError(
            _("'{path}' could not be written").format(path=path.name),
            expected=_("a volume with voxels, and space in the folder for temporary files"),
            remedy=_("Free space, or choose another folder for temporary files in the application's settings"),
        )


def load_volume(path: Path, name: str) -> Any:  # noqa: ANN401 (MRML is not typed)
    """Load a CT as a scalar volume of the scene, as if it had no file: files of the engine do not live long.

    It is shown in the window of the liver, in which tumors can be seen.

    Raises:
        InputError: The file cannot be read.
    """
    volume = _without_file(slicer.modules.volumes.logic().AddArchetypeVolume(str(path), name, 0), path)
    display = volume.GetDisplayNode()
    if display is not None:
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(LIVER_WINDOW.low_hu, LIVER_WINDOW.high_hu)
    return volume


def load_transform(path: Path, name: str) -> Any:  # noqa: ANN401 (MRML is not typed)
    """Load an ITK transform; as parent of the moving volume it aligns it.

    Raises:
        InputError: The file cannot be read.
    """
    node = slicer.modules.transforms.logic().AddTransform(str(path), slicer.mrmlScene)
    result = _without_file(node, path)
    result.SetName(name)
    return result


def read_image(path: Path) -> Any:  # noqa: ANN401 (MRML is not typed)
    """Return an image file as a volume node that is in no scene.

    Raises:
        InputError: The file cannot be read.
    """
    node = slicer.vtkMRMLScalarVolumeNode()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if not path.is_file() or not storage.ReadData(node) or node.GetImageData() is None:
        raise _unreadable(path)
    return node


def to_lps(point_ras_mm: tuple[float, float, float]) -> list[float]:
    """Return a point for the engine's JSON: the one crossing that has no file format."""
    right, anterior, superior = point_ras_mm
    return [-right, -anterior, superior]


def _without_file(node: Any, path: Path) -> Any:  # noqa: ANN401 (MRML is not typed)
    """Take the storage away: with it, saving the scene would refer to a temporary file and lose the data."""
    if node is None:
        raise _unreadable(path)
    storage = node.GetStorageNode()
    if storage is not None:
        slicer.mrmlScene.RemoveNode(storage)
    return node


def _unreadable(path: Path) -> InputError:
    return InputError(
        _("'{path}' cannot be loaded into the scene").format(path=path.name),
        expected=_("a file that the engine wrote"),
        remedy=_("Run it again"),
    )
