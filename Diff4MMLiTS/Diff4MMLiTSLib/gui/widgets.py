"""Small things that every panel does with Qt's widgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import qt

Ui = Any
"""The widgets of the .ui file by name; Any: Qt has no type stubs inside Slicer."""
TIP = "tipWhenEnabled"
ROW_PIXELS = 26


def on_click(button: Ui, action: Callable[[], object]) -> None:
    """Call an action without arguments when a button is clicked."""
    button.clicked.connect(lambda *_arguments: action())


def on_path(edit: Ui, action: Callable[[], object]) -> None:
    """Call an action without arguments when a path is chosen or emptied, of which ctk tells by another signal."""
    edit.currentPathChanged.connect(lambda _path: action())
    edit.validInputChanged.connect(lambda is_valid: None if is_valid else action())


def allow(widget: Ui, reason: str) -> None:
    """Enable a widget, or disable it with a tooltip that says why.

    Args:
        widget: The widget; its own tooltip comes back when it is enabled.
        reason: Why it is disabled; empty to enable it.
    """
    tip = widget.property(TIP)
    if tip is None:
        tip = widget.toolTip
        widget.setProperty(TIP, tip)
    widget.enabled = not reason
    widget.toolTip = reason or tip


def prepare_table(table: Ui, titles: Sequence[str], stretched: int) -> None:
    """Give a table its columns, one of which takes the room that is left."""
    table.columnCount = len(titles)
    table.setHorizontalHeaderLabels(list(titles))
    table.verticalHeader().visible = False
    table.verticalHeader().setDefaultSectionSize(ROW_PIXELS)
    table.setWordWrap(False)
    table.setTextElideMode(qt.Qt.ElideMiddle)  # names differ at both ends
    header = table.horizontalHeader()
    for column in range(len(titles)):
        wide = qt.QHeaderView.Stretch if column == stretched else qt.QHeaderView.ResizeToContents
        header.setSectionResizeMode(column, wide)


def fill_table(table: Ui, rows: Sequence[Sequence[str]], tips: Sequence[str] = ()) -> None:
    """Show rows of text, with one tooltip per row; the selected row stays selected."""
    chosen = table.currentRow()
    with silent(table):
        table.rowCount = len(rows)
        for row, texts in enumerate(rows):
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(tips[row] if tips else text)
                table.setItem(row, column, item)
        if 0 <= chosen < len(rows):
            table.setCurrentCell(chosen, 0)


def fill_choice(combo: Ui, texts: Sequence[str], chosen: int) -> None:
    """Show choices without telling anybody."""
    with silent(combo):
        combo.clear()
        for text in texts:
            combo.addItem(text)
        combo.currentIndex = chosen


@contextmanager
def silent(widget: Ui) -> Iterator[None]:
    """Keep a widget from sending signals."""
    before = widget.blockSignals(True)
    try:
        yield
    finally:
        widget.blockSignals(before)


@contextmanager
def waiting() -> Iterator[None]:
    """Show the cursor that says: wait."""
    qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
    try:
        yield
    finally:
        qt.QApplication.restoreOverrideCursor()
