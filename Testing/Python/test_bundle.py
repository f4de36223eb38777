"""What a bundle runs refuses what is no registered study, with a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from Diff4MMLiTSLib.bundle import load_segmenter, segment_files
from Diff4MMLiTSLib.core.errors import InputError, MissingError
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.images import write_volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.stages.segmentation import MultimodalSegmenter
from Diff4MMLiTSLib.training.segmenter_task import fresh_segmenter
from tiny_models import segmenter_card, segmenter_config


@pytest.fixture
def a_segmenter() -> MultimodalSegmenter:
    config = segmenter_config()
    return MultimodalSegmenter(fresh_segmenter(config.network, seed=1), segmenter_card(config), "0" * 64)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"PVP": None}, "at least one phase, for example --PVP"),
        ({"venous": "x.nrrd"}, "Unknown phase name 'venous'"),
        ({"PVP": "absent.nrrd"}, r"no file 'absent\.nrrd'"),
    ],
)
def test_without_readable_phases_it_says_what_to_give(a_segmenter, tmp_path, files, words):
    with pytest.raises(InputError, match=words):
        segment_files(a_segmenter, files, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_phases_on_different_grids_are_refused(a_segmenter, a_study, tmp_path):
    moved = replace(a_study.grid, origin_mm=(0.0, 0.0, 0.0))
    write_volume(a_study.phases[Phase.PVP], tmp_path / "PVP.nrrd")
    write_volume(Volume(a_study.phases[Phase.AP].array, moved), tmp_path / "AP.nrrd")
    with pytest.raises(InputError, match=r"Phase AP .* lies on another grid"):
        segment_files(a_segmenter, {name: str(tmp_path / f"{name}.nrrd") for name in ("PVP", "AP")}, str(tmp_path))


def test_a_folder_without_a_model_is_missing(tmp_path):
    with pytest.raises(MissingError, match=r"model\.json"):
        load_segmenter(str(tmp_path))
