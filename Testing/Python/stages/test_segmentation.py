from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion
from torch import nn

from conftest import ball
from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.config import ModelKind, SegmentConfig
from Diff4MMLiTSLib.core.errors import CanceledError, MissingError
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.progress import Progress, silent
from Diff4MMLiTSLib.core.study import MaskSource, PhaseQA, RegisteredStudy, Segmentation, StageQA, Verdict
from Diff4MMLiTSLib.core.study_io import write_study
from Diff4MMLiTSLib.stages.segmentation import MultimodalSegmenter
from Diff4MMLiTSLib.training.checkpoint import save_model
from Diff4MMLiTSLib.training.segmenter_task import COARSE_FACTOR, NETWORK, fresh_segmenter
from tiny_models import segmenter_card, segmenter_config

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


class Bright(nn.Module):
    """Calls voxels above 50 HU liver and voxels above 150 HU tumor, seen in the brightest phase."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(40.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = x[:, :4].amax(dim=1, keepdim=True)
        limits = [(hu + 175) * 2 / 425 - 1 for hu in (50, 150)]
        liver, tumor = (self.scale * (values - limit) for limit in limits)
        return torch.cat((torch.zeros_like(liver), liver, liver + tumor), dim=1)


@pytest.fixture
def a_segmenter() -> MultimodalSegmenter:
    card = segmenter_card(segmenter_config(), name="bright")
    return MultimodalSegmenter(Bright(), card, "0" * 64)


@pytest.fixture
def a_model(tmp_path: Path) -> Path:
    config = segmenter_config()
    card = segmenter_card(config, name="tiny")
    save_model(tmp_path / "model", card, {NETWORK: fresh_segmenter(config.network, seed=0).state_dict()})
    return tmp_path / "model"


def bright_study(grid: Grid, phases: tuple[Phase, ...] = (Phase.PVP,)) -> RegisteredStudy:
    liver, tumor = ball(grid, grid.center_mm + 4, 24.0), ball(grid, grid.center_mm + np.array([8.0, 0, 0]), 9.0)
    values = np.where(tumor, 200, np.where(liver, 100, -100)).astype(np.int16)
    return RegisteredStudy("bright", dict.fromkeys(phases, Volume(values, grid)), phases[0])


def segment(model: MultimodalSegmenter, study: RegisteredStudy, **options: object) -> Segmentation:
    return model.segment(study, config=SegmentConfig(**options), progress=silent())


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return 2 * float((one & two).sum()) / float(one.sum() + two.sum())


@pytest.mark.parametrize("direction", [IDENTITY, FLIPPED, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize(("size", "spacing"), [((30, 34, 28), (2.0, 2.0, 2.5)), ((60, 56, 12), (1.0, 1.1, 6.0))])
def test_masks_lie_on_the_grid_of_the_study_however_it_lies(
    a_segmenter: MultimodalSegmenter,
    direction: tuple[float, ...],
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> None:
    study = bright_study(Grid(size, spacing, (-30.0, 400.0, 7.0), direction))
    found = segment(a_segmenter, study)
    values = np.asarray(study.reference.array)
    assert found.tumor.volume.grid == found.liver.volume.grid == study.grid
    assert dice(found.liver.array, values > 50) > 0.9
    assert dice(found.tumor.array, values > 150) > 0.8


def test_tumors_of_which_no_voxel_is_sure_are_left_out(a_segmenter: MultimodalSegmenter) -> None:
    study = bright_study(Grid((30, 34, 28), (2.0, 2.0, 2.5)))
    a_segmenter.network.scale.data.fill_(1.0)  # sure of little
    assert segment(a_segmenter, study, sure_tumor=0.0).tumor.array.any()
    assert not segment(a_segmenter, study, sure_tumor=1.0).tumor.array.any()


def study_with_a_neighbor() -> RegisteredStudy:
    grid = Grid((70, 34, 34), (2.0, 2.0, 2.0))
    values = np.full(grid.shape, -100, dtype=np.int16)
    values[4:30, 4:30, 4:36] = 100
    values[16:18, 16:18, 36:46] = 100
    values[8:26, 8:26, 46:64] = 200
    return RegisteredStudy("two", {Phase.PVP: Volume(values, grid)}, Phase.PVP)


def test_what_hangs_on_the_liver_by_a_neck_is_neither_liver_nor_tumor(a_segmenter: MultimodalSegmenter) -> None:
    found = segment(a_segmenter, study_with_a_neighbor())
    assert found.liver.array[:, :, :34].sum() > 0.9 * 26 * 26 * 32
    assert not found.liver.array[:, :, 48:].any()
    assert not found.tumor.array.any()


def test_what_was_cut_off_is_as_uncertain_as_the_network_was(a_segmenter: MultimodalSegmenter) -> None:
    a_segmenter.network.scale.data.fill_(8.0)  # not sure
    found = segment(a_segmenter, study_with_a_neighbor(), uncertainty=True, probability=True)
    assert found.uncertainty is not None and found.probability is not None
    cut_off = (slice(10, 24), slice(10, 24), slice(49, 62))
    assert not np.asarray(found.probability.array)[cut_off].any()
    assert np.asarray(found.uncertainty.array)[cut_off].min() > 50


@pytest.mark.parametrize("direction", [IDENTITY, OBLIQUE])
def test_a_liver_that_is_searched_at_low_resolution_first_is_found_as_well(
    a_segmenter: MultimodalSegmenter, direction: tuple[float, ...]
) -> None:
    study = bright_study(Grid((60, 56, 40), (2.0, 2.0, 3.0), (-30.0, 400.0, 7.0), direction))
    card = a_segmenter.card.model_copy(update={"numbers": {COARSE_FACTOR: 2.0}})
    searching = replace(a_segmenter, card=card)
    found, expected = segment(searching, study), segment(a_segmenter, study)
    assert dice(found.liver.array, expected.liver.array) > 0.99
    assert dice(found.tumor.array, expected.tumor.array) > 0.99


def test_the_liver_is_searched_in_the_reference_phase_alone(a_segmenter: MultimodalSegmenter) -> None:
    presence: list[list[float]] = []

    def note(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        presence.append(inputs[0][0, 4:8, 0, 0, 0].tolist())

    a_segmenter.network.register_forward_pre_hook(note)
    card = a_segmenter.card.model_copy(update={"numbers": {COARSE_FACTOR: 2.0}})
    study = bright_study(Grid((60, 56, 40), (2.0, 2.0, 3.0)), (Phase.PVP, Phase.AP))
    segment(replace(a_segmenter, card=card), study)
    assert presence[0] == [0.0, 0.0, 1.0, 0.0]
    assert presence[-1] == [0.0, 1.0, 1.0, 0.0]


def test_fast_costs_fewer_windows_and_hardly_any_quality(a_segmenter: MultimodalSegmenter) -> None:
    study, fractions = bright_study(Grid((60, 56, 40), (2.0, 2.0, 3.0))), []
    progress = Progress(lambda fraction, *_: fractions.append(fraction), lambda: False)
    careful = a_segmenter.segment(study, config=SegmentConfig(), progress=progress)
    windows = len(fractions)
    fast = a_segmenter.segment(study, config=SegmentConfig().fast(), progress=progress)
    assert dice(fast.tumor.array, careful.tumor.array) > 0.97
    assert len(fractions) - windows < windows / 2


@pytest.mark.parametrize("subset", range(1, 16, 2))
def test_any_subset_of_the_phases_is_enough(a_model: Path, subset: int) -> None:
    phases = tuple(phase for bit, phase in enumerate(ALL_PHASES) if subset >> bit & 1)
    study = bright_study(Grid((14, 12, 10), (3.0, 3.0, 3.0)), phases)
    found = segment(MultimodalSegmenter.load(a_model), study)
    assert found.liver.volume.grid == study.grid


def test_a_phase_that_registration_rejected_has_no_influence(a_segmenter: MultimodalSegmenter) -> None:
    study = bright_study(Grid((20, 20, 20), (3.0, 3.0, 3.0)))
    wrong = Volume(np.full(study.grid.shape, 200, dtype=np.int16), study.grid)
    qa = {"register": StageQA(Verdict.REJECT, 1.0, phases={Phase.AP: PhaseQA(Verdict.REJECT)})}
    with_wrong = replace(study, phases={**study.phases, Phase.AP: wrong}, qa=qa)
    expected = segment(a_segmenter, study)
    assert np.array_equal(segment(a_segmenter, with_wrong).tumor.array, expected.tumor.array)
    assert not np.array_equal(segment(a_segmenter, replace(with_wrong, qa={})).tumor.array, expected.tumor.array)


def test_masks_and_labels_of_the_input_have_no_influence(
    a_segmenter: MultimodalSegmenter, a_study: RegisteredStudy
) -> None:
    with_masks, without = a_study, replace(a_study, liver=None, tumor=None)
    one, two = segment(a_segmenter, with_masks), segment(a_segmenter, without)
    assert np.array_equal(one.liver.array, two.liver.array)
    assert np.array_equal(one.tumor.array, two.tumor.array)


def test_the_output_is_byte_identical_with_masks_and_truth_deleted(
    a_model: Path, a_study: RegisteredStudy, tmp_path: Path
) -> None:
    write_study(a_study, tmp_path / "study", extras={"truth/phantom.json": "{}"})
    command = ["segment", str(tmp_path / "study"), "--model", str(a_model), "--device", "cpu", "--probability"]
    assert run([*command[:2], str(tmp_path / "one"), *command[2:]]) == 0
    for name in ("liver.nrrd", "tumor.nrrd"):
        (tmp_path / "study" / name).unlink()
    shutil.rmtree(tmp_path / "study" / "truth")
    assert run([*command[:2], str(tmp_path / "two"), *command[2:]]) == 0
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "study").iterdir()} for name in ("one", "two")
    )
    assert len(one) == 4
    assert one == two


def test_the_result_says_which_model_made_it(a_model: Path, a_study: RegisteredStudy) -> None:
    model = MultimodalSegmenter.load(a_model)
    found = segment(model, a_study)
    assert found.history[-1].stage == "segment"
    assert found.history[-1].models == {"tiny": model.model_hash}
    assert found.tumor.source is found.liver.source is MaskSource.MODEL


def test_the_probability_is_kept_when_asked_for(a_segmenter: MultimodalSegmenter) -> None:
    study = bright_study(Grid((20, 20, 20), (3.0, 3.0, 3.0)))
    found = segment(a_segmenter, study, probability=True)
    assert found.probability is not None
    assert found.probability.grid == study.grid
    assert np.asarray(found.probability.array)[found.tumor.array].min() > 120
    assert segment(a_segmenter, study).probability is None


def test_the_uncertainty_is_largest_at_the_borders(a_segmenter: MultimodalSegmenter) -> None:
    study = bright_study(Grid((30, 30, 30), (2.0, 2.0, 2.0)))
    found = segment(a_segmenter, study, uncertainty=True)
    assert found.uncertainty is not None
    unsure = np.asarray(found.uncertainty.array)
    border = binary_dilation(found.tumor.array) & ~found.tumor.array
    assert unsure[border].mean() > 10 + 3 * unsure[binary_erosion(found.tumor.array, iterations=2)].mean()
    assert segment(a_segmenter, study).uncertainty is None


def test_a_volume_without_liver_gives_empty_masks(a_segmenter: MultimodalSegmenter) -> None:
    grid = Grid((20, 20, 20), (3.0, 3.0, 3.0))
    air = RegisteredStudy("air", {Phase.PVP: Volume(np.full(grid.shape, -900, dtype=np.int16), grid)}, Phase.PVP)
    found = segment(a_segmenter, air)
    assert not found.liver.array.any()
    assert not found.tumor.array.any()


def test_the_liver_of_a_single_volume_lies_on_its_grid(a_segmenter: MultimodalSegmenter) -> None:
    study = bright_study(Grid((30, 34, 28), (2.0, 2.0, 2.5), direction=FLIPPED))
    mask = a_segmenter.liver(study.reference, phase=Phase.AP)
    assert dice(mask.array, np.asarray(study.reference.array) > 50) > 0.9


def test_a_request_to_stop_is_heard(a_segmenter: MultimodalSegmenter, a_study: RegisteredStudy) -> None:
    with pytest.raises(CanceledError):
        a_segmenter.segment(a_study, config=SegmentConfig(), progress=Progress(lambda *_: None, lambda: True))


def test_a_missing_model_and_one_of_another_kind_are_missing_errors(a_model: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no model in 'nowhere'"):
        MultimodalSegmenter.load(tmp_path / "nowhere")
    card = segmenter_card(segmenter_config(), name="x")
    save_model(tmp_path / "other", card.model_copy(update={"kind": ModelKind.INPAINTER}), {NETWORK: {}})
    with pytest.raises(MissingError, match="of kind inpainter"):
        MultimodalSegmenter.load(tmp_path / "other")


def test_weights_of_another_network_are_a_missing_error(a_model: Path, tmp_path: Path) -> None:
    card = segmenter_card(segmenter_config(), name="x")
    save_model(tmp_path / "odd", card, {NETWORK: {"weight": torch.zeros(3)}})
    with pytest.raises(MissingError, match="do not fit"):
        MultimodalSegmenter.load(tmp_path / "odd")
