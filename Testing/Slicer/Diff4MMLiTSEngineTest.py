"""The whole way in a running Slicer whose engine is installed: sample study, alignment, cancel, console, close.

The engine needs the packages of requirements.txt and torch; DIFF4MMLITS_PYTHON may name an interpreter that has them.
"""

import unittest

import slicer
from Diff4MMLiTSPanelTest import settle

LONGEST_S = 600


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
