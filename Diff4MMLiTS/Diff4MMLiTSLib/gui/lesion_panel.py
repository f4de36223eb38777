"""The lesion table, the enhancement curve of the selected lesion, and the CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import qt
import slicer

from ..core.phases import Phase, in_order
from . import views
from .enhancement_plot import EnhancementPlot
from .job_bar import JobBar
from .lesions import LesionMeasures, liver_enhancement, measure_lesions, write_lesions_csv
from .scene import SceneStudy
from .texts import _
from .widgets import Ui, allow, fill_table, on_click, prepare_table


class LesionPanel:
    """Measures the tumors of a segmentation and shows them.

    Args:
        ui: The widgets of the module.
        bar: Shows errors.
    """

    def __init__(self, ui: Ui, bar: JobBar) -> None:
        self.ui = ui
        self.bar = bar
        self.lesions: tuple[LesionMeasures, ...] = ()
        self._liver: dict[Phase, float] = {}
        self._plot = EnhancementPlot(ui.plotFrame)
        ui.lesionTable.itemSelectionChanged.connect(self._selected)
        on_click(ui.saveTableButton, self._save)
        self.clear()

    def measure(self, node: slicer.vtkMRMLSegmentationNode, study: SceneStudy) -> None:
        """Measure the tumors as they are now."""
        self.lesions = measure_lesions(node, study)
        self._liver = liver_enhancement(node, study) if self.lesions else {}
        self._show(in_order(study.phases))

    def clear(self) -> None:
        """Show no lesions."""
        self.lesions, self._liver = (), {}
        self._show(())

    def _show(self, phases: Sequence[Phase]) -> None:
        titles = [_("No."), _("Volume (ml)"), _("Diameter (mm)"), *map(str, phases)]
        prepare_table(self.ui.lesionTable, titles, stretched=1)
        rows = [
            [
                str(lesion.number),
                f"{lesion.volume_ml:.2f}",
                f"{lesion.diameter_mm:.1f}",
                *(f"{lesion.mean_hu[phase]:.0f}" if phase in lesion.mean_hu else "–" for phase in phases),
            ]
            for lesion in self.lesions
        ]
        fill_table(self.ui.lesionTable, rows, [_tip(lesion) for lesion in self.lesions])
        allow(self.ui.saveTableButton, "" if self.lesions else _("There is no lesion to save."))
        self._draw()

    def _selected(self) -> None:
        lesion = self._chosen()
        if lesion is not None:
            views.jump_to(lesion.center_ras_mm)
            self._draw()

    def _draw(self) -> None:
        lesion = self._chosen() or next(iter(self.lesions), None)
        if lesion is None:
            self._plot.clear()
        else:
            self._plot.show(lesion.name, lesion.mean_hu, self._liver)

    def _chosen(self) -> LesionMeasures | None:
        row = self.ui.lesionTable.currentRow()
        return self.lesions[row] if 0 <= row < len(self.lesions) else None

    def _save(self) -> None:
        chosen = qt.QFileDialog.getSaveFileName(
            self.ui.saveTableButton, _("Save the lesion table"), "lesions.csv", _("Tables (*.csv)")
        )
        if not chosen:
            return
        path = Path(chosen)
        with self.bar.explaining():
            write_lesions_csv(self.lesions, path if path.suffix else path.with_suffix(".csv"))


def _tip(lesion: LesionMeasures) -> str:
    """Return the row in words, since its titles are short."""
    words = _("{name}: {ml} ml, longest axial diameter {mm} mm; mean in HU: {means}")
    means = ", ".join(f"{phase} {value:.0f}" for phase, value in lesion.mean_hu.items())
    return words.format(name=lesion.name, ml=f"{lesion.volume_ml:.2f}", mm=f"{lesion.diameter_mm:.1f}", means=means)
