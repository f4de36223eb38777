"""A scene of Slicer's own MRML, without the application: the module finds it as it finds it in the application."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import slicer


@pytest.fixture(scope="session")
def mrml():
    """A scene and the logics that the application would have made; they register the converters of segments."""
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    logics = {
        "Colors": slicer.vtkMRMLColorLogic(),
        "volumes": slicer.vtkSlicerVolumesLogic(),
        "segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
        "transforms": slicer.vtkSlicerTransformLogic(),
    }
    for name, logic in logics.items():
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
        logic.SetMRMLScene(scene)
    modules = {name: SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()}
    return scene, SimpleNamespace(**modules), application


@pytest.fixture
def scene(mrml, monkeypatch):
    """An empty scene as ``slicer.mrmlScene``, and the modules that go with it."""
    scene, modules, _application = mrml
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    monkeypatch.setattr(slicer, "modules", modules, raising=False)
    scene.Clear(0)
    yield scene
    scene.Clear(0)
