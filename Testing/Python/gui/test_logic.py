"""From the scene through the real engine in a child process and back into the scene."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
import slicer

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study_io import read_segmentation
from Diff4MMLiTSLib.core.study_io import write_study as write_study_folder
from Diff4MMLiTSLib.gui import logic
from Diff4MMLiTSLib.gui.job import JobCanceled, JobFailed, JobState
from Diff4MMLiTSLib.gui.models import list_models
from Diff4MMLiTSLib.gui.refinement import Refinement
from Diff4MMLiTSLib.gui.roles import set_role
from Diff4MMLiTSLib.gui.scene import load_study
from Diff4MMLiTSLib.gui.segments import liver_id
from gui.fake_engine import until
from gui.scene_factory import add_liver, add_volume, ijk_to_ras, smooth_values

PATIENCE_S = 900


@pytest.fixture(scope="module")
def a_model(tmp_path_factory):
    """A segmenter that learned nothing, but runs."""
    from Diff4MMLiTSLib.nets.segmenter import build_segmenter
    from Diff4MMLiTSLib.training.checkpoint import save_model
    from Diff4MMLiTSLib.training.segmenter_task import NETWORK
    from tiny_models import segmenter_card, segmenter_config

    folder = tmp_path_factory.mktemp("models ü") / "tiny"
    config = segmenter_config()
    network = build_segmenter(config.network)
    save_model(folder, segmenter_card(config), {NETWORK: network.state_dict()})
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where temporary files go: a long name with spaces and letters of several scripts."""
    folder = tmp_path / "Übung 肝臓" / ("long " * 30).strip()
    folder.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def a_loaded_study(scene, a_study, tmp_path):
    """Two phases in the scene that the engine does not know to be aligned."""
    write_study_folder(a_study, tmp_path / "study 1 ü")
    study = load_study(tmp_path / "study 1 ü")
    for volume in study.phases.values():
        volume.RemoveNodeReferenceIDs("Diff4MMLiTS.AlignedTo")
    return study


def test_volumes_of_the_scene_are_registered_and_segmented_by_the_real_engine(a_loaded_study, a_model, place):
    registration = logic.register(a_loaded_study, method="rigid", device="cpu").wait(PATIENCE_S)
    assert registration.aligned.is_aligned
    assert set(registration.qa) >= {Phase.AP}
    assert list(place.iterdir()) == []  # nothing of a registration stays on the disk
    chosen = logic.study_of_scene("study 1 ü")
    assert chosen.phases == registration.aligned.phases
    assert chosen.liver.segment_id == liver_id(a_loaded_study.liver.node)

    job = logic.segment(chosen, model=a_model, device="cpu")
    result = job.wait(PATIENCE_S)
    assert job.progress.fraction == 1.0
    assert result.study is chosen
    assert result.node.GetSegmentation().GetSegment("Liver") is not None
    assert result.intended_use
    found = read_segmentation(result.folder)
    assert found.probability is not None
    Refinement(result).set_threshold(0.01)
    del job, result
    gc.collect()
    assert list(place.iterdir()) == []  # its folder went with the result


def test_an_error_of_the_engine_reaches_the_user_with_its_remedy(a_loaded_study, place):
    job = logic.register(a_loaded_study, method="bend", device="cpu")
    with pytest.raises(JobFailed, match="'bend'") as caught:
        job.wait(PATIENCE_S)
    assert caught.value.error.code == "bad_input"
    assert "--help" in caught.value.error.hint
    assert list(place.iterdir()) == []


def test_a_canceled_job_leaves_nothing(scene, a_loaded_study, place):
    before = scene.GetNumberOfNodes()
    job = logic.register(a_loaded_study, method="deformable", device="cpu")
    until(lambda: job.poll() is not JobState.IDLE)
    job.cancel()
    with pytest.raises(JobCanceled):
        job.wait(PATIENCE_S)
    assert list(place.iterdir()) == []
    assert scene.GetNumberOfNodes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_batches_run_the_commands_that_a_shell_would(tmp_path, monkeypatch):
    recorder = tmp_path / "python"
    recorder.write_text('#!/bin/sh\necho "{\\"event\\": \\"result\\", \\"path\\": \\"$*\\"}"\n')
    recorder.chmod(0o755)
    monkeypatch.setenv("DIFF4MMLITS_PYTHON", str(recorder))
    monkeypatch.chdir(tmp_path)
    jobs = [
        logic.import_images(Path("dicom"), Path("cohort")),
        logic.register_folder(Path("cohort"), Path("aligned"), method="affine"),
        logic.segment_folder(Path("aligned"), Path("out"), model=Path("model"), device="cpu", fast=True),
    ]
    ran = [str(job.wait(60)).replace(str(tmp_path), "").removeprefix("-m Diff4MMLiTSLib ") for job in jobs]
    assert ran == [
        "import /dicom /cohort --from dicom --progress json",
        "register /cohort /aligned --method affine --device auto --progress json",
        "segment /aligned /out --model /model --device cpu --fast --progress json",
    ]


def test_the_study_of_the_scene_has_no_name_of_the_patient_and_refuses_duplicates(scene):
    volumes = [add_volume(smooth_values(), ijk_to_ras(), name) for name in ("Müller AP", "Müller PVP", "other")]
    with pytest.raises(InputError, match="without any phase"):
        logic.study_of_scene()
    set_role(volumes[0], Phase.AP)
    set_role(volumes[1], Phase.PVP)
    set_role(volumes[2], None)
    study = logic.study_of_scene()
    assert (study.study_id, list(study.phases)) == ("study", [Phase.AP, Phase.PVP])
    assert study.liver is None
    set_role(volumes[2], Phase.AP)
    with pytest.raises(InputError, match="'Müller AP' and 'other' are both AP"):
        logic.study_of_scene()


def test_a_liver_is_found_by_its_terminology_whatever_it_is_called(scene):
    volume = add_volume(smooth_values(), ijk_to_ras())
    node = add_liver(volume, smooth_values() > 0)
    node.GetSegmentation().GetSegment("Liver").SetName("Foie")
    assert logic.find_liver_segment().segment_id == "Liver"
    segment = slicer.vtkSegment()
    segment.SetName("liver")
    node.GetSegmentation().RemoveSegment("Liver")
    node.GetSegmentation().AddSegment(segment, "by hand")
    assert logic.find_liver_segment().segment_id == "by hand"
    node.GetSegmentation().RemoveAllSegments()
    assert logic.find_liver_segment() is None


def test_a_model_is_named_by_its_name_or_its_folder(a_model, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF4MMLITS_MODELS", str(a_model.parent))
    name = next(model.name for model in list_models("segmenter") if model.folder == a_model)
    for given in (name, a_model, str(a_model)):
        assert logic._model(given, "cpu") == ["--model", str(a_model), "--device", "cpu"]
