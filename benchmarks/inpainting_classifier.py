"""A classifier that tries to tell filled patches from the genuine liver at the same places, on studies it never saw."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

FOLDS = 5
DECAY = 0.03
"""Weight of the L2 penalty, per sample."""
FloatArray = NDArray[np.float32]


def detection_accuracy(genuine: FloatArray, filled: FloatArray, studies: NDArray[np.int64]) -> float:
    """Return the balanced accuracy of logistic regression on texture features; 0.5 = cannot be told apart.

    Args:
        genuine: Patches (N, P, Z, Y, X), HU minus the patient's median; 0 in missing phases.
        filled: The same places, filled.
        studies: Number of the study of each patch, (N,); no study is in training and test at once.
    """
    features = np.concatenate([features_of(patch)[None] for patch in (*genuine, *filled)])
    labels = np.repeat([0, 1], len(genuine))
    both = np.concatenate([studies, studies])
    folds = np.array([int(np.flatnonzero(np.unique(studies) == study)[0]) % FOLDS for study in both])
    correct = np.zeros(len(labels), dtype=bool)
    for fold in range(FOLDS):
        test = folds == fold
        if test.any():
            correct[test] = _predict(features[~test], labels[~test], features[test]) == labels[test]
    return float(np.mean([correct[labels == label].mean() for label in (0, 1)]))


def features_of(patch: FloatArray) -> NDArray[np.float64]:
    """Return what describes the texture of a patch (P, Z, Y, X): per phase, and between neighboring phases."""
    found: list[float] = []
    for values in patch:
        found += _phase_features(values)
    for first, second in pairwise(patch):
        found.append(_correlation(first, second))
        found.append(_correlation(ndimage.gaussian_filter(first, 1.5), ndimage.gaussian_filter(second, 1.5)))
    return np.array(found)


def _phase_features(values: FloatArray) -> list[float]:
    centered = values - values.mean()
    deviation = float(centered.std())
    if deviation < 1e-6:  # a missing phase
        return [0.0] * 16
    smooth = ndimage.gaussian_filter(values, 1.5)
    unit = centered / deviation
    lags = [
        _correlation(values.take(range(n - k), axis), values.take(range(k, n), axis)) for axis, n, k in _lags(values)
    ]
    edges = [float(np.log(np.abs(np.diff(values, axis=axis)).mean() + 0.1)) for axis in range(3)]
    return [
        float(values.mean()),
        float(np.log(deviation + 0.1)),
        float(np.log(smooth.std() + 0.1)),
        float((unit**3).mean()),
        float((unit**4).mean()),
        float(smooth.max()),
        float(smooth.min()),
        *lags,
        *edges,
    ]


def _lags(values: FloatArray) -> list[tuple[int, int, int]]:
    return [(axis, values.shape[axis], lag) for axis in range(3) for lag in (1, 2)]


def _correlation(first: FloatArray, second: FloatArray) -> float:
    one, other = first - first.mean(), second - second.mean()
    return float((one * other).mean() / max(float(one.std() * other.std()), 1e-6))


def _predict(training: NDArray[np.float64], labels: NDArray[np.int64], test: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the labels of test features, by logistic regression on standardized features and their squares."""
    genuine = training[labels == 0]
    center, scale = genuine.mean(axis=0), genuine.std(axis=0) + 1e-6

    def expanded(features: NDArray[np.float64]) -> torch.Tensor:
        unit = np.clip((features - center) / scale, -5, 5)
        return torch.from_numpy(np.concatenate([unit, unit**2 - 1, np.ones((len(unit), 1))], axis=1)).double()

    known, wanted = expanded(training), torch.from_numpy(labels).double()
    weights = torch.zeros(known.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(known @ weights, wanted)
        value = value + DECAY * weights[:-1].square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return value

    optimizer.step(loss)  # type: ignore[arg-type]  # LBFGS takes a tensor
    return np.asarray((expanded(test) @ weights.detach() > 0).numpy().astype(np.int64))
