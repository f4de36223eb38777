"""Stage 1, pre-registration: bring every phase onto the reference phase, organ by organ level, and judge the result.

Source: the paper's first stage ("pre-registration of the target organ to the annotated phase"); its algorithm is not
public. Ours, measured in docs/registration.md: an exhaustive search over translations and a rigid refinement over the
liver, then a B-spline that climbs the mutual information, coarse to fine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch

from .. import __version__
from ..core.config import Method, RegisterConfig
from ..core.grid import Volume, resample
from ..core.phases import Phase
from ..core.progress import Progress
from ..core.study import HistoryEntry, Mask, PhaseQA, RegisteredStudy, StageQA, Study, worst
from .registration_deformable import Pair, Spline, register_deformable
from .registration_names import doubted_names, with_doubt
from .registration_qa import Alignment, judge, summarize
from .registration_region import around, guess_organ, sample_mask, without_border
from .registration_start import (
    AIR_HU,
    affine_from,
    box_around,
    find_shift,
    refine_linear,
    rigid_at,
    sample_with_coverage,
)

STAGE = "register"
SAMPLING_SEED = 0
"""Of the samples of the refinement: the same input gives the same result, whatever else is registered."""


@dataclass(frozen=True)
class LiverFinder:
    """Finds livers that nobody drew.

    Args:
        find: Takes one CT volume and returns its liver on the volume's grid; an empty mask when there is none.
        name: What ``qa.json`` calls it.
    """

    find: Callable[[Volume], Mask]
    name: str = "model"


@dataclass(frozen=True, eq=False)
class _Target:
    """What every phase of a study is aligned to: the reference CT, the organ and the region around it.

    ``origin`` says in words where the organ comes from; ``found`` is its mask when a finder made it.
    """

    reference: Volume
    organ: Mask
    region: Volume
    tumor: Mask | None
    origin: str
    found: Mask | None


@dataclass(frozen=True, eq=False)
class _Tools:
    """How the phases of a study are aligned: the settings, who finds livers, where the refinement computes."""

    config: RegisterConfig
    liver: LiverFinder | None
    device: torch.device


def register_study(
    study: Study,
    *,
    config: RegisterConfig,
    progress: Progress,
    liver: LiverFinder | None = None,
    device: torch.device | str = "cpu",
) -> RegisteredStudy:
    """Align every phase of a study to its reference phase over the liver and its surroundings.

    Args:
        study: Phases on their own grids.
        config: Method, accuracy and the thresholds of the verdict.
        progress: Updated and checked in every iteration.
        liver: Finds livers: in the reference phase when the study has no liver mask, and in the moving phases for the
            quality measures. Without it and without a mask the organ is guessed (see ``guess_organ``).
        device: Where the deformable refinement computes.

    Returns:
        All phases on the reference grid (-1000 HU where a phase has no data; the reference phase bit for bit), with
        transforms (point of reference -> point of phase), masks kept, history and ``qa["register"]``. A rejected phase
        stays, with its verdict.

    Raises:
        CanceledError: The user asked to stop.
    """
    started = time.monotonic()
    moving = [phase for phase in study.phases if phase is not study.reference_phase]
    if not moving:
        return _result(study, {}, {}, StageQA(worst([]), time.monotonic() - started), config)
    tools = _Tools(config, liver, torch.device(device))
    target = _target(study, tools)
    doubts = doubted_names(study.phases, config.limits)
    volumes, transforms, judged = {}, {}, {}
    for number, phase in enumerate(moving):
        part = progress.part(number / len(moving), (number + 1) / len(moving))
        part.update(0.0, f"{phase} -> {study.reference_phase}")
        volumes[phase], transforms[phase], found = _register_phase(study.phases[phase], target, tools, part)
        judged[phase] = with_doubt(found, doubts.get(phase))
    notes = {"method": str(config.method), "liver": target.origin}
    qa = summarize(judged, doubts.get(study.reference_phase), study.reference_phase)
    qa = replace(qa, seconds=time.monotonic() - started, notes=notes)
    return _result(replace(study, liver=study.liver or target.found), volumes, transforms, qa, config)


def _register_phase(
    moving: Volume, target: _Target, tools: _Tools, progress: Progress
) -> tuple[Volume, sitk.Transform, PhaseQA]:
    """Return a phase on the reference grid, its transform (reference point -> phase point) and the judgment."""
    started, config = time.monotonic(), tools.config
    linear = _linear(moving, target, config, progress.part(0.0, 0.15))
    spline = None
    if config.method is Method.DEFORMABLE:
        pair = _pair(moving, target, linear, tools)
        generator = torch.Generator().manual_seed(SAMPLING_SEED)
        spline = register_deformable(pair, config, generator, progress.part(0.15, 0.8))
    transform = _join(linear, spline)
    progress.update(0.8)
    aligned = resample(moving, target.reference.grid, transform=_fast(linear, spline), outside=AIR_HU)
    progress.update(0.9)
    alignment = Alignment(target.reference, moving, target.organ, target.region, target.tumor, transform)
    found = tools.liver.find(moving) if tools.liver else None
    qa = judge(alignment, found, config, progress.part(0.9, 1.0))
    seconds = round(time.monotonic() - started, 3)
    return aligned, transform, replace(qa, measures={**qa.measures, "seconds": seconds})


def _linear(moving: Volume, target: _Target, config: RegisterConfig, progress: Progress) -> sitk.Transform:
    if config.method is Method.NONE:
        return sitk.TranslationTransform(3)
    shift = find_shift(target.reference, moving, target.region, config)
    progress.update(0.4)
    grid = target.organ.volume.grid
    center = grid.to_world(np.argwhere(target.organ.array).mean(axis=0)[::-1])
    images = (target.reference, moving)
    rigid = refine_linear(images, target.region, rigid_at(center, shift), config, progress)
    if config.method is not Method.AFFINE:
        return rigid
    return refine_linear(images, target.region, affine_from(rigid), config, progress)


def _pair(moving: Volume, target: _Target, linear: sitk.Transform, tools: _Tools) -> Pair:
    config = tools.config
    grid = box_around(target.region, config.margin_mm, config.spacing_mm)
    fixed, known = sample_with_coverage(target.reference, grid)
    values, coverage = sample_with_coverage(moving, grid, linear)
    region = sample_mask(target.region, grid) * known > 0
    organ = sample_mask(target.organ.volume, grid) * known > 0.5
    tumor = sample_mask(target.tumor.volume, grid) > 0.5 if target.tumor else np.zeros_like(region)
    arrays = (fixed, values, region, without_border(organ, grid), tumor, coverage)
    return Pair(grid, *(torch.from_numpy(np.ascontiguousarray(array)).to(tools.device) for array in arrays))


def _join(linear: sitk.Transform, spline: Spline | None) -> sitk.Transform:
    if spline is None:
        return linear
    return sitk.CompositeTransform([linear, spline.to_transform()])  # ITK applies the last one first


def _fast(linear: sitk.Transform, spline: Spline | None) -> sitk.Transform:
    """The transform with the spline sampled on its working grid: equal within 0.02 mm, and ten times as fast."""
    if spline is None:
        return linear
    return sitk.CompositeTransform([linear, spline.to_field_transform()])


def _target(study: Study, tools: _Tools) -> _Target:
    organ, origin, found = study.liver, "given", None
    if organ is None and tools.liver is not None:
        organ, origin = tools.liver.find(study.reference), tools.liver.name
        found = organ if organ.array.any() else None
    if organ is None or not organ.array.any():
        organ, origin = guess_organ(study.reference), "guessed from the soft tissue of the reference phase"
    region = around(organ, tools.config.region_mm)
    return _Target(study.reference, organ, region, study.tumor_mask, origin, found)


def _result(
    study: Study,
    volumes: Mapping[Phase, Volume],
    transforms: Mapping[Phase, sitk.Transform],
    qa: StageQA,
    config: RegisterConfig,
) -> RegisteredStudy:
    entry = HistoryEntry(STAGE, __version__, config.model_dump(mode="json"))
    return RegisteredStudy(
        study_id=study.study_id,
        phases={**study.phases, **volumes},
        reference_phase=study.reference_phase,
        liver=study.liver,
        tumor=study.tumor,
        synthetic=study.synthetic,
        history=(*study.history, entry),
        qa={**study.qa, STAGE: qa},
        transforms=transforms,
    )
