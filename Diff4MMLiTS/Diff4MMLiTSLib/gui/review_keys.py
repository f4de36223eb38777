"""The keys of the review: one letter for each thing that is done a hundred times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import qt

from .widgets import Ui

KEYS = {
    "acceptButton": "A",
    "rejectButton": "R",
    "flagButton": "F",
    "nextPairButton": "N",
    "previousPairButton": "P",
    "undoDecisionButton": "U",
    "outlineButton": "O",
    "commentEdit": "C",
}
"""Letters by widget. A text field that has the focus keeps its letters; Return or Escape leaves it."""
LEAVE_KEYS = ("Return", "Escape")


class ReviewKeys:
    """Listens in the whole window while the Review tab is on the screen and a review is open.

    Args:
        ui: The widgets of the module.
        actions: What to do, by widget.
    """

    def __init__(self, ui: Ui, actions: Mapping[str, Callable[[], object]]) -> None:
        self._ui = ui
        self._enabled = False
        self._shortcuts = [_shortcut(KEYS[name], ui.reviewTab, partial(self._do, do)) for name, do in actions.items()]
        for shortcut in self._shortcuts:  # the focus is in a slice view, most of the time
            shortcut.setContext(qt.Qt.ApplicationShortcut)
        self._leave = [_shortcut(key, ui.commentEdit, ui.tabs.setFocus) for key in LEAVE_KEYS]
        for shortcut in self._leave:
            shortcut.setContext(qt.Qt.WidgetShortcut)
        ui.tabs.currentChanged.connect(lambda _index: self._update())
        self._update()

    @property
    def enabled(self) -> bool:
        """Whether a review is open."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._enabled = value
        self._update()

    def _do(self, action: Callable[[], object]) -> None:
        if self._ui.reviewTab.isVisible():  # not while another module is on the screen
            action()

    def _update(self) -> None:
        is_here = self._ui.tabs.currentWidget() is self._ui.reviewTab
        for shortcut in (*self._shortcuts, *self._leave):
            shortcut.enabled = self._enabled and is_here


def _shortcut(key: str, parent: Ui, action: Callable[[], object]) -> Ui:
    shortcut = qt.QShortcut(qt.QKeySequence(key), parent)
    shortcut.activated.connect(action)
    return shortcut
