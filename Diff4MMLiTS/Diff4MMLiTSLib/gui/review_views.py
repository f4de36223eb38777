"""Slice views for a review: one column per phase, the source above and the synthetic one below, all moving together."""

from __future__ import annotations

import slicer
import vtk

from ..core.phases import Phase, in_order
from .review_scene import ShownPair
from .texts import _
from .views import REVIEW_VIEW, Node, layout_manager

LAYOUT_ID = 44120
"""Of the layout with all four phases; the module's layouts follow it, Slicer's own are below 1000."""
VIEW_GROUP = 4412
"""Views of one group move together; Slicer's own are in group 0."""
SOURCE, SYNTHETIC = "source", "synthetic"
COLORS = {SOURCE: "#6EB04B", SYNTHETIC: "#F0A030"}
MARK_COLOR, MARK_SIZE = (1.0, 0.65, 0.1), 16
MARK_PLACE = (0.5, 0.96)
"""Where the word stands, as part of the view: in the middle of the top, which Slicer's own texts leave free."""


FIELD_MM = 200.0
"""Shorter side of what a view shows at first: the liver, in which a tumor of 10 mm can be judged."""


class ReviewViews:
    """Shows pairs in a layout of its own, and gives the former layout back.

    Without a layout manager (Slicer without its window) nothing is shown.
    """

    def __init__(self) -> None:
        self._before: int | None = None
        self._phases: tuple[Phase, ...] = ()
        self._marks: list[tuple[Node, Node]] = []

    def show(self, pair: ShownPair) -> None:
        """Show a pair; the zoom stays while the phases stay, the views move to its largest tumor."""
        manager = layout_manager()
        if manager is None:
            return
        phases = in_order(pair.synthetic)
        is_new = phases != self._phases
        if is_new:
            self._lay_out(manager, phases)
        for row, volumes in ((SOURCE, pair.source), (SYNTHETIC, pair.synthetic)):
            for phase in phases:
                self._fill(manager, view_name(row, phase), volumes.get(phase), is_new=is_new)
        if pair.center_ras_mm is not None:
            for node in _slice_nodes(phases):
                node.JumpSliceByCentering(*pair.center_ras_mm)

    def close(self) -> None:
        """Give the layout of before back and take the marks away; harmless when nothing was shown."""
        manager = layout_manager()
        for renderer, actor in self._marks:
            renderer.RemoveActor2D(actor)
        if manager is not None and self._before is not None:
            manager.setLayout(self._before)
        self._before, self._phases, self._marks = None, (), []

    def _lay_out(self, manager: Node, phases: tuple[Phase, ...]) -> None:
        if self._before is None:
            self._before = manager.layout
        node = manager.layoutLogic().GetLayoutNode()
        number = LAYOUT_ID + sum(1 << list(Phase).index(phase) for phase in phases)
        if not node.IsLayoutDescription(number):
            node.AddLayoutDescription(number, layout_of(phases))
        manager.setLayout(number)
        for phase in phases:  # bars as wide as Slicer's own would widen the window
            manager.sliceWidget(view_name(SOURCE, phase)).sliceController().setMinimumWidth(1)
            manager.sliceWidget(view_name(SYNTHETIC, phase)).sliceController().setVisible(False)
        slicer.app.processEvents()  # the views get their size, to which the images are fitted
        self._phases = phases
        for renderer, actor in self._marks:
            renderer.RemoveActor2D(actor)
        self._marks = [
            _mark(manager.sliceWidget(view_name(row, phase)), text)
            for phase in phases
            for row, text in ((SOURCE, _("Source {phase}")), (SYNTHETIC, "SYNTHETIC {phase}"))
            for text in [text.format(phase=phase)]
        ]

    @staticmethod
    def _fill(manager: Node, name: str, volume: Node | None, *, is_new: bool) -> None:
        logic = manager.sliceWidget(name).sliceLogic()
        composite = logic.GetSliceCompositeNode()
        composite.SetLinkedControl(True)
        composite.SetHotLinkedControl(True)
        composite.SetForegroundVolumeID(None)
        composite.SetLabelVolumeID(None)
        composite.SetBackgroundVolumeID(volume.GetID() if volume is not None else None)
        if is_new and volume is not None:
            logic.FitSliceToBackground()
            _zoom(logic.GetSliceNode())


def layout_of(phases: tuple[Phase, ...]) -> str:
    """Return Slicer's description of the layout: a column per phase, source above synthetic."""
    columns = "".join(_column(phase) for phase in phases)
    return f'<layout type="horizontal" split="true">{columns}</layout>'


def view_name(row: str, phase: Phase) -> str:
    """Return the name of a slice view."""
    return f"{REVIEW_VIEW}{row}-{phase}"


def _column(phase: Phase) -> str:
    views = "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{view_name(row, phase)}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{phase[:2]}</property>'
        f'<property name="viewcolor" action="default">{COLORS[row]}</property>'
        f'<property name="viewgroup" action="default">{VIEW_GROUP}</property>'
        "</view></item>"
        for row in (SOURCE, SYNTHETIC)
    )
    return f'<item><layout type="vertical" split="true">{views}</layout></item>'


def _slice_nodes(phases: tuple[Phase, ...]) -> list[Node]:
    names = {view_name(row, phase) for row in (SOURCE, SYNTHETIC) for phase in phases}
    return [node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode") if node.GetLayoutName() in names]


def _zoom(node: Node) -> None:
    """Show ``FIELD_MM`` of the volume at most."""
    width, height, depth = node.GetFieldOfView()
    scale = min(1.0, FIELD_MM / max(1e-6, min(width, height)))
    node.SetFieldOfView(width * scale, height * scale, depth)


def _mark(widget: Node, text: str) -> tuple[Node, Node]:
    """Write into a view with a text of our own: Slicer's corner texts are rewritten by Slicer."""
    actor = vtk.vtkTextActor()
    actor.SetInput(text)
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    actor.SetPosition(*MARK_PLACE)
    style = actor.GetTextProperty()
    style.SetJustificationToCentered()
    style.SetVerticalJustificationToTop()
    style.SetColor(*MARK_COLOR)
    style.SetFontSize(MARK_SIZE)
    style.BoldOn()
    renderer = widget.sliceView().renderWindow().GetRenderers().GetFirstRenderer()
    renderer.AddActor2D(actor)
    return renderer, actor
