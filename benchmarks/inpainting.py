"""Measures stage 2 beside its peers, on the same regions in one run: error against the truth, texture, seam, detection.

Usage:
  python benchmarks/inpainting.py --train COHORT --validation COHORT --model MODEL --out DIR
      [--first-seed 1182] [--phantoms 8] [--preset small] [--seconds 90]

Each phantom (--first-seed on, both variants in turn) is registered; random holes are cut into its healthy liver besides
its own tumors, and every method fills the same region. The networks of the comparison are trained here, equally long
(--seconds of processor time), on the cohort that made MODEL. Writes inpainting.md, inpainting.json, inpainting.png.
What was made is kept in DIR, so that a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from inpainting_cases import MARGIN_MM, RECIPES, Case, load_case
from inpainting_classifier import detection_accuracy
from inpainting_peers import (
    Budget,
    as_images,
    fill_biharmonic,
    fill_with_random_voxels,
    generator_of,
    plain_unet,
    slice_wise,
    trained,
)
from numpy.typing import NDArray
from scipy import ndimage

from Diff4MMLiTSLib.core.config import InpaintConfig, TrainConfig, load_config
from Diff4MMLiTSLib.core.parenchyma import compare_texture, parenchyma_voxels, seam_ratio
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.tumor_mask import distance_mm
from Diff4MMLiTSLib.nets.inpainter import Inpainter
from Diff4MMLiTSLib.phantom.scanner import Preset
from Diff4MMLiTSLib.stages.inpainting import NormalCTGenerator
from Diff4MMLiTSLib.training.cohorts import load_cohort

FIRST_SEED = 1182
"""Seeds 1100-1199 are kept for benchmarks; 1120-1127 and 1170-1181 were looked at with earlier textures."""
SHELL_MM = 20.0
PATCH = 6
"""Edge of the classifier's patches in voxels."""
PATCHES_PER_STUDY = 40

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Images = dict[Phase, FloatArray]
Filler = Callable[[Case], Images]


@dataclass(frozen=True)
class Row:
    """One method on one phase of one study."""

    method: str
    study: str
    phase: str
    mae_hu: float
    texture: float
    genuine_texture: float
    seam: float
    seconds: float
    memory_mb: float


def fillers(arguments: argparse.Namespace) -> dict[str, Filler]:
    """Return the methods by name; their networks are trained first."""
    shipped = NormalCTGenerator.load(arguments.model)
    recipe = load_config(TrainConfig, arguments.recipe, ["train_inpainter.adversarial_weight=0.0"]).train_inpainter
    training, validation = (
        load_cohort([path], spacing_mm=recipe.spacing_mm, margin_mm=20.0, training=learn, progress=silent())
        for path, learn in ((arguments.train, True), (arguments.validation, False))
    )
    budget = Budget(training, validation, recipe, arguments.seconds)
    runs = arguments.out / "networks"
    ours = trained(budget, Inpainter, runs / "ours")
    unet = trained(budget, plain_unet, runs / "unet")
    slices = trained(budget, slice_wise, runs / "slices")
    untrained = generator_of(Inpainter(recipe.network), recipe)  # answers with the parenchyma's level
    return {
        "Diff4MMLiTS, shipped model": _ours(shipped, texture=True),
        "Diff4MMLiTS, shipped model, before texture": _ours(shipped, texture=False),
        "Diff4MMLiTS, equal budget": _ours(ours, texture=True),
        "Diff4MMLiTS, equal budget, before texture": _ours(ours, texture=False),
        "level of the parenchyma + our texture (no network)": _ours(untrained, texture=True),
        "level of the parenchyma alone": _ours(untrained, texture=False),
        "3D U-Net": _ours(unet, texture=False),
        "2D FFC, slice-wise": _ours(slices, texture=False),
        "biharmonic, slice-wise": lambda case: fill_biharmonic(as_images(case.study.phases), case.region),
        "random healthy voxels": _random,
    }


def _random(case: Case) -> Images:
    spacing = case.study.grid.spacing_zyx_mm
    return fill_with_random_voxels(as_images(case.study.phases), case.region, case.liver, spacing)


def _ours(generator: NormalCTGenerator, *, texture: bool) -> Filler:
    config = InpaintConfig(margin_mm=MARGIN_MM, texture=texture)

    def fill(case: Case) -> Images:
        normal = generator.inpaint(case.study, config=config, rng=np.random.default_rng(0), progress=silent())
        return as_images(normal.study.phases)

    return fill


@dataclass(frozen=True, eq=False)
class Made:
    """What a method made of a case, in which processor time and memory beyond what was used before."""

    images: Images
    seconds: float
    memory_mb: float


def made_by(fill: Filler, case: Case, file: Path) -> Made:
    """Return what a method makes of a case; a file keeps it for the next call."""
    if not file.exists():
        _forget_peak()
        before_mb, started = _memory_mb("VmRSS"), time.process_time()
        images = fill(case)
        cost = np.array([time.process_time() - started, _memory_mb("VmHWM") - before_mb])
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, cost=cost, **{str(phase): values for phase, values in images.items()})
    with np.load(file) as kept:
        images = {phase: kept[phase] for phase in case.study.phases}
        return Made(images, float(kept["cost"][0]), float(kept["cost"][1]))


def measure(case: Case, made: Made, name: str) -> list[Row]:
    """Return the rows of a method on a case."""
    rows = []
    for phase, values in made.images.items():
        own = np.asarray(case.study.phases[phase].array, dtype=np.float32)
        covered = own > -900  # a phase may miss an end of the liver
        inside = case.region & case.liver & covered
        error = float(np.abs(values - case.truth[phase].array)[inside].mean())
        texture, seam = _texture(case, values, covered)
        genuine, genuine_seam = _texture(case, own, covered)
        rows.append(
            Row(
                method=name,
                study=case.study.study_id,
                phase=phase,
                mae_hu=error,
                texture=texture,
                genuine_texture=genuine,
                seam=seam / genuine_seam,
                seconds=made.seconds,
                memory_mb=made.memory_mb,
            )
        )
    return rows


def _texture(case: Case, values: FloatArray, covered: BoolArray) -> tuple[float, float]:
    """Return how the texture of the healthy holes differs from the parenchyma around them, and the step at the border.

    The distance adds |ln| of the ratio of deviations, the difference of neighbors' correlation and that of spectra.
    """
    spacing = case.study.grid.spacing_zyx_mm
    region = case.holes & case.liver & covered
    near = distance_mm(case.region, case.study.grid, SHELL_MM) <= SHELL_MM
    around = parenchyma_voxels(values, case.liver & covered & near & ~case.region, spacing)
    alike = parenchyma_voxels(values, region | around, spacing) & region
    found = compare_texture(values, alike if alike.any() else region, around, spacing)
    distance = abs(np.log(max(found.std_ratio, 1e-2))) + abs(found.correlation_difference) + found.spectrum_difference
    return float(distance), seam_ratio(values, region, around)


def patches_of(case: Case, images: Images, places: Sequence[NDArray[np.int64]]) -> FloatArray:
    """Return patches (N, P, Z, Y, X) at places, HU minus the patient's median; missing phases are 0."""
    cut = np.zeros((len(places), len(ALL_PHASES), PATCH, PATCH, PATCH), dtype=np.float32)
    healthy = case.liver & ~case.region
    for number, phase in enumerate(ALL_PHASES):
        if phase not in images:
            continue
        level = np.median(np.asarray(case.study.phases[phase].array)[healthy])
        for index, place in enumerate(places):
            cut[index, number] = images[phase][tuple(slice(a, a + PATCH) for a in place)] - level
    return cut


def places_of(case: Case) -> list[NDArray[np.int64]]:
    """Return corners of patches that lie in the healthy filled region, at least 2 voxels apart."""
    weight = ndimage.uniform_filter((case.holes & case.liver).astype(np.float32), PATCH, mode="constant")
    found: list[NDArray[np.int64]] = []
    candidates = np.argwhere(weight > 0.9) - PATCH // 2
    inside = ((candidates >= 0) & (candidates + PATCH <= np.array(case.region.shape))).all(axis=1)
    for place in np.random.default_rng(0).permutation(candidates[inside]):
        if all(np.abs(place - other).max() >= 2 for other in found):
            found.append(place)
        if len(found) == PATCHES_PER_STUDY:
            break
    return found


def compare(cases: Iterator[Case], methods: Mapping[str, Filler], out: Path) -> tuple[list[Row], dict[str, float], int]:
    """Return all rows, the classifier's accuracy by method, and the number of its patches per class."""
    rows: list[Row] = []
    genuine: list[FloatArray] = []
    made: dict[str, list[FloatArray]] = {name: [] for name in methods}
    studies: list[int] = []
    for number, case in enumerate(cases):
        places = places_of(case)
        genuine.append(patches_of(case, as_images(case.study.phases), places))
        studies += [number] * len(places)
        pictures = {}
        for name, fill in methods.items():
            file = out / "fills" / f"{case.study.study_id}-{name.replace(' ', '_').replace(',', '')}.npz"
            result = made_by(fill, case, file)
            found = measure(case, result, name)
            rows += found
            made[name].append(patches_of(case, result.images, places))
            pictures[name] = result.images
            print(number, name, *(f"{row.phase} {row.mae_hu:.1f}" for row in found), flush=True)
        if number == 0:
            draw(case, pictures, out / "inpainting.png")
    real, numbers = np.concatenate(genuine), np.array(studies)
    accuracy = {name: detection_accuracy(real, np.concatenate(parts), numbers) for name, parts in made.items()}
    return rows, accuracy, len(real)


def table(rows: list[Row], accuracy: Mapping[str, float]) -> str:
    """Return the comparison as Markdown."""
    text = "| method | MAE HU | " + " | ".join(ALL_PHASES) + " | texture | seam | detected | seconds | MB |\n"
    text += "|" + "---|" * (10) + "\n"
    for method in accuracy:
        chosen = [row for row in rows if row.method == method]
        phases = [np.mean([row.mae_hu for row in chosen if row.phase == phase]) for phase in ALL_PHASES]
        texture = sum(row.texture for row in chosen) / sum(row.genuine_texture for row in chosen)
        numbers = [f"{np.mean([row.mae_hu for row in chosen]):.2f}", *(f"{value:.1f}" for value in phases)]
        numbers += [f"{texture:.2f}", f"{np.mean([row.seam for row in chosen]):.2f}", f"{accuracy[method]:.0%}"]
        numbers += [f"{np.median([row.seconds for row in chosen]):.1f}"]
        numbers += [f"{np.median([row.memory_mb for row in chosen]):.0f}"]
        text += f"| {method} | " + " | ".join(numbers) + " |\n"
    return text


def draw(case: Case, pictures: Mapping[str, Images], path: Path) -> None:
    """Draw the slice with the largest filled area: the CT, the truth and every method, in every phase."""
    slice_index = int((case.holes & case.liver).sum(axis=(1, 2)).argmax())
    truth = {phase: np.asarray(volume.array, dtype=np.float32) for phase, volume in case.truth.items()}
    shown = {"CT": as_images(case.study.phases), "truth": truth, **pictures}
    rows, columns = np.nonzero(case.liver[slice_index])
    box = slice(max(0, rows.min() - 4), rows.max() + 5), slice(max(0, columns.min() - 4), columns.max() + 5)
    phases = list(case.study.phases)
    figure, axes = plt.subplots(len(phases), len(shown), figsize=(1.7 * len(shown), 1.6 * len(phases)), squeeze=False)
    for number, (line, phase) in enumerate(zip(axes, phases, strict=True)):
        level = float(np.median(shown["CT"][phase][case.liver & ~case.region]))
        for axis, (name, images) in zip(line, shown.items(), strict=True):
            axis.imshow(images[phase][slice_index][box], cmap="gray", vmin=level - 100, vmax=level + 100)
            axis.contour(case.region[slice_index][box], [0.5], colors="orange", linewidths=0.3)
            axis.set(xticks=[], yticks=[])
            if number == 0:
                axis.set_title(name.replace(", ", ",\n").replace(" (", "\n("), fontsize=6)
        line[0].set_ylabel(str(phase))
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=130)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak restarts from what is used now


def _memory_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="registered phantoms to learn from")
    parser.add_argument("--validation", type=Path, required=True, help="registered phantoms that choose the best step")
    parser.add_argument("--model", type=Path, required=True, help="the shipped model")
    parser.add_argument("--recipe", type=Path, default=RECIPES / "inpainter-cpu.toml", help="settings of the networks")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of the phantoms")
    parser.add_argument("--phantoms", type=int, default=8)
    parser.add_argument("--preset", default="small", choices=[str(preset) for preset in Preset])
    parser.add_argument("--seconds", type=float, default=90.0, help="processor time of each network's training")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.phantoms)
    cases = (load_case(seed, Preset(arguments.preset), arguments.out / "cases") for seed in seeds)
    rows, accuracy, patches = compare(cases, fillers(arguments), arguments.out)
    text = table(rows, accuracy) + f"\n{arguments.phantoms} phantoms, {patches} patches per class\n"
    (arguments.out / "inpainting.md").write_text(text)
    content = {"rows": [vars(row) for row in rows], "accuracy": accuracy, "patches": patches}
    (arguments.out / "inpainting.json").write_text(json.dumps(content, indent=1))
    print(text)


if __name__ == "__main__":
    main()
