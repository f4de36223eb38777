"""The module's panel: the study on top, one panel object per tab, one job at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from .job_bar import JobBar
from .parameters import Parameters
from .process import kill_all
from .review_panel import ReviewPanel
from .segment_panel import SegmentPanel
from .setup_panel import SetupPanel
from .sources import SAMPLE_MODEL
from .study_panel import StudyPanel
from .synthesize_panel import SynthesizePanel
from .timer import later
from .train_panel import TrainPanel
from .widgets import Ui, on_click

REFRESH_MS = 50
"""Between a change of the scene and the new table: loading a study makes many changes at once."""
SHOWN_CLASSES = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")


class ModuleGui:
    """Everything below the module's title; built once, told when the scene comes and goes.

    Args:
        top: The widget that was loaded from the .ui file.
    """

    def __init__(self, top: Ui) -> None:
        self.top = top
        self.ui = slicer.util.childWidgetVariables(top)
        self._parameters: Any = None  # Any: Slicer's decorator gives Parameters methods that mypy does not see
        self._gui_tag: int | None = None
        self._is_closed = False
        self._refresh_soon = later(REFRESH_MS, self.refresh)
        self.bar = JobBar(self.ui, self.refresh)
        self.study = StudyPanel(self.ui, self.bar, on_change=self.refresh, liver_model=self._liver_model)
        self.segment = SegmentPanel(self.ui, self.bar, self.study)
        self.review = ReviewPanel(self.ui, self.bar)
        self.synthesize = SynthesizePanel(self.ui, self.bar, self.study, on_review=self._review)
        self.train = TrainPanel(self.ui, self.bar, on_models=self._models_came)
        self.setup = SetupPanel(
            self.ui, self.bar, on_models=self._models_changed, on_devices=self.segment.offer_devices
        )
        self.panels = (self.study, self.segment, self.synthesize, self.review, self.train, self.setup)
        on_click(self.ui.sampleButton, self.try_sample)
        slicer.app.aboutToQuit.connect(kill_all)

    def bind(self, parameters: Parameters) -> None:
        """Bind the widgets to the parameter node of the scene, because the module is shown."""
        self.unbind()
        self._parameters = parameters
        self._gui_tag = self._parameters.connectGui(self.ui)
        for panel in self.panels:
            panel.set_parameters(parameters)
        self.setup.look()
        self.segment.tumors.measure()
        self.refresh()

    def unbind(self) -> None:
        """Let the widgets go: another module is shown, and jobs go on."""
        if self._parameters is not None and self._gui_tag is not None:
            self._parameters.disconnectGui(self._gui_tag)
        self._gui_tag = None

    def scene_closes(self) -> None:
        """Forget the scene and end what works on it."""
        self._refresh_soon.stop()
        self.bar.close()
        self.unbind()
        self._parameters = None
        for panel in self.panels:
            panel.set_parameters(None)

    def node_came_or_went(self, node: slicer.vtkMRMLNode) -> None:
        """Follow the nodes that the panels show; most others are parts of them, or belong to other modules."""
        if self._parameters is not None and node.GetClassName() in SHOWN_CLASSES and not node.GetHideFromEditors():
            self._refresh_soon.start()

    def refresh(self) -> None:
        """Let every panel show what is and what can be done."""
        if self._parameters is not None:
            for panel in self.panels:
                panel.refresh()

    def try_sample(self) -> None:
        """Make the sample study; with a model for it, go on to its segmented liver."""
        self.study.folders.load_sample(self._segment_sample)

    def close(self) -> None:
        """End everything: the module is reloaded, or the application ends."""
        if self._is_closed:
            return
        self._is_closed = True
        self.scene_closes()
        for panel in self.panels:
            panel.close()
        slicer.app.aboutToQuit.disconnect(kill_all)

    def _segment_sample(self) -> None:
        if self.segment.choose_model(SAMPLE_MODEL):
            self.ui.tabs.setCurrentWidget(self.ui.segmentTab)
            self.study.register("deformable", then=self.segment.apply)

    def _liver_model(self) -> Path | None:
        return self.segment.model_folder()

    def _review(self, pairs: Path) -> None:
        self.ui.tabs.setCurrentWidget(self.ui.reviewTab)
        if self.ui.reviewerEdit.text.strip():
            self.review.open(pairs)

    def _models_changed(self) -> None:
        self.segment.offer_models()
        self.synthesize.offer_models()
        self.refresh()

    def _models_came(self) -> None:
        """A training made models: the tabs and the table of models show them."""
        self.setup.models.show()
        self._models_changed()
