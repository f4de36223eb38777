"""The Slicer module Diff4MMLiTS: metadata, widget, logic and self test; all of them delegate to Diff4MMLiTSLib.gui."""

from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

HOMEPAGE = "https://github.com/Diff4MMLiTS/SlicerDiff4MMLiTS"
PAPER = "https://arxiv.org/abs/2412.20418"
DEPENDENCIES = ["Markups", "SegmentEditor", "Segmentations", "SubjectHierarchy", "Transforms", "Volumes"]


class Diff4MMLiTS(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "Diff4MMLiTS"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = DEPENDENCIES
        parent.contributors = ["Diff4MMLiTS developers"]
        parent.helpText = _(
            "Liver tumors in multiphase CT: finds the contrast phases, aligns them, segments liver and tumors, and "
            "measures every tumor. Everything runs on this computer. Not a medical device. "
            '<a href="{link}">Documentation and tutorial</a>.'
        ).format(link=HOMEPAGE)
        parent.acknowledgementText = _(
            'The method is that of Chen, Lin, Cheng, Jin, Chen, Zhu, Wong, Tang: <a href="{link}">Diff4MMLiTS: '
            "Advanced Multimodal Liver Tumor Segmentation via Diffusion-Based Image Synthesis and Alignment</a>. "
            "This is an independent implementation."
        ).format(link=PAPER)
        slicer.app.startupCompleted.connect(register_sample_data)


def register_sample_data():
    """Offer the phantom study in the Sample Data module; it is made on this computer, nothing is downloaded."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Diff4MMLiTS",
        sampleName="LiverPhantom4Phases",
        thumbnailFileName=str(Path(__file__).parent / "Resources" / "Icons" / "LiverPhantom4Phases.png"),
        uris=[],
        fileNames=[],
        nodeNames=[],
        customDownloader=_load_phantom,
    )


def _load_phantom(_source):
    from Diff4MMLiTSLib.gui.sources import load_sample

    with slicer.util.tryWithErrorDisplay(_("The phantom could not be made."), waitCursor=True):
        return list(load_sample().phases.values())


class Diff4MMLiTSWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Connects Slicer's life cycle to the panels."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.gui = None

    def setup(self):
        """Build the panels, when the module is opened for the first time."""
        from Diff4MMLiTSLib.gui.widget import ModuleGui

        super().setup()
        top = slicer.util.loadUI(self.resourcePath("UI/Diff4MMLiTS.ui"))
        self.layout.addWidget(top)
        top.setMRMLScene(slicer.mrmlScene)
        self.logic = Diff4MMLiTSLogic()
        self.gui = ModuleGui(top)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            self.addObserver(scene, event, self.onSceneChanged)
        self.enter()

    def enter(self):
        """Show what is in the scene, each time the module is opened."""
        self.gui.bind(self.logic.getParameterNode())

    def exit(self):
        """Let another module work; running jobs go on."""
        self.gui.unbind()

    def cleanup(self):
        """End everything when the module is reloaded or the application closes."""
        self.removeObservers()
        if self.gui is not None:
            self.gui.close()

    def onSceneStartClose(self, _caller, _event):
        """Forget the nodes before they go."""
        self.gui.scene_closes()

    def onSceneEndClose(self, _caller, _event):
        """Begin anew when the module is on the screen."""
        if self.parent.isEntered:
            self.enter()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onSceneChanged(self, _caller, _event, node):
        """Follow the volumes and segmentations that come and go."""
        self.gui.node_came_or_went(node)


class Diff4MMLiTSLogic(ScriptedLoadableModuleLogic):
    """The functions for the Python console: ``slicer.util.getModuleLogic("Diff4MMLiTS")``.

    Each returns at once with a job: ``job.wait()``, ``job.cancel()``, ``job.progress``, ``job.result``.
    """

    def getParameterNode(self):
        """Return the typed parameter node."""
        from Diff4MMLiTSLib.gui.parameters import Parameters

        return Parameters(super().getParameterNode())

    def __getattr__(self, name):
        """Return a function of Diff4MMLiTSLib.gui.logic: study_of_scene, register, segment and so on."""
        if name.startswith("_"):
            raise AttributeError(name)
        from Diff4MMLiTSLib.gui import logic

        return getattr(logic, name)


class Diff4MMLiTSTest(ScriptedLoadableModuleTest):
    """Runs the self tests of Testing/Slicer in this Slicer; they fail, not warn."""

    def runTest(self):
        """Run the tests that need nothing installed."""
        from Diff4MMLiTSLib.gui.self_test import run

        run()
