"""The self test that Slicer offers for every module: what must work with nothing installed."""

from __future__ import annotations

import time

import numpy as np
import slicer

from ..core.phases import Phase
from .logic import study_of_scene
from .roles import role_of

SETTLE_S = 0.5


def run() -> None:
    """Open the module in an empty scene and let it tell the phases of two volumes from their names.

    Raises:
        AssertionError: It does not.
    """
    slicer.mrmlScene.Clear(0)
    slicer.util.selectModule("Diff4MMLiTS")
    values = np.zeros((4, 8, 8), np.int16)
    arterial, scout = (slicer.util.addVolumeFromArray(values, name=name) for name in ("arterial phase", "scout"))
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        slicer.app.processEvents()
    ui = slicer.util.getModuleWidget("Diff4MMLiTS").gui.ui
    _check(ui.phaseTable.rowCount == 2, "the table does not list the volumes of the scene")
    _check(role_of(arterial) is Phase.AP, "the arterial phase was not told from its name")
    _check(role_of(scout) is None, "a volume whose name says nothing got a phase")
    _check(study_of_scene().reference is arterial, "the study is not that of the scene")
    _check(bool(ui.registerButton.toolTip) and not ui.registerButton.enabled, "one phase needs no registration")


def _check(is_true: bool, fault: str) -> None:
    if not is_true:
        raise AssertionError(fault)
