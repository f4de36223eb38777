"""Tests the paper's claim on phantoms: does aligned synthesis beat misaligned real data, and by how much?

Usage:
  python benchmarks/claim.py OUT [--arms c e f g] [--seeds 0 1 2] [--studies N] [--split validation] [--processes 2]
  python benchmarks/claim.py OUT --split test --split test-shifted       # seeds 1230 on; looked at once

Every arm trains the same segmenter for the same number of steps on its own data; networks of stages 2 and 3 see only
the arm's studies. All test studies are registered ones, but for arms that name other inputs. The same command goes on
where it stopped; another recipe needs another OUT. Writes OUT/N/claim-SPLIT.json and .md, claim.png, and claim-both.md
for both test splits; N is the number of real studies. Sizes and the recipe: ``claim.toml``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import synthesis_peers as peers
import torch
from claim_report import draw, pooled_table, record_of, rows_of, table
from pydantic import Field
from scipy import ndimage
from synthesis_cases import Case, cases_of

from Diff4MMLiTSLib.cohort import local_workers, make_phantoms, raise_failures
from Diff4MMLiTSLib.core.config import SegmentConfig, Settings, TrainConfig, load_config
from Diff4MMLiTSLib.core.grid import Volume, resample
from Diff4MMLiTSLib.core.lesions import TOUCHING
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import HistoryEntry, RegisteredStudy, SyntheticPair, is_rejected
from Diff4MMLiTSLib.core.study_io import find_studies, read_normal, read_registered, read_study, write_pair, write_study
from Diff4MMLiTSLib.phantom.generator import Variant
from Diff4MMLiTSLib.phantom.scanner import Preset
from Diff4MMLiTSLib.pipeline import RunOptions, inpaint_cohort, register_cohort, segment_cohort, synthesize_cohort
from Diff4MMLiTSLib.recipes import Cohorts, Trainer
from Diff4MMLiTSLib.reporting.evaluation import evaluate_cohort
from Diff4MMLiTSLib.reporting.scores import Evaluation

TRAIN, VALIDATION = "train", "validation"
SPLITS = {
    TRAIN: (0, Variant.STANDARD),
    VALIDATION: (1000, Variant.STANDARD),
    "test": (1230, Variant.STANDARD),
    "test-shifted": (1230, Variant.SHIFTED),
}
"""First seed and variant of the phantoms of each split; 1200 to 1229 were looked at with an earlier recipe."""
PVP, UNREGISTERED, REGISTERED, ALIGNED = "pvp", "unregistered", "registered", "aligned"
PASTE, HAND, OURS = "paste", "hand", "ours"
CPU = "cpu"


class ClaimConfig(Settings):
    """Sizes of the experiment; its values come from claim.toml.

    Attributes:
        studies: Real studies that every arm learns from.
        validation: Studies to mend on.
        test: Studies of each variant that the result is read from.
        recipe: How the networks of every arm are trained.
    """

    studies: int = Field(ge=2)
    validation: int = Field(ge=1)
    test: int = Field(ge=1)
    recipe: TrainConfig


@dataclass(frozen=True)
class Arm:
    """What a segmenter learns from, and what it is tested on.

    Args:
        words: What the tables call it.
        real: Which real studies: ``pvp``, ``unregistered``, ``registered`` or ``aligned``.
        pairs: Where synthetic pairs come from: none, ``paste``, ``hand`` or ``ours``.
        settings: What it changes of the recipe; a change of stage 2 makes its own pairs.
        withheld: A phase that is taken away at test time.
    """

    words: str
    real: str = REGISTERED
    pairs: str = ""
    settings: tuple[str, ...] = ()
    withheld: Phase | None = None

    @property
    def chain(self) -> str:
        """Folder of the generative networks: one for all arms that train them alike."""
        changes = [text for text in self.settings if text.startswith("recipe.inpaint.")]
        return "-".join(["generative", self.real, *(text.rpartition(".")[2].replace("=", "-") for text in changes)])


ARMS = {
    "a": Arm("PVP only", real=PVP),
    "b": Arm("four phases, unregistered", real=UNREGISTERED),
    "c": Arm("four phases, registered"),
    "d": Arm("c + copy-paste", pairs=PASTE),
    "e": Arm("c + hand-crafted", pairs=HAND),
    "f": Arm("c + Diff4MMLiTS", pairs=OURS),
    "g": Arm("perfectly aligned phases", real=ALIGNED),
    "f-unregistered": Arm("f, unregistered", real=UNREGISTERED, pairs=OURS),
    "f-margin-0": Arm("f, margin 0 mm", pairs=OURS, settings=("recipe.inpaint.margin_mm=0",)),
    "f-margin-10": Arm("f, margin 10 mm", pairs=OURS, settings=("recipe.inpaint.margin_mm=10",)),
    "f-3-1": Arm("f, real : synthetic 3 : 1", pairs=OURS, settings=("recipe.train_segmenter.synthetic_fraction=0.25",)),
    "f-1-3": Arm("f, real : synthetic 1 : 3", pairs=OURS, settings=("recipe.train_segmenter.synthetic_fraction=0.75",)),
    "f-0-1": Arm("f, synthetic alone", pairs=OURS, settings=("recipe.train_segmenter.synthetic_fraction=1",)),
    "c-dynunet": Arm("c, DynUNet", settings=('recipe.train_segmenter.network.architecture="dynunet"',)),
    "f-dynunet": Arm("f, DynUNet", pairs=OURS, settings=('recipe.train_segmenter.network.architecture="dynunet"',)),
    **{f"{arm}-no-{p}": Arm(f"{arm}, tested without {p}", pairs=OURS if arm == "f" else "", withheld=p)
       for arm, p in product("cf", (Phase.NC, Phase.AP, Phase.DELAY))},
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """Where everything lies, and how large it is."""

    out: Path
    studies: int
    processes: int

    def config(self, arm: Arm) -> ClaimConfig:
        """Return the settings with the arm's changes."""
        return load_config(ClaimConfig, Path(__file__).with_name("claim.toml"), arm.settings)

    @property
    def base(self) -> ClaimConfig:
        """The settings without changes."""
        return load_config(ClaimConfig, Path(__file__).with_name("claim.toml"))

    @property
    def root(self) -> Path:
        """What depends on the number of real studies."""
        return self.out / str(self.studies)

    def count(self, split: str) -> int:
        """Return the number of phantoms of a split."""
        return {TRAIN: self.studies, VALIDATION: self.base.validation}.get(split, self.base.test)

    def cohort(self, kind: str, split: str) -> Path:
        """Return the folder of real studies."""
        return self.root / f"{kind}-{split}" if split == TRAIN else self.out / f"{kind}-{split}"

    def run(self, name: str, seed: int) -> Path:
        """Return the folder of a segmenter's training; arms that differ at test time only share it."""
        arm = ARMS[name]
        first = next(
            key
            for key, other in ARMS.items()
            if replace(arm, words="", withheld=None) == replace(other, words="", withheld=None)
        )
        return self.root / "runs" / f"{first}-{seed}"

    def tested_on(self, name: str, split: str) -> Path:
        """Return the folder of the studies that an arm segments."""
        arm = ARMS[name]
        studies = self.cohort(arm.real, split)
        return studies if arm.withheld is None else studies.with_name(f"{studies.name}-no-{arm.withheld}")

    def segmented(self, name: str, seed: int, split: str) -> Path:
        """Return the folder of an arm's segmentations."""
        return self.root / "segmented" / f"{name}-{seed}-{split}"


def prepare(experiment: Experiment, kinds: set[str], split: str) -> None:
    """Make the phantoms of a split and the studies of these kinds; what is there stays."""
    first, variant = SPLITS[split]
    raw, register = experiment.out / "phantoms" / split, experiment.base.recipe.register_studies
    seeds = range(first, first + experiment.count(split))
    with local_workers(experiment.processes, experiment.out) as workers:
        options = RunOptions(device=CPU, workers=workers)
        folders = make_phantoms(raw, seeds, preset=Preset.SMALL, variant=variant, workers=workers, progress=silent())
        source = _only(folders, experiment.root / f"phantoms-{split}")
        registered = experiment.cohort(REGISTERED, split)
        raise_failures(register_cohort(source, registered, config=register, options=options, progress=silent()))
    changes = {PVP: _only_pvp, UNREGISTERED: partial(_unregistered, raw), ALIGNED: partial(_aligned, raw)}
    for kind in kinds - {REGISTERED}:
        _changed(registered, experiment.cohort(kind, split), changes[kind])


def _only(folders: Sequence[Path], place: Path) -> Path:
    """Return a folder of links to just these studies: a larger experiment may have made more."""
    place.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        if not (place / folder.name).exists():
            (place / folder.name).symlink_to(folder.resolve(), target_is_directory=True)
    return place


def _changed(source: Path, out: Path, change: Callable[[RegisteredStudy], RegisteredStudy]) -> None:
    for folder in find_studies(source):
        if not (out / folder.name).exists():
            write_study(change(read_registered(folder)), out / folder.name)


def _only_pvp(study: RegisteredStudy) -> RegisteredStudy:
    return replace(study, phases={Phase.PVP: study.phases[Phase.PVP]}, transforms={}, qa={})


def _unregistered(raw: Path, study: RegisteredStudy) -> RegisteredStudy:
    """Return the study with its phases where the scanner saw them, however far off they are."""
    phantom = read_study(raw / study.study_id)
    phases = {name: resample(volume, study.grid, outside=-1000) for name, volume in phantom.phases.items()}
    return replace(study, phases={**phases, study.reference_phase: study.reference}, transforms={}, qa={})


def _aligned(raw: Path, study: RegisteredStudy) -> RegisteredStudy:
    """Return the study with its phases where the phantom's true motion says; the only place that reads the truth."""
    phantom, phases = read_study(raw / study.study_id), dict(study.phases)
    for phase in study.transforms:
        field = sitk.ReadImage(str(raw / study.study_id / "truth" / f"displacement_{phase}.nrrd"))
        transform = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
        phases[phase] = resample(phantom.phases[phase], study.grid, transform=transform, outside=-1000)
    return replace(study, phases=phases, qa={})


def make_pairs(experiment: Experiment, arm: Arm) -> Path:
    """Train stages 2 and 3 on the arm's real studies and make its synthetic pairs; return their folder."""
    real, chain = experiment.cohort(arm.real, TRAIN), experiment.root / arm.chain
    config = experiment.config(arm).recipe
    trainer, options = Trainer(config, torch.device(CPU), resume=True), RunOptions(device=CPU)
    cohorts, normal, ours = Cohorts((real,)), chain / "normal", chain / OURS
    if not (chain / f"{OURS}.done").exists():
        inpainter = trainer.inpainter(cohorts, chain / "inpainter", silent())
        inpaint_cohort(real, normal, model=inpainter, config=config.inpaint, options=options, progress=silent())
        autoencoder = trainer.autoencoder(cohorts, chain / "autoencoder", silent())
        paired = Cohorts((real,), normal=(normal,))
        model = trainer.synthesizer(paired, autoencoder, chain / "synthesizer", silent())
        synthesize_cohort(
            normal,
            ours,
            model=model,
            pairs=config.pairs,
            config=config.synthesize,
            options=options,
            progress=silent(),
        )
        (chain / f"{OURS}.done").touch()
    if arm.pairs != OURS:
        _make_peers(arm.pairs, real, normal, ours, chain / arm.pairs)
    return chain / arm.pairs


def _make_peers(kind: str, real: Path, normal: Path, ours: Path, out: Path) -> None:
    """Make our accepted pairs anew with the peer's tumors, in the same masks of the same normal studies."""
    donors: list[Case] = []
    for number, folder in enumerate(find_studies(ours)):
        pair = read_registered(folder)
        if (out / folder.name).exists() or is_rejected(pair.qa, "synthesize"):
            continue
        donors = donors or list(cases_of(real, normal))
        grow = peers.hand_crafted if kind == HAND else peers.copy_paste(donors)
        tumor_free = read_normal(normal / folder.name.rpartition("_synthetic-")[0])
        assert pair.tumor_mask is not None
        labels, count = ndimage.label(pair.tumor_mask.array, structure=TOUCHING)
        rng = np.random.default_rng(number)
        for label in range(1, count + 1):
            donor = donors[rng.integers(len(donors))]
            case = Case(tumor_free.study, tumor_free, np.asarray(labels == label), donor.family, donor.aligned, -1)
            images = grow(case, int(rng.integers(2**31)))
            phases = {
                phase: Volume(np.rint(images[phase]).astype(volume.array.dtype), volume.grid)
                for phase, volume in tumor_free.study.phases.items()
            }
            tumor_free = replace(tumor_free, study=replace(tumor_free.study, phases=phases))
        entry = HistoryEntry("synthesize", "benchmark", {"method": kind}, seed=number)
        made = replace(pair, phases=tumor_free.study.phases, history=(*pair.history[:-1], entry))
        write_pair(SyntheticPair(made), out / folder.name)


def train_arm(experiment: Experiment, name: str, seed: int) -> None:
    """Train one segmenter."""
    torch.set_num_threads(1)
    arm = ARMS[name]
    recipe = experiment.config(arm).recipe
    loop = recipe.train_segmenter.loop.model_copy(update={"seed": seed})
    recipe = recipe.model_copy(
        update={"train_segmenter": recipe.train_segmenter.model_copy(update={"loop": loop}), "name": f"{name}-{seed}"}
    )
    pairs = (experiment.root / arm.chain / arm.pairs,) if arm.pairs else ()
    cohorts = Cohorts((experiment.cohort(arm.real, TRAIN), *pairs), (experiment.cohort(arm.real, VALIDATION),))
    Trainer(recipe, torch.device(CPU), resume=True).segmenter(cohorts, experiment.run(name, seed), silent())
    print(f"trained {name}-{seed}", flush=True)


def segment_arm(experiment: Experiment, name: str, seed: int, split: str) -> None:
    """Let one segmenter segment a split."""
    torch.set_num_threads(1)
    segment_cohort(
        experiment.tested_on(name, split),
        experiment.segmented(name, seed, split),
        model=experiment.run(name, seed) / "model",
        config=SegmentConfig(overlap=0.25, sure_tumor=0.0),  # no arm is as sure as long training makes
        options=RunOptions(device=CPU),
        progress=silent(),
    )
    print(f"segmented {name}-{seed} {split}", flush=True)


def _without(phase: Phase, study: RegisteredStudy) -> RegisteredStudy:
    kept = {name: volume for name, volume in study.phases.items() if name != phase}
    transforms = {name: transform for name, transform in study.transforms.items() if name != phase}
    return replace(study, phases=kept, transforms=transforms, qa={})


def _evaluate(experiment: Experiment, name: str, seed: int, split: str) -> Evaluation:
    truth = experiment.cohort(ARMS[name].real, split)
    return evaluate_cohort(experiment.segmented(name, seed, split), truth, progress=silent())


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["c", "e", "f", "g"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--studies", type=int, help="real studies (default: those of claim.toml)")
    parser.add_argument("--split", action="append", choices=[name for name in SPLITS if name != TRAIN])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    experiment = Experiment(options.out, 0, options.processes)
    experiment = replace(experiment, studies=options.studies or experiment.base.studies)
    splits, arms = options.split or [VALIDATION], {name: ARMS[name] for name in options.arms}
    kinds = {arm.real for arm in arms.values()} | {REGISTERED}
    for split in dict.fromkeys((TRAIN, VALIDATION, *splits)):
        prepare(experiment, kinds, split)
    for (name, arm), split in product(arms.items(), splits):
        if arm.withheld is not None:
            change = partial(_without, arm.withheld)
            _changed(experiment.cohort(arm.real, split), experiment.tested_on(name, split), change)
    runs = {experiment.run(name, seed): (name, seed) for seed in options.seeds for name in arms}
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for arm in {(arm.chain, arm.pairs): arm for arm in arms.values() if arm.pairs}.values():
            make_pairs(experiment, arm)
        _all(pool.submit(train_arm, experiment, *run) for run in runs.values())
        _all(
            pool.submit(segment_arm, experiment, name, seed, split)
            for name, seed, split in product(arms, options.seeds, splits)
        )
    _report(experiment, arms, options.seeds, splits)


def _report(experiment: Experiment, arms: Mapping[str, Arm], seeds: Sequence[int], splits: Sequence[str]) -> None:
    """Write a table per split, a picture, and a table of differences per patient when both test splits are there."""
    found, drawn = {}, {}
    for split in splits:
        found[split] = {name: [_evaluate(experiment, name, seed, split) for seed in seeds] for name in arms}
        drawn[split] = rows = rows_of(found[split], {name: arm.words for name, arm in arms.items()}, seeds)
        (experiment.root / f"claim-{split}.json").write_text(json.dumps([record_of(row) for row in rows], indent=1))
        (experiment.root / f"claim-{split}.md").write_text(table(rows))
        print(f"\n{split}, {experiment.studies} real studies\n{table(rows)}")
    draw(drawn, experiment.root / "claim.png")
    if {"test", "test-shifted"} <= set(found):
        both = pooled_table([found["test"], found["test-shifted"]])
        (experiment.root / "claim-both.md").write_text(both)
        print(both)


def _all(futures) -> None:  # noqa: ANN001 (a generator of futures of None)
    """Wait for all; the first failure is raised."""
    for future in list(futures):
        future.result()


if __name__ == "__main__":
    main()
