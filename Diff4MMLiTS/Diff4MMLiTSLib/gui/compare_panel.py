"""Judging an alignment by eye: overlay, checkerboard, or flicker of the reference phase and another one."""

from __future__ import annotations

import qt

from ..core.phases import Phase, in_order
from . import views
from .parameters import CompareMode, Parameters
from .phase_table import phase_name
from .scene import SceneStudy
from .texts import _
from .widgets import Ui, allow, fill_choice

FLICKER_MS = 600


class ComparePanel:
    """Shows two phases together while its section is open.

    Args:
        ui: The widgets of the module.
    """

    def __init__(self, ui: Ui) -> None:
        self.ui = ui
        self._study: SceneStudy | None = None
        self._parameters: Parameters | None = None
        self._phases: tuple[Phase, ...] = ()
        self._is_upper_shown = self._is_flickering = False
        self._outlines = views.Outlines()
        self._flicker = qt.QTimer()
        self._flicker.setInterval(FLICKER_MS)
        self._flicker.timeout.connect(self._flick)
        ui.compareButton.contentsCollapsed.connect(lambda _is_closed: self.show())
        ui.comparePhaseSelector.currentIndexChanged.connect(lambda *_index: self.show())
        ui.compareModeSelector.currentIndexChanged.connect(lambda *_index: self.show())
        ui.compareOpacitySlider.valueChanged.connect(lambda _value: self._fade())

    def set_parameters(self, parameters: Parameters | None) -> None:
        """Take the parameter node of the scene, or none while the scene is closed."""
        self._parameters = parameters

    def set_study(self, study: SceneStudy | None) -> None:
        """Compare the phases of this study; none for no comparison."""
        if _same(self._study, study):
            return
        before = self._phases[self.ui.comparePhaseSelector.currentIndex] if self._phases else None
        self._study = study
        others = {} if study is None else {p: v for p, v in study.phases.items() if v is not study.reference}
        self._phases = in_order(others)
        chosen = self._phases.index(before) if before in self._phases else 0
        fill_choice(self.ui.comparePhaseSelector, [phase_name(phase) for phase in self._phases], chosen)
        allow(self.ui.compareButton, "" if self._phases else _("Needs a study of two phases or more."))
        if not self._phases:
            self.ui.compareButton.collapsed = True
        elif self._is_open:
            self.show()

    def show(self) -> None:
        """Show what is chosen, or the reference phase alone when the section is closed."""
        self._stop_flicker()
        self._outlines.end()
        views.remove_checkerboard()
        if self._study is None or not self._phases:
            return
        if not self._is_open or self._parameters is None:
            views.show_volume(self._study.reference)
            return
        self._outlines.begin()
        mode = list(CompareMode)[self.ui.compareModeSelector.currentIndex]
        other = self._study.phases[self._phases[self.ui.comparePhaseSelector.currentIndex]]
        allow(self.ui.compareOpacitySlider, "" if mode is CompareMode.OVERLAY else _("Only for the overlay."))
        if mode is CompareMode.CHECKERBOARD and self._study.is_aligned:
            views.show_checkerboard(self._study.reference, other)
        elif mode is CompareMode.FLICKER:
            views.show_pair(self._study.reference, other, 0.0)
            self._is_flickering = True
            self._flicker.start()
        else:
            views.show_pair(self._study.reference, other, self.ui.compareOpacitySlider.value)
        self._say(mode)

    def close(self) -> None:
        """End the comparison."""
        self._stop_flicker()
        self._outlines.end()
        self._study, self._phases = None, ()

    @property
    def _is_open(self) -> bool:
        return not self.ui.compareButton.collapsed

    def _fade(self) -> None:
        if self._study is not None and self._is_open and not self._is_flickering:
            views.set_opacity(self.ui.compareOpacitySlider.value)

    def _stop_flicker(self) -> None:
        self._is_flickering = False
        self._flicker.stop()

    def _flick(self) -> None:
        self._is_upper_shown = not self._is_upper_shown
        views.set_opacity(1.0 if self._is_upper_shown else 0.0)

    def _say(self, mode: CompareMode) -> None:
        is_refused = mode is CompareMode.CHECKERBOARD and self._study is not None and not self._study.is_aligned
        text = _("The checkerboard needs aligned phases; this is the overlay.") if is_refused else ""
        self.ui.compareMessage.text = text
        self.ui.compareMessage.visible = bool(text)


def _same(one: SceneStudy | None, other: SceneStudy | None) -> bool:
    """Return whether two studies show the same: refreshing must not make a new checkerboard each time."""
    if one is None or other is None:
        return one is other
    ids, other_ids = ({phase: volume.GetID() for phase, volume in study.phases.items()} for study in (one, other))
    return ids == other_ids and one.is_aligned == other.is_aligned
