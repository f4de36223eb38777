"""The tab that puts synthetic tumors into the study on top; the pairs are listed as they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer

from ..core.enhancement import TumorFamily
from ..core.errors import InputError
from ..core.study import Verdict, check_study_id
from .job_bar import JobBar
from .models import InstalledModel, list_models
from .parameters import Parameters, TumorState
from .scene import SceneStudy, SegmentChoice
from .segments import new_segmentation
from .settings import read_setting, write_setting
from .study_panel import StudyPanel
from .synthesis import PAIRS_FOLDER, SynthesisWish, check_study, made_pairs, synthesis_job, tumor_choices
from .texts import _
from .timer import later
from .widgets import Ui, allow, fill_choice, fill_table, on_click, on_path, prepare_table, silent

LOOK_MS = 1000
"""Between two looks for pairs that came meanwhile; a pair takes seconds on a GPU."""
PAIRS_SETTING = "PairsFolder"


class SynthesizePanel:
    """Makes synthetic pairs of the study of the panel on top.

    Args:
        ui: The widgets of the module.
        bar: Runs its jobs.
        study_panel: Holds the study.
        on_review: Called with the folder of the pairs that the user wants to review.
    """

    def __init__(self, ui: Ui, bar: JobBar, study_panel: StudyPanel, *, on_review: Callable[[Path], None]) -> None:
        self.ui = ui
        self.bar = bar
        self._study_panel = study_panel
        self._parameters: Parameters | None = None
        self._models: tuple[InstalledModel, ...] = ()
        self._made_by = ("", Path())
        self._soon = later(0, self.refresh)  # once the parameter node has taken the choice
        self._look = qt.QTimer()
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self.show_made)
        prepare_table(ui.madePairTable, [_("Pair"), _("Its own check")], stretched=0)
        fill_choice(ui.familySelector, [_("Any"), *map(_family_name, TumorFamily)], 0)
        ui.pairsFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        with silent(ui.pairsFolderEdit), silent(ui.studyNameEdit):
            ui.pairsFolderEdit.currentPath = read_setting(PAIRS_SETTING)
            ui.studyNameEdit.text = "study"
        self._connect(on_review)
        self.offer_models()

    def set_parameters(self, parameters: Parameters | None) -> None:
        """Take the parameter node of the scene, or none while the scene is closed."""
        self._parameters = parameters
        if parameters is None:
            self.close()

    def offer_models(self) -> None:
        """Read again which models this computer has."""
        self._models = list_models("synthesizer")
        fill_choice(self.ui.synthesizerSelector, [model.name for model in self._models], 0)

    def refresh(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        state = self._parameters.tumorState if self._parameters else TumorState.UNKNOWN
        other = _("Only for a study whose tumors are annotated.")
        allow(self.ui.tumorsSelector, "" if state is TumorState.ANNOTATED else other)
        painted = _("The painted mask says it.") if self._mask() else ""
        for widget in (self.ui.tumorCountBox, self.ui.smallestBox, self.ui.largestBox):
            allow(widget, painted)
        obstacle = self._obstacle()
        allow(self.ui.synthesizeButton, self.bar.busy or obstacle)
        self.ui.synthesisMessage.text = "" if self.bar.busy else obstacle
        self.ui.synthesisMessage.visible = bool(self.ui.synthesisMessage.text)
        self.show_made()

    def synthesize(self) -> None:
        """Make the pairs in the background; they are listed as they come."""
        try:
            study, wish, mask = self._study(), self._wish(), self._mask()
        except InputError as error:
            self.ui.synthesisMessage.text = str(error)
            self.ui.synthesisMessage.visible = True
            return
        write_setting(PAIRS_SETTING, str(wish.out))
        self._made_by = (study.study_id, wish.out / PAIRS_FOLDER)
        self.bar.run(lambda: synthesis_job(study, wish, mask), _("Synthesize"), lambda _pairs: self.show_made())
        self._look.start()

    def show_made(self) -> None:
        """List the pairs that are there."""
        name, folder = self._made_by
        made = made_pairs(folder, name) if name else ()
        rows = [[pair.name, _verdict_name(pair.check.verdict)] for pair in made]
        tips = ["\n".join(filter(None, [pair.check.words(), *pair.check.reasons])) or pair.name for pair in made]
        fill_table(self.ui.madePairTable, rows, tips)
        allow(self.ui.reviewPairsButton, "" if made else _("There is no pair yet."))
        if not self.bar.busy:
            self._look.stop()

    def close(self) -> None:
        """End what runs for this panel."""
        self._soon.stop()
        self._look.stop()

    def _connect(self, on_review: Callable[[Path], None]) -> None:
        ui = self.ui
        on_click(ui.synthesizeButton, self.synthesize)
        on_click(ui.paintMaskButton, self._paint)
        on_click(ui.reviewPairsButton, lambda: on_review(self._made_by[1]))
        on_path(ui.pairsFolderEdit, self._soon.start)
        for signal in (
            ui.tumorStateSelector.currentIndexChanged,
            ui.tumorsSelector.currentNodeChanged,
            ui.maskSelector.currentNodeChanged,
            ui.studyNameEdit.textChanged,
            ui.smallestBox.valueChanged,
            ui.largestBox.valueChanged,
        ):
            signal.connect(lambda _value: self._soon.start())

    def _obstacle(self) -> str:
        """Return why no pair can be made now; empty when it can."""
        try:
            if not self._models:
                return _("There is no model for synthesis; train one in the Train tab, or import one in the Setup tab.")
            check_study(self._study())
            self._wish()
        except InputError as error:
            return str(error)
        return ""

    def _study(self) -> SceneStudy:
        """Return the study with what the user knows about its tumors.

        Raises:
            InputError: No volume has a phase, or the name cannot be one.
        """
        state = self._parameters.tumorState if self._parameters else TumorState.UNKNOWN
        annotated = self._parameters.tumors if self._parameters else None
        is_annotated = state is TumorState.ANNOTATED and annotated is not None
        return replace(
            self._study_panel.study(),
            study_id=check_study_id(self.ui.studyNameEdit.text.strip()),
            tumor=tumor_choices(annotated) if is_annotated else (),
            is_tumor_free=state is TumorState.FREE,
        )

    def _wish(self) -> SynthesisWish:
        """Return what the widgets say.

        Raises:
            InputError: There is no folder, or the diameters are no range.
        """
        ui, folder = self.ui, self.ui.pairsFolderEdit.currentPath.strip()
        if not folder:
            raise InputError(_("No folder for the pairs is chosen"), expected=_("a folder"))
        family = ui.familySelector.currentIndex
        low, high = float(ui.smallestBox.value), float(ui.largestBox.value)
        return SynthesisWish(
            model=self._models[max(0, ui.synthesizerSelector.currentIndex)].folder,
            out=Path(folder),
            pairs=int(ui.pairCountBox.value),
            seed=int(ui.seedBox.value),
            tumors=int(ui.tumorCountBox.value),
            diameter_mm=(low, high) if low or high else None,
            family=list(TumorFamily)[family - 1] if family > 0 else None,
            device=self._parameters.device if self._parameters else "auto",
        )

    def _mask(self) -> tuple[SegmentChoice, ...]:
        painted = self._parameters.paintedMask if self._parameters else None
        return tumor_choices(painted) if painted is not None else ()

    def _paint(self) -> None:
        """Give the user an empty segmentation on the study's grid, in the Segment Editor."""
        try:
            reference = self._study_panel.study().reference
        except InputError as error:
            self.ui.synthesisMessage.text = str(error)
            return
        node = (self._parameters.paintedMask if self._parameters else None) or _new_mask(reference)
        if self._parameters is not None:
            self._parameters.paintedMask = node
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.util.getModuleWidget("SegmentEditor").editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(reference)


def _new_mask(reference: Any) -> Any:  # noqa: ANN401 (MRML is not typed)
    node = new_segmentation(_("Tumor to synthesize"), reference)
    node.GetSegmentation().AddEmptySegment("Tumor", _("Tumor to synthesize"))
    return node


def _verdict_name(verdict: str) -> str:
    names = {Verdict.PASS: _("Passed"), Verdict.REVIEW: _("Look closely"), Verdict.REJECT: _("Rejected")}
    return names[Verdict(verdict)] if verdict else ""


def _family_name(family: TumorFamily) -> str:
    names = {
        TumorFamily.HCC: _("Bright in AP, washed out later (as HCC)"),
        TumorFamily.HYPOVASCULAR: _("Dark in all phases (as metastases)"),
        TumorFamily.CYST: _("Like water in all phases (as cysts)"),
        TumorFamily.HEMANGIOMA: _("Filled from AP to delayed (as hemangiomas)"),
    }
    return names[family]
