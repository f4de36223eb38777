"""What the user chose, kept in the scene's parameter node: saved with the scene and restored with it."""

from __future__ import annotations

import enum
from typing import Annotated

from slicer import vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from .texts import _


class Quality(enum.Enum):
    """How thoroughly the network looks."""

    NORMAL = "normal"
    FAST = "fast"

    def label(self) -> str:
        """Return the name that the user reads."""
        return _("Normal") if self is Quality.NORMAL else _("Fast")


class CompareMode(enum.Enum):
    """How two phases are shown together."""

    OVERLAY = "overlay"
    CHECKERBOARD = "checkerboard"
    FLICKER = "flicker"

    def label(self) -> str:
        """Return the name that the user reads."""
        names = {
            CompareMode.OVERLAY: _("Overlay"),
            CompareMode.CHECKERBOARD: _("Checkerboard"),
            CompareMode.FLICKER: _("Flicker"),
        }
        return names[self]


class TumorState(enum.Enum):
    """What the user knows about the tumors of a study that gets synthetic ones."""

    UNKNOWN = "unknown"
    FREE = "free"
    ANNOTATED = "annotated"

    def label(self) -> str:
        """Return the name that the user reads."""
        names = {
            TumorState.UNKNOWN: _("Not stated yet"),
            TumorState.FREE: _("None: this study is free of tumor"),
            TumorState.ANNOTATED: _("All are annotated: remove them first"),
        }
        return names[self]


@parameterNodeWrapper
class Parameters:
    """The choices of the module; the phases of the study are attributes of their volumes.

    liver: Segmentation that holds the liver; none when the model shall find it.
    model: Name of the model.
    device: ``auto``, ``cpu`` or ``cuda:N``.
    quality: How thoroughly the network looks.
    compareMode: How two phases are shown together.
    compareOpacity: How strongly the second phase covers the reference phase.
    tumorState: What the user knows about the tumors of the study that gets synthetic ones.
    tumors: Segmentation with its annotated tumors.
    paintedMask: Segmentation with the shape of the new tumors; none when it is drawn at random.
    """

    liver: vtkMRMLSegmentationNode
    model: str = ""
    device: str = "auto"
    quality: Quality = Quality.NORMAL
    compareMode: CompareMode = CompareMode.OVERLAY  # noqa: N815 (Slicer's parameters are named so)
    compareOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5  # noqa: N815
    tumorState: TumorState = TumorState.UNKNOWN  # noqa: N815
    tumors: vtkMRMLSegmentationNode
    paintedMask: vtkMRMLSegmentationNode  # noqa: N815
