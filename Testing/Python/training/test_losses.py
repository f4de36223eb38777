from __future__ import annotations

import torch
from torch.nn import functional

from Diff4MMLiTSLib.training.losses import deep_supervision_loss, dice_cross_entropy

LABELS = torch.randint(0, 3, (2, 6, 6, 6), generator=torch.Generator().manual_seed(0))
PERFECT = 50.0 * functional.one_hot(LABELS, 3).movedim(-1, 1).float()


def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_much() -> None:
    assert dice_cross_entropy(PERFECT, LABELS) < 0.01
    assert dice_cross_entropy(PERFECT.roll(1, dims=1), LABELS) > 10


def test_a_class_that_is_absent_and_not_predicted_costs_nothing() -> None:
    labels = torch.zeros(1, 6, 6, 6, dtype=torch.int64)
    logits = 50.0 * functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert dice_cross_entropy(logits, labels) < 0.01


def test_finding_a_small_tumor_matters_as_much_as_the_large_liver() -> None:
    labels = torch.ones(1, 10, 10, 10, dtype=torch.int64)
    labels[0, 0, 0, 0] = 2
    overlooked = 10.0 * functional.one_hot(torch.ones_like(labels), 3).movedim(-1, 1).float()
    found = 10.0 * functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert dice_cross_entropy(overlooked, labels) - dice_cross_entropy(found, labels) > 0.2


def test_coarser_resolutions_count_half_as_much() -> None:
    wrong = PERFECT.roll(1, dims=1)
    fine, coarse = deep_supervision_loss([wrong, PERFECT], LABELS), deep_supervision_loss([PERFECT, wrong], LABELS)
    assert torch.isclose(fine, 2 * coarse, rtol=1e-3)
