"""The panel in a running Slicer, with nothing installed: what a user sees before the first job."""

import json
import os
import tempfile
import time
import unittest
from pathlib import Path
from unittest.mock import patch

import numpy as np
import qt
import SimpleITK as sitk
import slicer

PHASE_COLUMN, VOLUME_COLUMN = 0, 1


def settle(seconds=0.3):
    """Let timers and events of Slicer run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.01)


def add_volume(name):
    """Add a small volume to the scene."""
    values = np.random.default_rng(0).normal(50, 10, (12, 20, 20)).astype(np.int16)
    return slicer.util.addVolumeFromArray(values, name=name)


def write_pairs(cohort, count):
    """Write small synthetic studies of one phase, which differ in one voxel."""
    for number in range(count):
        folder = cohort / f"study_synthetic-{number:04d}"
        folder.mkdir(parents=True)
        values = np.full((8, 20, 20), 100, np.int16)
        values[0, 0, 0] = number
        mask = np.zeros(values.shape, np.uint8)
        mask[3:5, 8:12, 8:12] = 1
        for name, array in (("PVP", values), ("tumor", mask)):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{name}.nrrd"))
        record = {
            "format": 1,
            "study_id": folder.name,
            "synthetic": True,
            "phases": {"PVP": {"file": "PVP.nrrd"}},
            "tumor": {"file": "tumor.nrrd", "source": "synthetic"},
        }
        (folder / "study.json").write_text(json.dumps(record), encoding="utf-8")


class Diff4MMLiTSPanelTest(unittest.TestCase):
    """Each test opens the module in an empty scene."""

    def setUp(self):
        """Open the module."""
        slicer.mrmlScene.Clear(0)
        slicer.util.selectModule("Diff4MMLiTS")
        self.widget = slicer.util.getModuleWidget("Diff4MMLiTS")
        self.ui = self.widget.gui.ui
        settle()

    def phases(self):
        """Return the chosen phase of each volume, by the volume's name."""
        table = self.ui.phaseTable
        rows = range(table.rowCount)
        return {table.item(r, VOLUME_COLUMN).text(): table.cellWidget(r, PHASE_COLUMN).currentText for r in rows}

    def test_an_empty_scene_says_what_to_do(self):
        """Every disabled button has a reason."""
        self.assertTrue(self.ui.phaseMessage.text)
        for button in (self.ui.registerButton, self.ui.applyButton, self.ui.undoButton):
            self.assertFalse(button.enabled)
            self.assertTrue(button.toolTip)

    def test_names_tell_the_phases_and_duplicates_are_refused(self):
        """The role is written to the volume; one phase is never chosen twice."""
        arterial, scout = add_volume("arterial phase"), add_volume("scout")
        settle()
        self.assertEqual(arterial.GetAttribute("LiverRole"), "Arterial")
        chosen = self.phases()["arterial phase"]
        table = self.ui.phaseTable
        row = next(r for r in range(table.rowCount) if table.item(r, VOLUME_COLUMN).text() == "scout")
        table.cellWidget(row, PHASE_COLUMN).setCurrentText(chosen)
        settle()
        self.assertNotEqual(self.phases()["scout"], chosen)
        self.assertNotEqual(scout.GetAttribute("LiverRole"), "Arterial")
        self.assertIn("AP", self.ui.phaseMessage.text)

    def test_the_choices_are_kept_in_the_scene(self):
        """A scene that is closed takes them along, and the panel begins anew."""
        add_volume("portal venous")
        self.ui.qualitySelector.setCurrentIndex(1)
        settle()
        self.assertEqual(self.widget.logic.getParameterNode().quality.value, "fast")
        slicer.mrmlScene.Clear(0)
        settle()
        self.assertEqual(self.phases(), {})
        self.assertEqual(self.widget.logic.getParameterNode().quality.value, "normal")

    def test_the_module_is_left_entered_and_reloaded(self):
        """Nothing of the old panel answers any more."""
        slicer.util.selectModule("Data")
        add_volume("portal venous")
        slicer.util.selectModule("Diff4MMLiTS")
        settle()
        self.assertEqual(list(self.phases()), ["portal venous"])
        slicer.util.reloadScriptedModule("Diff4MMLiTS")
        slicer.util.selectModule("Diff4MMLiTS")
        settle()
        self.assertIsNot(slicer.util.getModuleWidget("Diff4MMLiTS"), self.widget)

    def test_pairs_are_reviewed_in_linked_and_marked_views(self):
        """A decision is in the ledger at once, the views are marked, and closing gives layout and scene back."""
        ui, review = self.ui, self.widget.gui.review
        before = slicer.app.layoutManager().layout
        with tempfile.TemporaryDirectory() as folder:
            write_pairs(Path(folder), 3)
            ui.tabs.setCurrentWidget(ui.reviewTab)
            ui.reviewerEdit.text = "R1"
            review.open(Path(folder))
            settle()
            self.assertEqual(ui.pairCount.text, "1 of 3")
            view = slicer.app.layoutManager().sliceWidget("Review-synthetic-PVP").sliceView()
            props = view.renderWindow().GetRenderers().GetFirstRenderer().GetViewProps()
            texts = [props.GetItemAsObject(i) for i in range(props.GetNumberOfItems())]
            self.assertIn("SYNTHETIC PVP", [text.GetInput() for text in texts if hasattr(text, "GetInput")])
            ui.acceptButton.click()
            settle()
            self.assertEqual(ui.pairCount.text, "2 of 3")
            self.assertIn('"accepted"', (Path(folder) / "review.jsonl").read_text(encoding="utf-8"))
            review.close()
            settle()
            self.assertEqual(slicer.app.layoutManager().layout, before)
            self.assertEqual(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"), [])

    def press(self, key):
        """Do what a key of the review does; Python in Slicer cannot send keys to the window."""
        shortcuts = self.ui.reviewTab.findChildren("QShortcut")
        (shortcut,) = (each for each in shortcuts if each.key.toString() == key)
        self.assertTrue(shortcut.enabled, key)
        shortcut.activated()

    def test_twenty_pairs_are_reviewed_by_keys_with_the_module_ended_in_the_middle(self):
        """Every decision is kept, and the review goes on at the first open pair."""
        with tempfile.TemporaryDirectory() as folder:
            write_pairs(Path(folder), 20)
            self.ui.tabs.setCurrentWidget(self.ui.reviewTab)
            self.ui.reviewerEdit.text = "R1"
            self.widget.gui.review.open(Path(folder))
            for key in "AARFAPRNUA":
                self.press(key)
            self.assertEqual(self.ui.pairCount.text, "6 of 20")
            slicer.util.reloadScriptedModule("Diff4MMLiTS")
            self.widget = slicer.util.getModuleWidget("Diff4MMLiTS")
            self.ui = self.widget.gui.ui
            self.ui.tabs.setCurrentWidget(self.ui.reviewTab)
            self.widget.gui.review.open(Path(folder))
            self.assertEqual(self.ui.pairCount.text, "6 of 20")
            for _pair in range(15):
                self.press("A")
            self.assertIn("Open: 0, Accepted: 18, Rejected: 1, Flagged: 1", self.ui.reviewSummary.text)
            self.widget.gui.review.close()

    def test_the_new_tabs_say_why_nothing_can_be_done_yet(self):
        """Every disabled button of Synthesize, Review and Train has a reason."""
        self.ui.reviewerEdit.text = ""
        self.ui.runFolderEdit.currentPath = ""
        settle()
        for name in (
            "synthesizeButton",
            "openPairsButton",
            "acceptButton",
            "startTrainingButton",
            "stopTrainingButton",
        ):
            button = getattr(self.ui, name)
            self.assertFalse(button.enabled, name)
            self.assertTrue(button.toolTip, name)

    def test_the_setup_tab_lists_what_is_missing(self):
        """Without anything installed the panel says so and starts nothing."""
        with patch.dict(os.environ):
            os.environ.pop("DIFF4MMLITS_PYTHON", None)  # of another interpreter nothing is known
            slicer.util.selectModule("Data")
            slicer.util.selectModule("Diff4MMLiTS")
        self.ui.tabs.setCurrentWidget(self.ui.setupTab)
        settle()
        self.assertGreater(self.ui.packageTable.rowCount, 3)
        self.assertTrue(self.ui.engineState.text)
        self.assertIsInstance(self.ui.installButton, qt.QPushButton)


if __name__ == "__main__":
    unittest.main()
