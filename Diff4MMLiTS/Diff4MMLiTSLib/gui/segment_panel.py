"""The tab that finds liver and tumors: model, device, quality, Apply."""

from __future__ import annotations

from pathlib import Path

import slicer

from ..core.errors import InputError
from . import logic, views
from .dependencies import Gpu
from .job import Job
from .job_bar import JobBar
from .models import InstalledModel, list_models
from .parameters import Parameters, Quality
from .scene import SceneStudy, SegmentationResult
from .study_panel import StudyPanel
from .texts import _
from .tumor_panel import TumorPanel
from .widgets import Ui, allow, fill_choice, on_click, silent


class SegmentPanel:
    """Segments the study of the panel on top.

    Args:
        ui: The widgets of the module.
        bar: Runs its jobs.
        study_panel: Holds the study.
    """

    def __init__(self, ui: Ui, bar: JobBar, study_panel: StudyPanel) -> None:
        self.ui = ui
        self.bar = bar
        self.tumors = TumorPanel(ui, bar)
        self._study_panel = study_panel
        self._parameters: Parameters | None = None
        self._models: tuple[InstalledModel, ...] = ()
        self._devices: list[str] = []
        self.offer_devices(())
        ui.modelSelector.currentIndexChanged.connect(lambda *_index: self._model_chosen())
        ui.deviceSelector.currentIndexChanged.connect(lambda *_index: self._device_chosen())
        on_click(ui.applyButton, self.apply)

    def set_parameters(self, parameters: Parameters | None) -> None:
        """Take the parameter node of the scene, or none while the scene is closed."""
        self._parameters = parameters
        if parameters is None:
            self.tumors.close()
        else:
            self.offer_models()
            self._show_device()

    def offer_models(self) -> None:
        """Read again which models this computer has."""
        self._models = list_models("segmenter")
        names = [model.name for model in self._models]
        chosen = self._parameters.model if self._parameters else ""
        fill_choice(self.ui.modelSelector, names, names.index(chosen) if chosen in names else 0)
        self._describe()

    def offer_devices(self, gpus: tuple[Gpu, ...]) -> None:
        """Offer the GPUs that the device test found, with their free memory."""
        self._devices = ["auto", *(gpu.device for gpu in gpus), "cpu"]
        names = [f"{gpu.name} ({_('{size} GB free').format(size=f'{gpu.free_gb:.1f}')})" for gpu in gpus]
        fill_choice(self.ui.deviceSelector, [_("Automatic"), *names, _("Processor (CPU)")], 0)
        self._show_device()

    def chosen_model(self) -> InstalledModel | None:
        """Return the model that is selected, None when there is none."""
        index = self.ui.modelSelector.currentIndex
        return self._models[index] if 0 <= index < len(self._models) else None

    def choose_model(self, name: str) -> bool:
        """Select the model of this name; return whether there is one."""
        names = [model.name for model in self._models]
        if name in names:
            self.ui.modelSelector.currentIndex = names.index(name)
        return name in names

    def model_folder(self) -> Path | None:
        """Return the folder of the selected model, None when there is none."""
        model = self.chosen_model()
        return model.folder if model else None

    def refresh(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        self._show_device()
        allow(self.ui.applyButton, self.bar.busy or self._obstacle())
        self.tumors.refresh()

    def apply(self) -> None:
        """Segment the study in the background; the result is bound to the volumes of this moment."""
        model = self.chosen_model()
        if model is None or self._parameters is None:
            return
        folder, device = model.folder, self._device
        is_fast = self._parameters.quality is Quality.FAST

        def start() -> Job:
            return logic.segment(self._study_panel.study(), model=folder, device=device, fast=is_fast)

        self.bar.run(start, _("Segment"), lambda result: self._show(result, folder))

    def close(self) -> None:
        """End what runs for this panel."""
        self.tumors.close()

    @property
    def _device(self) -> str:
        return self._parameters.device if self._parameters else "auto"

    def _show(self, result: SegmentationResult, model: Path) -> None:
        self._hide_former(result)
        self.tumors.show(result, model, self._device)
        if result.intended_use:
            self.bar.say(_("Segment: done. {use}").format(use=_sentence(result.intended_use)))

    def _hide_former(self, result: SegmentationResult) -> None:
        """Hide what the user chose as liver or tumors and the result of before: two livers would cover each other."""
        chosen = [self._parameters.liver, self._parameters.tumors] if self._parameters else []
        before = [self.tumors.result.node] if self.tumors.result is not None else []
        for node in filter(slicer.mrmlScene.IsNodePresent, filter(None, [*chosen, *before])):
            if node is not result.node:
                views.hide(node)

    def _obstacle(self) -> str:
        """Return why the study cannot be segmented now; empty when it can."""
        try:
            study = self._study_panel.study()
        except InputError as error:
            return str(error)
        model = self.chosen_model()
        if model is None:
            return _("There is no model for segmentation; import one in the Setup tab.")
        return self._mismatch(study, model)

    @staticmethod
    def _mismatch(study: SceneStudy, model: InstalledModel) -> str:
        if not study.is_aligned:
            return _("Register the phases first, or keep them unregistered.")
        if not set(study.phases) & set(model.phases):
            return _("This model needs {phases}.").format(phases=", ".join(model.phases))
        return ""

    def _model_chosen(self) -> None:
        model = self.chosen_model()
        if model is not None and self._parameters is not None:
            self._parameters.model = model.name
        self._describe()
        self.refresh()

    def _describe(self) -> None:
        model = self.chosen_model()
        if model is None:
            self.ui.modelNote.text = _("No model yet: import one in the Setup tab.")
            self.ui.modelNote.toolTip = ""
            return
        self.ui.modelNote.text = " ".join(
            filter(None, [_sentence(model.intended_use), _("License: {name}.").format(name=model.license)])
        )
        self.ui.modelNote.toolTip = model.training_data

    def _device_chosen(self) -> None:
        index = self.ui.deviceSelector.currentIndex
        if self._parameters is not None and 0 <= index < len(self._devices):
            self._parameters.device = self._devices[index]
            self.tumors.use_device(self._device)

    def _show_device(self) -> None:
        """Show the device that will be used, also one that a scene brought from another computer."""
        with silent(self.ui.deviceSelector):
            if self._device not in self._devices:
                self._devices.append(self._device)
                self.ui.deviceSelector.addItem(_("{device} (not found here)").format(device=self._device))
            self.ui.deviceSelector.currentIndex = self._devices.index(self._device)


def _sentence(text: str) -> str:
    """Return what a card says, with a capital and a full stop."""
    begun = text[:1].upper() + text[1:]
    return begun if not text or text.endswith((".", "!", "?")) else f"{begun}."
