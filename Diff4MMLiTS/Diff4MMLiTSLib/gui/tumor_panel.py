"""Changing the tumors of a result: threshold, clicks, undo, the Segment Editor; and measuring them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk

from . import logic
from .click_tool import ClickTool
from .dicom_export import export_job, has_dicom
from .job import Reply, Worker
from .job_bar import JobBar
from .lesion_panel import LesionPanel
from .refinement import Refinement
from .scene import SegmentationResult
from .texts import _
from .timer import later
from .widgets import Ui, allow, on_click, silent

LIVE_MS = 60
"""Between a move of the slider and new tumors: several moves become one update."""
SETTLED_MS = 500
"""After this long without a move of a slider that nobody holds: one undo step, and the lesions are measured."""


class TumorPanel:
    """The tools that work on the tumors of the last result.

    Args:
        ui: The widgets of the module.
        bar: Runs the requests to the worker.
    """

    def __init__(self, ui: Ui, bar: JobBar) -> None:
        self.ui = ui
        self.bar = bar
        self.lesions = LesionPanel(ui, bar)
        self.result: SegmentationResult | None = None
        self.refinement: Refinement | None = None
        self._model = Path()
        self._device = ""
        self._worker: Worker | None = None
        self._edits: list[tuple[Any, int]] = []  # Any: MRML is not typed
        self._tool = ClickTool(self._click, self._stop_clicking)
        self._live = later(LIVE_MS, lambda: self._apply_threshold(is_final=False))
        self._settled = later(SETTLED_MS, self._settle)
        self._measure_soon = later(SETTLED_MS, self.measure)
        ui.thresholdSlider.valueChanged.connect(self._threshold_moved)
        ui.addTumorButton.toggled.connect(lambda is_on: self._aim(ui.addTumorButton, is_on))
        ui.removeTumorButton.toggled.connect(lambda is_on: self._aim(ui.removeTumorButton, is_on))
        on_click(ui.undoButton, lambda: self._step(Refinement.undo))
        on_click(ui.redoButton, lambda: self._step(Refinement.redo))
        on_click(ui.editorButton, self._open_editor)
        on_click(ui.saveDicomButton, self._save_dicom)

    def show(self, result: SegmentationResult, model: Path, device: str) -> None:
        """Work on a new result; its model answers the clicks."""
        self.close()
        self.result = result
        self._model, self._device = model, device
        self._worker = logic.warm_worker(model, device=device)
        self.refinement = Refinement(result, self._worker)
        segmentation = result.node.GetSegmentation()
        self._edits = [(segmentation, segmentation.AddObserver(event, self._edited)) for event in _edit_events()]
        self._show_threshold()
        self.measure()

    def use_device(self, device: str) -> None:
        """Let another device answer the clicks, from the next one on."""
        if self._worker is not None and self.refinement is not None and device != self._device:
            self._worker.close()
            self._device = device
            self._worker = self.refinement.worker = logic.warm_worker(self._model, device=device)

    def refresh(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        none = "" if self.refinement else _("Segment a study first.")
        reason = none or self.bar.busy
        for button in (self.ui.addTumorButton, self.ui.removeTumorButton, self.ui.editorButton):
            allow(button, reason)
        blind = "" if self.result is None or self.result.has_probability else _("This result has no probability.")
        allow(self.ui.thresholdSlider, reason or blind)
        allow(self.ui.saveDicomButton, reason or ("" if self.lesions.lesions else _("There is no lesion to save.")))
        refinement = self.refinement
        nothing = _("There is no change to take back.")
        allow(self.ui.undoButton, reason or ("" if refinement and refinement.can_undo else nothing))
        nothing = _("No change was taken back.")
        allow(self.ui.redoButton, reason or ("" if refinement and refinement.can_redo else nothing))

    def measure(self) -> None:
        """Measure the tumors as they are now, edits included."""
        self._measure_soon.stop()
        if self.result is not None and slicer.mrmlScene.IsNodePresent(self.result.node):
            self.lesions.measure(self.result.node, self.result.study)
        else:
            self.lesions.clear()
        self.refresh()

    def close(self) -> None:
        """End the tools; the segmentation stays as it is."""
        if self._settled.active and self.result is not None and slicer.mrmlScene.IsNodePresent(self.result.node):
            self._apply_threshold(is_final=True)  # in the middle of a drag tumors have no surface
        for timer in (self._live, self._settled, self._measure_soon):
            timer.stop()
        self._stop_clicking()
        self._tool.stop()
        if self.refinement is not None:
            self.refinement.close()
        for segmentation, tag in self._edits:
            segmentation.RemoveObserver(tag)
        if self._worker is not None:
            self._worker.close()
        self.result, self.refinement, self._worker, self._edits = None, None, None, []
        self.lesions.clear()
        self.refresh()

    def _threshold_moved(self, _value: float) -> None:
        if self.refinement is not None and not _same(self.ui.thresholdSlider.value, self.refinement.threshold):
            if not self._live.active:  # at most one update in LIVE_MS, and none is put off by the next move
                self._live.start()
            self._settled.start()

    def _settle(self) -> None:
        if qt.QApplication.mouseButtons() == qt.Qt.NoButton:
            self._apply_threshold(is_final=True)
        else:  # in the middle of a drag; the mouse may rest there, or the computer be slow
            self._settled.start()

    def _apply_threshold(self, *, is_final: bool) -> None:
        if self.refinement is not None:
            self.refinement.set_threshold(self.ui.thresholdSlider.value, is_final=is_final)
            if is_final:
                self.measure()

    def _show_threshold(self) -> None:
        if self.refinement is not None:
            with silent(self.ui.thresholdSlider):
                self.ui.thresholdSlider.value = self.refinement.threshold

    def _aim(self, button: Ui, is_on: bool) -> None:
        """Begin or end to wait for clicks; only one of the two buttons is down."""
        other = self.ui.removeTumorButton if button is self.ui.addTumorButton else self.ui.addTumorButton
        if not is_on:
            if not other.checked:
                self._tool.stop()
            return
        other.checked = False
        if self._worker is not None:
            self._worker.start()
        is_add = button is self.ui.addTumorButton
        self._tool.start(positive=is_add)
        false = _("Click into what is no tumor, in a slice view.")
        self.bar.say(_("Click into a missed tumor, in a slice view.") if is_add else false)

    def _stop_clicking(self) -> None:
        self.ui.addTumorButton.checked = False
        self.ui.removeTumorButton.checked = False

    def _click(self, point_ras_mm: tuple[float, float, float], is_positive: bool) -> None:
        if self.refinement is None or self.bar.busy:
            self._release()
            return
        refinement, title = self.refinement, _("Add tumor") if is_positive else _("Remove tumor")

        def start() -> Reply:
            return refinement.click(point_ras_mm, positive=is_positive)

        self.bar.run(start, title, lambda _node: self._clicked(), on_end=self._release)

    def _clicked(self) -> None:
        self.measure()
        for button in (self.ui.addTumorButton, self.ui.removeTumorButton):
            if button.checked:  # the next click
                self._tool.start(positive=button is self.ui.addTumorButton)

    def _release(self) -> None:
        """Let the buttons up, unless the next click is waited for."""
        if not self._tool.is_waiting:
            self._stop_clicking()

    def _step(self, step: Callable[[Refinement], None]) -> None:
        if self.refinement is not None:
            step(self.refinement)
            self._show_threshold()
            self.measure()

    def _edited(self, _node: vtk.vtkObject, _event: str) -> None:
        """Measure again, once no more changes come (a brush makes many, a drag of the slider measures at its end)."""
        if not self._settled.active:
            self._measure_soon.start()

    def _open_editor(self) -> None:
        if self.result is None:
            return
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.util.getModuleWidget("SegmentEditor").editor
        editor.setSegmentationNode(self.result.node)
        editor.setSourceVolumeNode(self.result.study.reference)

    def _save_dicom(self) -> None:
        """Write a DICOM SEG file; of a volume without DICOM files, ask where they are."""
        result = self.result
        if result is None:
            return
        button, folder = self.ui.saveDicomButton, ""
        if not has_dicom(result.study.reference):
            question = _("Folder with the DICOM files of {name}").format(name=result.study.reference.GetName())
            folder = qt.QFileDialog.getExistingDirectory(button, question)
            if not folder:
                return
        kinds = _("DICOM files (*.dcm)")
        chosen = qt.QFileDialog.getSaveFileName(button, _("Save as DICOM SEG"), "tumors.dcm", kinds)
        if chosen:
            out, dicom = Path(chosen).with_suffix(".dcm"), Path(folder) if folder else None
            self.bar.run(lambda: export_job(result, out, dicom), _("Save as DICOM SEG"), lambda _path: None)


def _edit_events() -> tuple[int, ...]:
    kinds = slicer.vtkSegmentation
    return kinds.SourceRepresentationModified, kinds.SegmentAdded, kinds.SegmentRemoved


def _same(one: float, other: float) -> bool:
    return abs(one - other) < 1e-6
