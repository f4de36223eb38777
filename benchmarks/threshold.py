"""How soon the tumors follow the threshold slider of the Slicer module, in a study of 512 x 512 x 150 with 20 tumors.

    .venv/bin/python benchmarks/threshold.py

Needs slicer-core: the scene, its segments and surfaces are Slicer's own. What the views draw afterwards is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import slicer

from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.study import HistoryEntry, Mask, MaskSource, Segmentation
from Diff4MMLiTSLib.core.study_io import read_study, write_segmentation

SHAPE, SPACING_MM = (150, 512, 512), (2.0, 0.75, 0.75)
TUMORS, RADIUS_MM, BORDER_MM = 20, (4.0, 15.0), 1.5
LIVER_CENTER, LIVER_RADIUS = (75, 250, 200), (60, 150, 130)


def main() -> None:
    """Make the study, move its threshold, and print what each step takes."""
    open_scene()
    from Diff4MMLiTSLib.gui.lesions import liver_enhancement, measure_lesions
    from Diff4MMLiTSLib.gui.refinement import Refinement
    from Diff4MMLiTSLib.gui.scene import SceneStudy, load_segmentation, write_study

    liver, probability = anatomy(np.random.default_rng(0))
    values = np.where(liver, 110, -100).astype(np.int16)
    values[:, :60] = -1000
    study = SceneStudy("study", {phase: add_volume(values, phase) for phase in ALL_PHASES})
    with TemporaryDirectory() as folder:
        place = Path(folder)
        written = write_study(SceneStudy("study", {Phase.PVP: study.reference}), place / "in")
        write_result(written, liver, probability, place / "out")
        result = load_segmentation(place / "out", study)
        refinement = Refinement(result)
        timed("first move of a drag", lambda: refinement.set_threshold(0.45, is_final=False))
        for threshold in (0.4, 0.6, 0.3):
            timed("next move", lambda to=threshold: refinement.set_threshold(to, is_final=False))
        timed("end of the drag, with surfaces", lambda: refinement.set_threshold(0.3))
        timed("table", lambda: (measure_lesions(result.node, study), liver_enhancement(result.node, study)))
        timed("undo", refinement.undo)


def timed(name: str, action: Callable[[], object]) -> None:
    """Do something and print how long it took: by the clock, and on the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    print(f"{name:<32} {time.perf_counter() - wall:6.2f} s   {time.process_time() - processor:6.2f} s of the processor")


def open_scene() -> None:
    """Make a scene with the logics that the application would have made."""
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    logics = {
        "volumes": slicer.vtkSlicerVolumesLogic(),
        "segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
    }
    for name, logic in logics.items():
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
        logic.SetMRMLScene(scene)
    slicer.mrmlScene = scene
    slicer.modules = SimpleNamespace(**{n: SimpleNamespace(logic=lambda kept=each: kept) for n, each in logics.items()})
    slicer.keep_alive = application


def anatomy(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a liver and the probability of its tumors, 0 to 255, both (Z, Y, X)."""
    axes = np.ogrid[tuple(slice(size) for size in SHAPE)]
    parts = zip(axes, LIVER_CENTER, LIVER_RADIUS, strict=True)
    liver = sum(((axis - at) / radius) ** 2 for axis, at, radius in parts) < 1
    probability = np.zeros(SHAPE, np.uint8)
    for center in rng.permutation(np.argwhere(liver))[:TUMORS]:
        radius_mm = rng.uniform(*RADIUS_MM)
        reach = np.ceil(2.2 * radius_mm / np.array(SPACING_MM)).astype(int)
        box = tuple(slice(max(0, at - far), at + far + 1) for at, far in zip(center, reach, strict=True))
        away = [(axis[_part(axis, box)] - at) * mm for axis, at, mm in zip(axes, center, SPACING_MM, strict=True)]
        distance = np.sqrt(sum(each**2 for each in away))
        found = (255 / (1 + np.exp((distance - radius_mm) / BORDER_MM))).astype(np.uint8)
        probability[box] = np.maximum(probability[box], found)
    return liver, probability


def _part(axis: np.ndarray, box: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(part if size > 1 else slice(None) for part, size in zip(box, axis.shape, strict=True))


def add_volume(values: np.ndarray, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a phase to the scene."""
    from Diff4MMLiTSLib.gui.world import image_of

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetAndObserveImageData(image_of(values))
    node.SetSpacing(*SPACING_MM[::-1])
    return node


def write_result(written: Path, liver: np.ndarray, probability: np.ndarray, folder: Path) -> None:
    """Write what the engine would have found."""
    grid = read_study(written).grid
    masks = [Mask(Volume(m.astype(np.uint8), grid), MaskSource.MODEL) for m in (liver, liver & (probability > 127))]
    entry = HistoryEntry("segment", "1", {"minimum_tumor_ml": 0.05})
    write_segmentation(Segmentation("study", *masks, Phase.PVP, Volume(probability, grid), history=(entry,)), folder)


if __name__ == "__main__":
    main()
