"""A cohort of round livers, and a recipe so small that all four networks are trained on it in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from Diff4MMLiTSLib.core.config import DemoConfig, load_config
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.study import Mask, MaskSource, Study
from Diff4MMLiTSLib.core.study_io import write_study
from Diff4MMLiTSLib.recipes import Trainer
from tiny_models import working_study

RECIPE = Path(__file__).with_name("tiny_demo.toml")
CHANGES = ("recipe.register_studies.method=none", "recipe.synthesize.tumor.class_weights=[1.0, 0.0, 0.0, 0.0]")


def a_round_study(name: str, *, seed: int, source: MaskSource = MaskSource.ANNOTATION) -> Study:
    """Return four phases of a round liver with a round tumor, not registered."""
    working = working_study(name, seed=seed, size=32)
    images = np.rint(working.phases).astype(np.int16)
    phases = {phase: Volume(image, working.grid) for phase, image in zip(ALL_PHASES, images, strict=True)}
    liver, tumor = (
        Mask(Volume(mask.astype(np.uint8), working.grid), source) for mask in (working.liver, working.tumor)
    )
    return Study(name, phases, Phase.PVP, liver=liver, tumor=tumor)


def a_tiny_cohort(folder: Path) -> Path:
    """Write one study to learn from and one to measure into a folder, and return it."""
    write_study(a_round_study("one", seed=1), folder / "training" / "one")
    write_study(a_round_study("two", seed=2), folder / "validation" / "two")
    return folder


def a_trainer(cohort: Path, *, resume: bool = False) -> Trainer:
    """Return the trainer of all four networks, with a cache."""
    recipe = load_config(DemoConfig, RECIPE, CHANGES).recipe
    config = recipe.model_copy(update={"cohorts": ("training",), "validation": ("validation",)})
    return replace(Trainer(config, torch.device("cpu"), resume), cache=cohort / "cache")
