"""The table of the study: one row per volume of the scene, and which contrast phase each one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import qt
import slicer

from ..core.phases import ALL_PHASES, Phase
from .texts import _
from .widgets import Ui, fill_table, prepare_table, silent

PHASE_COLUMN = 0


def phase_name(phase: Phase | None) -> str:
    """Return the name of a phase as radiologists say it."""
    names = {
        None: _("Not used"),
        Phase.NC: _("NC – native"),
        Phase.AP: _("AP – arterial"),
        Phase.PVP: _("PVP – portal venous"),
        Phase.DELAY: _("DELAY – delayed"),
    }
    return names[phase]


@dataclass(frozen=True, eq=False)
class PhaseRow:
    """One row of the table.

    Args:
        volume: The volume node.
        phase: Its phase, None when it is not used.
        evidence: Why, one sentence a line.
        alignment: Whether it is aligned, in a word or two.
        alignment_reasons: What the registration said about it.
    """

    volume: slicer.vtkMRMLScalarVolumeNode
    phase: Phase | None
    evidence: str
    alignment: str
    alignment_reasons: str


class PhaseTable:
    """Shows the rows and tells what the user chose.

    Args:
        table: The table widget.
        on_choice: Called with a volume and the phase that the user chose for it.
        on_select: Called with the volume of the row that the user selected.
    """

    choices: tuple[Phase | None, ...] = (None, *ALL_PHASES)

    def __init__(
        self,
        table: Ui,
        *,
        on_choice: Callable[[slicer.vtkMRMLScalarVolumeNode, Phase | None], None],
        on_select: Callable[[slicer.vtkMRMLScalarVolumeNode], None],
    ) -> None:
        self._table = table
        self._on_choice = on_choice
        self._on_select = on_select
        self._rows: tuple[PhaseRow, ...] = ()
        prepare_table(table, [_("Phase"), _("Volume"), _("Voxel (mm)"), _("Alignment")], stretched=1)
        table.itemSelectionChanged.connect(self._selected)

    def show(self, rows: Sequence[PhaseRow]) -> None:
        """Show the volumes; rows that did not change keep their widgets, and with them the keyboard focus."""
        is_same = [row.volume for row in rows] == [row.volume for row in self._rows]
        self._rows = tuple(rows)
        texts = [["", row.volume.GetName(), _spacing(row.volume), row.alignment] for row in rows]
        fill_table(self._table, texts)
        for number, row in enumerate(rows):
            if not is_same or self._table.cellWidget(number, PHASE_COLUMN) is None:
                self._table.setCellWidget(number, PHASE_COLUMN, self._selector(row.volume))
            selector = self._table.cellWidget(number, PHASE_COLUMN)
            with silent(selector):
                selector.currentIndex = self.choices.index(row.phase)
            selector.toolTip = row.evidence
            self._table.item(number, 3).setToolTip(row.alignment_reasons or row.alignment)

    def _selector(self, volume: slicer.vtkMRMLScalarVolumeNode) -> Ui:
        selector = qt.QComboBox()
        for phase in self.choices:
            selector.addItem(phase_name(phase))
        selector.currentIndexChanged.connect(
            lambda *_index: self._on_choice(volume, self.choices[selector.currentIndex])
        )
        return selector

    def _selected(self) -> None:
        row = self._table.currentRow()
        if 0 <= row < len(self._rows):
            self._on_select(self._rows[row].volume)


def _spacing(volume: slicer.vtkMRMLScalarVolumeNode) -> str:
    return " × ".join(f"{spacing:.2g}" for spacing in volume.GetSpacing())
