"""One click into a slice view, as a point of the world."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer

from .texts import _

SELECTION, INTERACTION = "vtkMRMLSelectionNodeSingleton", "vtkMRMLInteractionNodeSingleton"
POINT_CLASS = "vtkMRMLMarkupsFiducialNode"
ADD_COLOR, REMOVE_COLOR = (0.2, 0.8, 0.2), (0.9, 0.2, 0.2)


class ClickTool:
    """Lets the user place points with Slicer's own place mode; a point is handed on and leaves the scene.

    Args:
        on_point: Called with each point (RAS, mm) and whether it is a positive one.
        on_stop: Called when the user left the place mode.
    """

    def __init__(
        self, on_point: Callable[[tuple[float, float, float], bool], None], on_stop: Callable[[], None]
    ) -> None:
        self._on_point = on_point
        self._on_stop = on_stop
        self._node: slicer.vtkMRMLMarkupsFiducialNode | None = None
        self._interaction: slicer.vtkMRMLInteractionNode | None = None
        self._interaction_tag = 0
        self._is_positive = True

    @property
    def is_waiting(self) -> bool:
        """Whether a click is waited for."""
        return self._interaction is not None

    def start(self, *, positive: bool) -> None:
        """Wait for a click."""
        self.stop()
        self._is_positive = positive
        self._node = slicer.mrmlScene.AddNewNodeByClass(
            POINT_CLASS, _("Tumor here") if positive else _("No tumor here")
        )
        self._node.SetHideFromEditors(True)
        self._node.SaveWithSceneOff()
        self._node.SetControlPointLabelFormat("%N")
        self._node.CreateDefaultDisplayNodes()
        display = self._node.GetDisplayNode()
        color = ADD_COLOR if positive else REMOVE_COLOR
        display.SetSelectedColor(*color)
        display.SetActiveColor(*color)  # under the mouse
        self._node.AddObserver(slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self._placed)
        selection = slicer.mrmlScene.GetNodeByID(SELECTION)
        selection.SetReferenceActivePlaceNodeClassName(POINT_CLASS)
        selection.SetActivePlaceNodeID(self._node.GetID())
        self._interaction = slicer.mrmlScene.GetNodeByID(INTERACTION)
        self._interaction.SetPlaceModePersistence(0)
        self._interaction.SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.Place)
        self._interaction_tag = self._interaction.AddObserver(
            slicer.vtkMRMLInteractionNode.InteractionModeChangedEvent, self._mode_changed
        )

    def stop(self) -> None:
        """Wait no longer; harmless when nothing is waited for."""
        if self._interaction is not None:
            self._interaction.RemoveObserver(self._interaction_tag)
            self._interaction.SwitchToViewTransformMode()
            self._interaction = None
        if self._node is not None and slicer.mrmlScene.IsNodePresent(self._node):
            slicer.mrmlScene.RemoveNode(self._node)
        self._node = None

    def _placed(self, node: slicer.vtkMRMLMarkupsNode, _event: str) -> None:
        point = [0.0, 0.0, 0.0]
        node.GetNthControlPointPositionWorld(node.GetNumberOfControlPoints() - 1, point)
        is_positive = self._is_positive
        # Slicer still works on the point: answer once it has finished.
        qt.QTimer.singleShot(0, lambda: self._hand_on((point[0], point[1], point[2]), is_positive))

    def _hand_on(self, point_ras_mm: tuple[float, float, float], is_positive: bool) -> None:
        self.stop()
        self._on_point(point_ras_mm, is_positive)

    def _mode_changed(self, interaction: slicer.vtkMRMLInteractionNode, _event: str) -> None:
        if interaction.GetCurrentInteractionMode() != slicer.vtkMRMLInteractionNode.Place:
            qt.QTimer.singleShot(0, self._left)

    def _left(self) -> None:
        """Tell that the user left the place mode; after a click the tool is stopped already."""
        if self._interaction is not None:
            self.stop()
            self._on_stop()
