"""The models of this computer: list, import, verify, delete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import qt
import slicer

from ..core.errors import Diff4MMLiTSError
from .job_bar import JobBar
from .models import (
    InstalledModel,
    delete_model,
    import_model,
    imported_hash,
    list_models,
    models_folder,
    verify_model,
)
from .texts import _
from .widgets import Ui, allow, fill_table, on_click, prepare_table, waiting


class ModelPanel:
    """Shows the models and what can be done with them.

    Args:
        ui: The widgets of the module.
        bar: Shows errors.
        on_change: Called when models came or went.
    """

    def __init__(self, ui: Ui, bar: JobBar, on_change: Callable[[], None]) -> None:
        self.ui = ui
        self.bar = bar
        self._on_change = on_change
        self._models: tuple[InstalledModel, ...] = ()
        prepare_table(ui.modelTable, [_("Model"), _("Kind"), _("Phases"), _("Size")], stretched=0)
        ui.modelTable.itemSelectionChanged.connect(self._selected)
        on_click(ui.importModelButton, self._import)
        on_click(ui.verifyModelButton, self._verify)
        on_click(ui.deleteModelButton, self._delete)
        on_click(ui.openDataButton, self._open_folder)
        self.show()

    def show(self) -> None:
        """Read again which models there are."""
        self._models = list_models()
        rows = [[model.name, model.kind, ", ".join(model.phases), f"{model.size_mb:.0f} MB"] for model in self._models]
        fill_table(self.ui.modelTable, rows)
        self.ui.dataNote.text = _(
            "Imported models: {folder}\nWorking files lie in Slicer's temporary folder and go with their result; "
            "scenes and tables go only where you save them."
        ).format(folder=_short(models_folder()))
        self._selected()

    def refresh(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        model = self._chosen()
        none = "" if model else _("Select a model first.")
        bundled = _("This model came with the module.") if model and model.is_bundled else ""
        allow(self.ui.importModelButton, self.bar.busy)
        allow(self.ui.verifyModelButton, self.bar.busy or none)
        allow(self.ui.deleteModelButton, self.bar.busy or none or bundled)

    def _chosen(self) -> InstalledModel | None:
        row = self.ui.modelTable.currentRow()
        return self._models[row] if 0 <= row < len(self._models) else None

    def _selected(self) -> None:
        model = self._chosen()
        self.ui.modelDetails.text = self._details(model) if model else ""
        self.ui.modelDetails.visible = model is not None
        self.ui.modelDetails.toolTip = ""
        self.refresh()

    @staticmethod
    def _details(model: InstalledModel) -> str:
        lines = [
            model.intended_use,
            _("Trained on: {data}").format(data=model.training_data or _("not said")),
            _("License: {name}").format(name=model.license or _("not said")),
        ]
        return "\n".join(line for line in lines if line)

    def _import(self) -> None:
        chosen = qt.QFileDialog.getOpenFileName(
            self.ui.importModelButton, _("Import a model"), "", _("Models (model.json *.zip)")
        )
        if chosen:
            self._attempt(lambda: import_model(Path(chosen)))
            self.show()
            self._on_change()

    def _verify(self) -> None:
        model = self._chosen()
        if model is None:
            return
        digest = self._attempt(lambda: verify_model(model))
        if digest:
            same = _("{name} is unchanged since its import (SHA-256 {digest}…).")
            unknown = _("{name} was not imported, so there is nothing to compare it with (SHA-256 {digest}…).")
            text = same if imported_hash(model) else unknown
            self.ui.modelDetails.text = text.format(name=model.name, digest=digest[:16])
            self.ui.modelDetails.toolTip = digest

    def _delete(self) -> None:
        model = self._chosen()
        question = _("Delete the model “{name}” from this computer?")
        if model is None or not slicer.util.confirmOkCancelDisplay(question.format(name=model.name)):
            return
        self._attempt(lambda: delete_model(model))
        self.show()
        self._on_change()

    def _attempt(self, action: Callable[[], object]) -> str:
        """Do something that may fail in words for the user; return its result as text, empty when it failed."""
        try:
            with waiting():
                return str(action() or "")
        except Diff4MMLiTSError as error:
            self.bar.fail_with(error)
            return ""

    def _open_folder(self) -> None:
        folder = models_folder()
        folder.mkdir(parents=True, exist_ok=True)
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))


def _short(folder: Path) -> str:
    """Return a path with ~ for the user's home folder."""
    return f"~/{folder.relative_to(Path.home())}" if folder.is_relative_to(Path.home()) else str(folder)
