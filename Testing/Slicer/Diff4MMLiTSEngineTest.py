"""The whole way in a running Slicer whose engine is installed: sample study, alignment, cancel, console, close.

The engine needs the packages of requirements.txt and torch; DIFF4MMLITS_PYTHON may name an interpreter that has them.
"""

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import slicer
from Diff4MMLiTSPanelTest import settle

LONGEST_S = 600
RECIPE = """
target = "autoencoder"
name = "tiny"

[train_autoencoder]
spacing_mm = 6.0
patch = [16, 16, 16]
adversarial_weight = 0.0
network = { channels = [8, 16], residual_layers = 1, latent_channels = 4, codes = 16 }
loop = { steps = 100000, batch_size = 1 }
"""


class Diff4MMLiTSEngineTest(unittest.TestCase):
    """Each test opens the module in an empty scene and makes the sample study."""

    def setUp(self):
        """Open the module and press the button of the sample study."""
        slicer.mrmlScene.Clear(0)
        slicer.util.selectModule("Diff4MMLiTS")
        self.gui = slicer.util.getModuleWidget("Diff4MMLiTS").gui
        self.ui = self.gui.ui
        self.gui.study.folders.load_sample(lambda: None)
        self.wait()

    def wait(self):
        """Wait for the job and fail with what the panel says."""
        for _second in range(LONGEST_S):
            settle(1.0)
            if not self.gui.bar.busy:
                break
        self.assertFalse(self.gui.bar.busy, self.ui.jobMessage.text)
        self.assertFalse(self.ui.errorFrame.visible, self.ui.errorLabel.text)

    def test_the_phases_are_aligned_and_can_be_judged_by_eye(self):
        """Aligned volumes and transforms are in the scene; the checkerboard shows both."""
        self.assertEqual(self.ui.phaseTable.rowCount, 4)
        self.ui.registerButton.click()
        self.wait()
        study = self.gui.study.study()
        self.assertTrue(study.is_aligned)
        self.assertTrue(self.gui.study.registration.transforms)
        self.ui.compareButton.collapsed = False
        self.ui.compareModeSelector.setCurrentIndex(1)
        settle()
        composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        shown = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
        self.assertTrue(shown.GetAttribute("Diff4MMLiTS.Checkerboard"))

    def test_tumors_are_found_changed_and_changed_back(self):
        """The threshold, a click and the undo of both change the table of lesions."""
        self.ui.unregisterButton.click()
        self.wait()
        self.ui.applyButton.click()
        self.wait()
        tumors = self.gui.segment.tumors
        before = tumors.lesions.lesions
        self.assertTrue(before)
        self.ui.thresholdSlider.value = 0.9
        settle(5.0)
        self.assertNotEqual(tumors.lesions.lesions, before)
        self.ui.undoButton.click()
        settle()
        self.assertEqual([each.volume_ml for each in tumors.lesions.lesions], [each.volume_ml for each in before])
        self.ui.removeTumorButton.click()
        selection = slicer.mrmlScene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
        points = slicer.mrmlScene.GetNodeByID(selection.GetActivePlaceNodeID())
        points.AddControlPointWorld(*before[0].center_ras_mm)
        settle(1.0)
        self.wait()
        self.assertLess(sum(each.volume_ml for each in tumors.lesions.lesions), sum(e.volume_ml for e in before))
        self.ui.undoButton.click()
        settle()
        self.assertEqual(len(tumors.lesions.lesions), len(before))

    def wait_for_training(self, is_so, what):
        """Wait until the Train tab shows something."""
        for _second in range(LONGEST_S):
            settle(1.0)
            if is_so():
                return
        self.fail(f"{what}: {self.ui.trainingMessage.text}")

    def test_a_training_goes_on_without_the_module_and_is_found_stopped_and_resumed(self):
        """The module is reloaded while the training runs; its files tell all that is known of it."""
        self.ui.unregisterButton.click()
        self.wait()
        from Diff4MMLiTSLib.gui.scene import write_study
        from Diff4MMLiTSLib.gui.settings import write_setting
        from Diff4MMLiTSLib.gui.synthesis import tumor_choices

        for name in ("TrainRecipe", "TrainCohort", "TrainRun"):  # the user's next training begins with none of these
            self.addCleanup(write_setting, name, "")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            place, drawn = Path(folder), slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
            study = replace(self.gui.study.study(), study_id="S01", tumor=tumor_choices(drawn))
            (place / "cohort").mkdir()
            write_study(study, place / "cohort" / "S01")
            (place / "recipe.toml").write_text(RECIPE, encoding="utf-8")
            self.ui.tabs.setCurrentWidget(self.ui.trainTab)
            self.ui.recipeEdit.currentPath = str(place / "recipe.toml")
            self.ui.trainCohortEdit.currentPath = str(place / "cohort")
            self.ui.runFolderEdit.currentPath = str(place / "run")
            settle()
            self.ui.startTrainingButton.click()
            self.wait_for_training(lambda: self.gui.train._shown, "no curve")
            slicer.util.reloadScriptedModule("Diff4MMLiTS")
            slicer.util.selectModule("Diff4MMLiTS")
            self.gui = slicer.util.getModuleWidget("Diff4MMLiTS").gui
            self.ui = self.gui.ui
            self.wait_for_training(lambda: self.ui.stopTrainingButton.enabled, "not found again")
            self.ui.stopTrainingButton.click()
            self.wait_for_training(lambda: self.ui.resumeTrainingButton.enabled, "not stopped")
            self.ui.resumeTrainingButton.click()
            self.wait_for_training(lambda: self.ui.stopTrainingButton.enabled, "not resumed")
            self.ui.stopTrainingButton.click()
            self.wait_for_training(lambda: self.ui.resumeTrainingButton.enabled, "not stopped again")

    def test_a_canceled_job_changes_nothing(self):
        """The scene is as it was, and the panel works on."""
        before = slicer.mrmlScene.GetNumberOfNodes()
        self.ui.registerButton.click()
        settle(1.0)
        self.ui.cancelButton.click()
        self.wait()
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), before)
        self.assertTrue(self.ui.registerButton.enabled)

    def test_the_python_console_does_the_same(self):
        """A job is returned at once and waits on demand."""
        logic = slicer.util.getModuleLogic("Diff4MMLiTS")
        job = logic.register(logic.study_of_scene(), method="none")
        result = job.wait(timeout_s=LONGEST_S)
        self.assertTrue(result.aligned.is_aligned)

    def test_a_scene_that_is_closed_in_mid_job_is_harmless(self):
        """Nothing is loaded into the new scene."""
        self.ui.registerButton.click()
        settle(0.5)
        slicer.mrmlScene.Clear(0)
        settle(2.0)
        self.assertFalse(self.gui.bar.busy)
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"), [])


if __name__ == "__main__":
    unittest.main()
