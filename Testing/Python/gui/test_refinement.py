"""Tumors change by threshold and clicks, and every change can be undone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import slicer

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import HistoryEntry, Mask, MaskSource, Segmentation
from Diff4MMLiTSLib.core.study_io import read_segmentation, read_study, write_segmentation
from Diff4MMLiTSLib.gui.job import JobFailed, Worker
from Diff4MMLiTSLib.gui.refinement import Refinement
from Diff4MMLiTSLib.gui.scene import SceneClosedError, SceneStudy, load_segmentation, write_study
from Diff4MMLiTSLib.gui.segments import mask_of, set_tumors, tumor_ids
from Diff4MMLiTSLib.gui.world import lattice_of, matrix_of
from gui.fake_engine import PYTHON, install
from gui.scene_factory import SHAPE, add_volume, ijk_to_ras, smooth_values

SERVE = """
import pathlib, shutil
say(event='ready')
for line in sys.stdin:
    asked = json.loads(line)
    with open(rest[0], 'a') as stream:
        stream.write(line)
    if asked['clicks'][-1]['positive']:
        shutil.copytree(rest[1], asked['out'])
        say(event='result', request=asked['request'], path=asked['out'])
    else:
        say(event='error', request=asked['request'], code='bad_input', message='No tumor there', hint='Click on one')
"""


def probability():
    """Return a tumor whose probability falls with depth, and a speck that is too small."""
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[3:9, 5:15, 5:19] = 100
    values[4:8, 7:13, 8:16] = 200
    values[10, 17, 21] = 220
    return values


@pytest.fixture
def a_result(scene, tmp_path):
    node = add_volume(smooth_values(), ijk_to_ras(angle_deg=10))
    study = SceneStudy("study", {Phase.PVP: node})
    written = write_study(study, tmp_path / "in" / "study")
    write_result(written, tmp_path / "out" / "study", probability())
    return replace(load_segmentation(tmp_path / "out" / "study", study), study_folder=written)


def write_result(written, folder, values, **config):
    grid = read_study(written).grid
    liver = np.ones(SHAPE, dtype=np.uint8)
    tumor = np.where(values < 221, values, 0) > 127
    tumor[10, 17, 21] = False
    masks = [Mask(Volume(each.astype(np.uint8), grid), MaskSource.MODEL) for each in (liver, tumor)]
    entry = HistoryEntry("segment", "1", {"minimum_tumor_ml": 0.05, **config})
    result = Segmentation("study", *masks, Phase.PVP, Volume(values, grid), history=(entry,))
    write_segmentation(result, folder)


@pytest.fixture
def a_worker(tmp_path, a_result):
    added = np.where(np.indices(SHAPE)[2] < 3, 180, probability()).astype(np.uint8)
    write_result(a_result.study_folder, tmp_path / "answer", added)
    scenario = [SERVE, str(tmp_path / "asked"), str(tmp_path / "answer")]
    worker = Worker(scenario, python=PYTHON, environment=install(tmp_path / "engine"))
    yield worker
    worker.close()


def shown(result):
    """Return how many voxels of the scene are tumor."""
    return int(tumors(result).sum())


def tumors(result):
    lattice = lattice_of(result.study.reference)
    return mask_of(result.node, tumor_ids(result.node), SHAPE, lattice.to_world)


def test_the_threshold_moves_the_border_of_the_tumors(a_result):
    refinement = Refinement(a_result)
    whole, core = 6 * 10 * 14, 4 * 6 * 8
    assert shown(a_result) == core
    for threshold, voxels in ((0.3, whole), (0.6, core), (0.9, 0), (0.0, whole)):
        refinement.set_threshold(threshold)
        assert shown(a_result) == voxels  # the speck is below the smallest tumor of the engine
    assert len(tumor_ids(a_result.node)) == 1


def test_a_tumor_is_as_sure_as_the_engine_asks_above_the_threshold_too(scene, tmp_path):
    study = SceneStudy("study", {Phase.PVP: add_volume(smooth_values(), ijk_to_ras())})
    written = write_study(study, tmp_path / "in" / "study")
    values = probability()
    values[1, 1:6, 1:6] = 130
    write_result(written, tmp_path / "out" / "study", values, sure_tumor=0.7)
    result = load_segmentation(tmp_path / "out" / "study", study)
    refinement = Refinement(replace(result, study_folder=written))
    faint, core = 5 * 5, 4 * 6 * 8
    for threshold, voxels in ((0.51, core), (0.3, 6 * 10 * 14 + faint), (0.45, core), (0.6, 0)):
        refinement.set_threshold(threshold)
        assert shown(result) == voxels


def test_every_change_can_be_undone_and_made_again(a_result):
    refinement = Refinement(a_result)
    assert not refinement.can_undo
    first = shown(a_result)
    refinement.set_threshold(0.3)
    second = shown(a_result)
    refinement.set_threshold(0.9)
    refinement.undo()
    assert (shown(a_result), refinement.threshold) == (second, 0.3)
    refinement.undo()
    assert (shown(a_result), refinement.threshold, refinement.can_undo) == (first, 0.5, False)
    refinement.redo()
    refinement.redo()
    assert (shown(a_result), refinement.threshold, refinement.can_redo) == (0, 0.9, False)
    refinement.undo()
    refinement.set_threshold(0.4)
    assert not refinement.can_redo


def test_a_drag_of_the_slider_is_one_change(a_result):
    refinement = Refinement(a_result)
    first = shown(a_result)
    for threshold in (0.45, 0.4, 0.35, 0.3):
        refinement.set_threshold(threshold, is_final=False)
    refinement.set_threshold(0.3)
    refinement.undo()
    assert shown(a_result) == first
    assert not refinement.can_undo


def surfaces(result):
    """Return how many points the surface of each tumor has."""
    parts = [result.node.GetClosedSurfaceInternalRepresentation(each) for each in tumor_ids(result.node)]
    return [part.GetNumberOfPoints() for part in parts]


def test_while_the_slider_moves_no_surface_is_made(a_result):
    refinement = Refinement(a_result)
    assert surfaces(a_result)[0] > 0
    refinement.set_threshold(0.3, is_final=False)
    assert surfaces(a_result) == [0]
    refinement.set_threshold(0.3)
    assert surfaces(a_result)[0] > 0


def test_the_views_are_told_once_of_all_tumors(a_result):
    refinement, told = Refinement(a_result), []
    for event in (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved):
        a_result.node.AddObserver(event, lambda _node, name: told.append(name))
    scattered = np.zeros(SHAPE, dtype=bool)
    scattered[2:5, 3:7, 3:7] = scattered[8:10, 12:17, 15:20] = True
    set_tumors(a_result.node, scattered, matrix_of(a_result.study.reference))
    assert len(tumor_ids(a_result.node)) == 2
    refinement.set_threshold(0.3)
    assert len(told) == 4


def test_a_drag_that_ends_where_it_began_keeps_what_was_drawn_by_hand(a_result):
    refinement = Refinement(a_result)
    drawn = np.zeros(SHAPE, dtype=bool)
    drawn[2:5, 3:9, 3:9] = True
    set_tumors(a_result.node, drawn, matrix_of(a_result.study.reference))
    refinement.set_threshold(0.3, is_final=False)
    refinement.set_threshold(0.5)
    assert np.array_equal(tumors(a_result), drawn)
    assert surfaces(a_result)[0] > 0
    assert not refinement.can_undo


def test_undo_in_the_middle_of_a_drag_takes_the_drag_back_and_no_more(a_result):
    refinement = Refinement(a_result)
    refinement.set_threshold(0.3)
    before = shown(a_result)
    refinement.set_threshold(0.9, is_final=False)
    refinement.undo()
    assert (shown(a_result), refinement.threshold, refinement.can_undo) == (before, 0.3, True)
    refinement.redo()
    assert (shown(a_result), refinement.threshold) == (0, 0.9)


def test_undo_of_the_tumors_leaves_the_liver_alone(a_result):
    refinement = Refinement(a_result)
    liver = a_result.node.GetSegmentation().GetSegment("Liver")
    refinement.set_threshold(0.3)
    refinement.undo()
    assert a_result.node.GetSegmentation().GetSegment("Liver") is liver


def test_edits_by_hand_come_back_with_undo(a_result):
    refinement = Refinement(a_result)
    drawn = np.zeros(SHAPE, dtype=bool)
    drawn[2:5, 2:6, 2:8] = True
    set_tumors(a_result.node, drawn, matrix_of(a_result.study.reference))
    refinement.set_threshold(0.3)
    refinement.undo()
    assert np.array_equal(tumors(a_result), drawn)


def test_a_click_sends_the_tumors_as_they_are_and_shows_the_answer(a_result, a_worker, tmp_path):
    refinement = Refinement(a_result, a_worker)
    drawn = np.zeros(SHAPE, dtype=bool)
    drawn[2:5, 2:6, 2:8] = True
    set_tumors(a_result.node, drawn, matrix_of(a_result.study.reference))
    sent = []
    reply = refinement.click((10.0, -20.0, 30.0), positive=True)
    asked = tmp_path / "asked"
    while not reply.poll().is_final:
        if asked.exists() and not sent and asked.read_text().endswith("\n"):
            sent.append(json.loads(asked.read_text()))
            sent.append(read_segmentation(tmp_path / sent[0]["segmentation"]).tumor.array)
    assert reply.result is a_result.node
    assert sent[0]["clicks"] == [{"point_mm": [-10.0, 20.0, 30.0], "positive": True}]
    assert sent[0]["study"] == str(a_result.study_folder)
    assert np.array_equal(sent[1], drawn)
    assert shown(a_result) > drawn.sum()
    refinement.undo()
    assert np.array_equal(tumors(a_result), drawn)


def test_without_edits_the_worker_gets_its_own_last_answer_which_it_still_has(a_result, a_worker, tmp_path):
    refinement = Refinement(a_result, a_worker)
    refinement.click((0.0, 0.0, 0.0), positive=True).wait(60)
    refinement.click((0.0, 0.0, 40.0), positive=True).wait(60)
    refinement.undo()
    refinement.undo()
    refinement.click((0.0, 0.0, 10.0), positive=True).wait(60)
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    given = [each["segmentation"] for each in asked]
    assert given == [str(a_result.folder), asked[0]["out"], str(a_result.folder)]
    assert [len(each["clicks"]) for each in asked] == [1, 1, 1]


def test_a_tumor_that_the_user_added_is_never_too_small_for_the_threshold(a_result, a_worker):
    point = lattice_of(a_result.study.reference).to_world @ [21, 17, 10, 1]
    refinement = Refinement(a_result, a_worker)
    refinement.click(tuple(map(float, point[:3])), positive=True).wait(60)
    refinement.set_threshold(0.8)
    assert tumors(a_result)[10, 17, 21]
    refinement.undo()
    refinement.undo()
    refinement.set_threshold(0.8)
    assert shown(a_result) == 0


def test_a_click_that_is_refused_changes_nothing(a_result, a_worker):
    refinement = Refinement(a_result, a_worker)
    before = shown(a_result)
    with pytest.raises(JobFailed, match="No tumor there"):
        refinement.click((0.0, 0.0, 0.0), positive=False).wait(60)
    assert shown(a_result) == before
    assert not refinement.can_undo


def test_an_answer_after_the_scene_was_closed_is_harmless(scene, a_result, a_worker):
    refinement = Refinement(a_result, a_worker)
    reply = refinement.click((0.0, 0.0, 0.0), positive=True)
    scene.Clear(0)
    with pytest.raises(JobFailed) as caught:
        reply.wait(60)
    assert caught.value.error.code == "scene_closed"
    with pytest.raises(SceneClosedError):
        refinement.set_threshold(0.3)


def test_clicks_need_a_worker(a_result):
    with pytest.raises(InputError, match="no worker"):
        Refinement(a_result).click((0.0, 0.0, 0.0), positive=True)
