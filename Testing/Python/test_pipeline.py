"""The stages work together: later ones honor what registration says about its result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from Diff4MMLiTSLib import pipeline
from Diff4MMLiTSLib.cohort import Workers, local_workers
from Diff4MMLiTSLib.core.config import (
    InpaintConfig,
    InpainterNetwork,
    Method,
    ModelCard,
    ModelKind,
    RegisterConfig,
    SegmentConfig,
)
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import TUMOR_FREE, HistoryEntry, PhaseQA, StageQA, Verdict
from Diff4MMLiTSLib.core.study_io import read_normal, read_registered, read_segmentation, write_study
from Diff4MMLiTSLib.nets.inpainter import Inpainter
from Diff4MMLiTSLib.nets.segmenter import build_segmenter
from Diff4MMLiTSLib.stages.inpainting import NormalCTGenerator
from Diff4MMLiTSLib.stages.segmentation import MultimodalSegmenter
from Diff4MMLiTSLib.training.checkpoint import save_model
from Diff4MMLiTSLib.training.segmenter_task import NETWORK, fresh_segmenter
from tiny_models import segmenter_card, segmenter_config


@pytest.fixture
def a_rejected_phase(a_study):
    """A study whose AP shows something else, which registration noticed."""
    wrong = Volume(np.asarray(a_study.phases[Phase.AP].array)[::-1].copy(), a_study.grid)
    judged = {Phase.AP: PhaseQA(Verdict.REJECT, ("upside down",))}
    qa = {"register": StageQA(Verdict.REJECT, 1.0, phases=judged)}
    return replace(a_study, phases={**a_study.phases, Phase.AP: wrong}, qa=qa)


@pytest.fixture
def a_segmenter(monkeypatch):
    torch.manual_seed(0)
    config = segmenter_config()
    segmenter = MultimodalSegmenter(build_segmenter(config.network), segmenter_card(config), "0" * 64)
    monkeypatch.setattr(pipeline, "_load_segmenter", lambda *_: segmenter)


def test_a_rejected_phase_changes_no_segmentation(a_rejected_phase, a_segmenter, tmp_path):
    alone = replace(a_rejected_phase, phases={Phase.PVP: a_rejected_phase.reference}, qa={})
    write_study(a_rejected_phase, tmp_path / "in" / "rejected")
    write_study(alone, tmp_path / "in" / "alone")
    config, options = SegmentConfig(probability=True), pipeline.RunOptions(device="cpu")
    pipeline.segment_cohort(
        tmp_path / "in", tmp_path / "out", model=tmp_path, config=config, options=options, progress=silent()
    )
    found = [read_segmentation(tmp_path / "out" / name).probability for name in ("rejected", "alone")]
    assert np.array_equal(found[0].array, found[1].array)


def test_a_local_cluster_registers_a_cohort(a_study, tmp_path):
    for name in ("a", "b"):
        write_study(replace(a_study, study_id=name), tmp_path / "in" / name)
    options = pipeline.RunOptions(device="cpu", workers=Workers(count=2))
    config = RegisterConfig(method=Method.NONE)
    result = pipeline.register_cohort(
        tmp_path / "in", tmp_path / "out", config=config, options=options, progress=silent()
    )
    assert result.written == ("a", "b") and not result.failed
    assert read_registered(tmp_path / "out" / "b").qa["register"].notes["liver"] == "given"


def test_a_relative_model_is_found_by_workers_that_were_started_elsewhere(a_study, tmp_path, monkeypatch):
    config = segmenter_config()
    network = fresh_segmenter(config.network, seed=0)
    save_model(tmp_path / "model", segmenter_card(config), {NETWORK: network.state_dict()})
    for name in ("a", "b"):
        write_study(replace(a_study, study_id=name), tmp_path / "in" / name)
    with local_workers(2, tmp_path) as workers:
        monkeypatch.chdir(tmp_path)
        options = pipeline.RunOptions(device="cpu", workers=workers)
        model, config = Path("model"), SegmentConfig()
        result = pipeline.segment_cohort(
            Path("in"), Path("out"), model=model, config=config, options=options, progress=silent()
        )
    assert result.written == ("a", "b") and not result.failed


def test_a_tumor_free_study_passes_inpainting_with_its_own_history(a_study, tmp_path, monkeypatch):
    card = ModelCard(kind=ModelKind.INPAINTER, name="tiny", spacing_mm=2.0, window_hu=(-175, 400), networks={}, seed=0)
    generator = NormalCTGenerator(Inpainter(InpainterNetwork(channels=4, downsamplings=1, blocks=1)), card, "0" * 64)
    monkeypatch.setattr(pipeline, "_load_generator", lambda *_: generator)
    registered = HistoryEntry("register", "0", {}, inputs={"PVP.nrrd": "of the unregistered study"})
    write_study(replace(a_study, tumor=TUMOR_FREE, history=(registered,)), tmp_path / "in")
    options, config = pipeline.RunOptions(device="cpu"), InpaintConfig()
    pipeline.inpaint_cohort(
        tmp_path / "in", tmp_path / "out", model=tmp_path, config=config, options=options, progress=silent()
    )
    assert read_normal(tmp_path / "out" / "in").study.history == (registered,)


def test_a_model_that_was_trained_anew_is_read_anew(tmp_path):
    config = segmenter_config()
    for seed in (0, 1):
        network = fresh_segmenter(config.network, seed=seed)
        save_model(tmp_path / "model", segmenter_card(config), {NETWORK: network.state_dict()}, force=True)
        loaded = pipeline._load_segmenter(tmp_path / "model", "cpu")
        assert all(map(torch.equal, network.parameters(), loaded.network.parameters()))
        assert pipeline._load_segmenter(tmp_path / "model", "cpu") is loaded
