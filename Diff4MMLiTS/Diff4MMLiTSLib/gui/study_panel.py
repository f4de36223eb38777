"""The panel on top: which volumes make the study, which phase each one is, the liver, and their alignment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import slicer

from ..core.errors import Diff4MMLiTSError, InputError
from ..core.phase_evidence import PhaseEvidence
from ..core.phases import Phase
from ..core.study import Verdict
from . import logic, roles, views
from .aligned import partners, plain_volumes, roled_volumes
from .compare_panel import ComparePanel
from .folder_panel import FolderPanel
from .job_bar import JobBar
from .parameters import Parameters, TumorState
from .phase_table import PhaseRow, PhaseTable
from .scene import RegistrationResult, SceneStudy, SegmentChoice
from .segments import MODEL, liver_id, source_of
from .texts import _
from .timer import later
from .widgets import Ui, allow, on_click

UNREGISTERED = "none"
"""The method that keeps the phases where they are, on one grid."""


class StudyPanel:
    """The study that all tabs work on: the volumes of the scene that have a phase.

    Args:
        ui: The widgets of the module.
        bar: Runs its jobs.
        on_change: Called when the study may have changed, so that the tabs can follow.
        liver_model: Returns the folder of the model that finds the liver when nobody drew it, None when there is none.
    """

    def __init__(
        self, ui: Ui, bar: JobBar, *, on_change: Callable[[], None], liver_model: Callable[[], Path | None]
    ) -> None:
        self.ui = ui
        self.bar = bar
        self.registration: RegistrationResult | None = None
        self.compare = ComparePanel(ui)
        self.folders = FolderPanel(ui, bar, on_study=self._loaded)
        self._method = ""
        self._on_change = on_change
        self._soon = later(0, on_change)  # once the parameter node has taken the choice
        self._liver_model = liver_model
        self._parameters: Parameters | None = None
        self._evidences: dict[str, PhaseEvidence] = {}
        self._table = PhaseTable(ui.phaseTable, on_choice=self._choose, on_select=views.show_volume)
        on_click(ui.detectButton, self._detect)
        on_click(ui.registerButton, lambda: self.register("deformable"))
        on_click(ui.unregisterButton, lambda: self.register(UNREGISTERED))
        ui.liverSelector.currentNodeChanged.connect(lambda _node: self._soon.start())

    def set_parameters(self, parameters: Parameters | None) -> None:
        """Take the parameter node of the scene, or none while the scene is closed."""
        self._parameters = parameters
        self.compare.set_parameters(parameters)
        if parameters is None:
            self._soon.stop()
            self.registration = None
            self._evidences.clear()

    def study(self) -> SceneStudy:
        """Return the study as the tabs shall use it: aligned, when it was aligned.

        Raises:
            InputError: No volume has a phase, or two have the same.
        """
        return replace(logic.study_of_scene(), liver=self._liver())

    def refresh(self) -> None:
        """Show the volumes of the scene as they are now, and what can be done with them."""
        volumes = plain_volumes()
        self._propose(volumes)
        try:
            study, problem = self.study(), ""
        except InputError as error:
            study, problem = None, str(error)
        self._table.show([self._row(volume, study) for volume in volumes])
        self.compare.set_study(study)
        self._say(volumes, problem)
        reason = self.bar.busy or problem or self._no_registration(study)
        kept = self.registration is not None and self._method == UNREGISTERED
        allow(self.ui.registerButton, reason)
        allow(self.ui.unregisterButton, reason or (_("The phases are kept unregistered already.") if kept else ""))
        for button in (self.ui.openFolderButton, self.ui.sampleButton):
            allow(button, self.bar.busy)
        allow(self.ui.detectButton, self.bar.busy or ("" if volumes else _("There is no volume in the scene.")))

    def register(self, method: str, then: Callable[[], None] = lambda: None) -> None:
        """Align the phases in the background; ``none`` keeps them where they are, on one grid.

        Args:
            method: none, rigid, affine or deformable.
            then: Called when it is done.
        """
        device = self._parameters.device if self._parameters else "auto"
        study, replaced = self._as_acquired(), self._alignment_nodes()
        model = None if study.liver or method == UNREGISTERED else self._liver_model()
        title = _("Keep unregistered") if method == UNREGISTERED else _("Register")

        def show(result: RegistrationResult) -> None:
            _remove(replaced)
            self.registration, self._method = result, method
            views.show_volume(result.aligned.reference)
            then()

        self.bar.run(lambda: logic.register(study, method=method, liver_model=model, device=device), title, show)

    def close(self) -> None:
        """End what runs for this panel."""
        self.compare.close()
        self.folders.close()

    def _no_registration(self, study: SceneStudy | None) -> str:
        """Return why the study needs no registration; empty when it can be registered."""
        if study is None or len(study.phases) == 1:
            return _("A study of one phase needs no registration.")
        return _("These phases came aligned.") if study.is_aligned and not self._alignment_nodes() else ""

    def _propose(self, volumes: list[slicer.vtkMRMLScalarVolumeNode]) -> None:
        """Give new volumes the phase that their names and headers tell surely."""
        new = [volume for volume in volumes if volume.GetID() not in self._evidences]
        if not new:
            return
        found = {volume: roles.evidence_of(volume) for volume in new}
        self._evidences |= {volume.GetID(): evidence for volume, evidence in found.items()}
        self._take({v: e for v, e in found.items() if v.GetAttribute(roles.ROLE_ATTRIBUTE) is None})

    def _take(self, found: dict[slicer.vtkMRMLScalarVolumeNode, PhaseEvidence]) -> None:
        """Write the proposed phases that no other volume has."""
        taken = {roles.role_of(volume) for volume in plain_volumes() if volume not in found}
        for phase, volume in roles.proposed_phases(found).items():
            if phase not in taken:
                roles.set_role(volume, phase)

    def _detect(self) -> None:
        """Look at headers and images of all volumes, and take what they tell surely; canceled, nothing changes."""
        volumes = plain_volumes()
        with self.bar.watched(_("Find phases")) as progress:
            found = dict(zip(volumes, roles.evidence_with_images(volumes, progress), strict=True))
            for volume in volumes:
                volume.RemoveAttribute(roles.ROLE_ATTRIBUTE)
            self._evidences |= {volume.GetID(): evidence for volume, evidence in found.items()}
            self._take(found)
        self._on_change()

    def _choose(self, volume: slicer.vtkMRMLScalarVolumeNode, phase: Phase | None) -> None:
        """Take the user's choice, unless another volume has this phase."""
        others = [(other, roles.role_of(other)) for other in plain_volumes() if other is not volume]
        choices = [(other, role) for other, role in others if role is not None]
        try:
            roles.check_roles([*choices, (volume, phase)] if phase else choices)
        except Diff4MMLiTSError as error:
            self.refresh()
            self._message(str(error))
            return
        roles.set_role(volume, phase)
        self._on_change()

    def _row(self, volume: slicer.vtkMRMLScalarVolumeNode, study: SceneStudy | None) -> PhaseRow:
        phase = roles.role_of(volume)
        reasons = "\n".join(self._evidences[volume.GetID()].reasons)
        unknown = _("Neither name nor headers tell the phase; “Find phases” looks at the image.")
        alignment, why = self._alignment(phase, study) if phase and study else ("", "")
        return PhaseRow(volume, phase, reasons or unknown, alignment, why)

    def _alignment(self, phase: Phase, study: SceneStudy) -> tuple[str, str]:
        """Return whether a phase is aligned, in a word or two, and what the registration said about it."""
        if len(study.phases) == 1:
            return "", ""
        if phase is study.reference_phase:
            return _("Reference"), _("The other phases are aligned to this one.")
        if not study.is_aligned:
            return _("As acquired"), _("Not aligned yet.")
        if self.registration is None or phase not in self.registration.qa:
            return _("Aligned"), ""
        qa = self.registration.qa[phase]
        name = _("Unregistered") if self._method == UNREGISTERED else _verdict_name(qa.verdict)
        return name, "\n".join(qa.reasons)

    def _say(self, volumes: list[slicer.vtkMRMLScalarVolumeNode], problem: str) -> None:
        if not volumes:
            self._message(_("Open a folder, load volumes with Slicer, or try the sample study."))
        elif problem:
            self._message(problem)
        elif self.registration is not None and self.registration.verdict is not Verdict.PASS:
            self._message(
                _("Look at the alignment (“Compare by eye”); register again or keep the phases unregistered.")
            )
        else:
            self._message("")

    def _message(self, text: str) -> None:
        self.ui.phaseMessage.text = text
        self.ui.phaseMessage.visible = bool(text)

    def _loaded(self, study: SceneStudy) -> None:
        """Take a study that was just loaded; the volumes of the one before stay in the scene without a phase."""
        for volume in roled_volumes():
            if volume not in study.phases.values():
                roles.set_role(volume, None)
        self._choose_masks(study)
        self.registration = None
        views.show_volume(study.reference, fit=True)
        self._on_change()

    def _choose_masks(self, study: SceneStudy) -> None:
        """Choose what a study brought, and nothing of the one before; a model's tumors may not be all of them."""
        if self._parameters is None:
            return
        drawn = [each for each in study.tumor if source_of(each.node, each.segment_id) != MODEL]
        state = TumorState.ANNOTATED if drawn else TumorState.UNKNOWN
        self._parameters.liver = study.liver.node if study.liver else None
        self._parameters.tumors = study.tumor[0].node if study.tumor else None
        self._parameters.paintedMask = None
        self._parameters.tumorState = TumorState.FREE if study.is_tumor_free else state

    def _as_acquired(self) -> SceneStudy:
        """Return the study of the volumes as they were acquired, with the liver that the user chose."""
        choices = [(volume, phase) for volume in plain_volumes() if (phase := roles.role_of(volume)) is not None]
        if not choices:
            raise InputError(_("No volume has a phase yet: choose one in the table"))
        return logic.study_of(choices, liver=self._liver())

    def _liver(self) -> SegmentChoice | None:
        chosen = self._parameters.liver if self._parameters else None
        segment = liver_id(chosen) if chosen else ""
        return SegmentChoice(chosen, segment) if segment else None

    def _alignment_nodes(self) -> list[slicer.vtkMRMLNode]:
        """Return what the last registration made: aligned volumes and transforms."""
        transforms = list(self.registration.transforms.values()) if self.registration is not None else []
        return [*transforms, *partners({roles.role_of(volume): volume for volume in plain_volumes()}).values()]


def _remove(nodes: list[slicer.vtkMRMLNode]) -> None:
    for node in nodes:
        if slicer.mrmlScene.IsNodePresent(node):
            slicer.mrmlScene.RemoveNode(node)


def _verdict_name(verdict: Verdict) -> str:
    return {Verdict.PASS: _("Aligned"), Verdict.REVIEW: _("Aligned, check"), Verdict.REJECT: _("Failed")}[verdict]
