from __future__ import annotations

import pytest
import torch

from Diff4MMLiTSLib.core.config import SegmenterArchitecture, SegmenterNetwork, build_config
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.nets.segmenter import INPUT_CHANNELS, build_segmenter, resolutions, segmenter_input


@pytest.mark.parametrize("architecture", list(SegmenterArchitecture))
def test_every_architecture_gives_three_classes_at_full_resolution(architecture: SegmenterArchitecture) -> None:
    swin = architecture is SegmenterArchitecture.SWIN_UNETR
    channels, size = ((12, 24, 48), 64) if swin else ((8, 16, 32), 16)
    config = SegmenterNetwork(architecture=architecture, channels=channels, patch=(size, size, size))
    with torch.no_grad():
        output = build_segmenter(config).eval()(torch.zeros(1, INPUT_CHANNELS, size, size, size))
    assert output.shape == (1, 3, size, size, size)


def test_a_dynunet_in_training_returns_its_supervised_resolutions() -> None:
    config = SegmenterNetwork(channels=(8, 16, 32, 64), deep_supervision=2, patch=(32, 32, 32))
    outputs = resolutions(build_segmenter(config).train()(torch.zeros(2, INPUT_CHANNELS, 32, 32, 32)))
    assert [output.shape for output in outputs] == [(2, 3, 32, 32, 32)] * 3


def test_a_missing_phase_is_zero_in_image_and_flag() -> None:
    images = torch.ones(1, 4, 2, 2, 2)
    planes = segmenter_input(images, torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
    assert planes[0, :, 0, 0, 0].tolist() == [1, 0, 1, 0, 1, 0, 1, 0, 0, 0]


def test_clicks_come_last() -> None:
    clicks = torch.stack((torch.full((2, 2, 2), 3.0), torch.full((2, 2, 2), 4.0)))[None]
    planes = segmenter_input(torch.zeros(1, 4, 2, 2, 2), torch.ones(1, 4), clicks)
    assert planes[0, -2:, 0, 0, 0].tolist() == [3, 4]


@pytest.mark.parametrize("patch", [(18, 16, 16), (4, 16, 16)])
def test_a_patch_that_the_network_cannot_halve_is_refused(patch: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="times 4"):
        build_config(SegmenterNetwork, {"channels": (8, 16, 32), "patch": patch})
