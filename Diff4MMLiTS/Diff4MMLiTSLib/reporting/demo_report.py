"""The demo's report: the four stages in pictures, the comparison in numbers, and what it does and does not show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .. import __version__
from ..core.study import NormalStudy, PhaseQA, RegisteredStudy, Study, SyntheticPair, Verdict
from ..core.study_io import TRUTH_FOLDER, find_studies, read_normal, read_registered, read_segmentation, read_study
from .charts import CurvePanel, curves_figure, read_curves, scores_figure
from .evaluation_report import (
    HOW_TO_READ,
    LESION_RULE,
    comparison_table,
    lesion_comparison_table,
    metrics_table,
    score_panels,
)
from .figures import (
    SegmentationCase,
    inpainting_figure,
    overview_figure,
    registration_figure,
    segmentation_figure,
    synthesis_figure,
)
from .html import PHANTOM_NOTE, Figure, Report, Section, Table, write_report
from .scores import Evaluation
from .views import largest_piece

FloatArray = NDArray[np.float64]

TITLES = {
    "threshold": "threshold",
    "untrained": "untrained network",
    "real": "trained on real",
    "real_and_synthetic": "trained on real + synthetic",
}
PICTURED_TUMOR_ML = 8.0
"""A tumor of about 25 mm shows every stage well; the study whose largest tumor is nearest to it is pictured."""
PICTURED_STUDIES = 4
PICTURED_PAIRS = 2
POINTS = 1000
"""Points of a liver at which registration is measured."""


@dataclass(frozen=True)
class DemoFolders:
    """Where the demo keeps what.

    Args:
        out: The demo's folder.
    """

    out: Path

    @property
    def phantoms(self) -> Path:
        """Phantoms to learn from, as they come from the scanner."""
        return self.out / "phantoms"

    @property
    def validation_phantoms(self) -> Path:
        """Phantoms with held-out seeds."""
        return self.out / "validation-phantoms"

    @property
    def real(self) -> Path:
        """Registered phantoms to learn from."""
        return self.out / "real"

    @property
    def validation(self) -> Path:
        """Registered phantoms with held-out seeds."""
        return self.out / "validation"

    @property
    def inpainter(self) -> Path:
        """Training run of stage 2."""
        return self.out / "inpainter"

    @property
    def normal(self) -> Path:
        """The studies of ``real`` without their tumors."""
        return self.out / "normal"

    @property
    def autoencoder(self) -> Path:
        """Training run of the autoencoder of stage 3."""
        return self.out / "autoencoder"

    @property
    def synthesizer(self) -> Path:
        """Training run of the denoiser of stage 3."""
        return self.out / "synthesizer"

    @property
    def synthetic(self) -> Path:
        """Synthetic pairs made from ``normal``."""
        return self.out / "synthetic"

    def segmenter(self, method: str) -> Path:
        """Training run of a segmenter."""
        return self.out / f"segmenter-{method}"

    def segmented(self, method: str) -> Path:
        """What a method found in ``validation``."""
        return self.out / "segmentations" / method


def write_demo_report(
    path: Path,
    folders: DemoFolders,
    evaluations: Mapping[str, Evaluation],
    *,
    seconds: Mapping[str, float],
    config: Mapping[str, object],
) -> None:
    """Write the demo's report as one self-contained HTML file.

    Args:
        path: The new file.
        folders: What the demo made.
        evaluations: Evaluation on the validation phantoms by method: a key of ``TITLES``.
        seconds: Wall-clock time by part.
        config: The demo's configuration.

    Raises:
        InputError: The file exists, or a study of the demo cannot be read.
    """
    report = Report(
        title="Diff4MMLiTS: the four stages on digital phantoms",
        introduction=(
            "A patient's contrast phases never line up, so a network that takes them as channels learns from "
            "contradicting evidence. Diff4MMLiTS registers the phases (1), removes the tumors (2), lets a diffusion "
            "model grow new ones in all phases at once, aligned by construction (3), and trains a segmenter on real "
            "and synthetic studies (4). Everything below was computed in the minutes before this page was written."
        ),
        notice=PHANTOM_NOTE,
        sections=(
            *_stage_sections(folders),
            _comparison(folders, evaluations),
            _training(folders),
            _limits(evaluations),
            _times(seconds),
        ),
        provenance={"version": __version__, "configuration": json.dumps(config)},
    )
    write_report(report, path)


def _stage_sections(folders: DemoFolders) -> tuple[Section, ...]:
    name = _by_tumor(folders.real)[0].name
    phantom, real = read_study(folders.phantoms / name), read_registered(folders.real / name)
    normal = read_normal(folders.normal / name)
    return (
        Section(
            "The input: four phases that do not line up",
            (
                "Each phase has its own breath hold, field of view, slice thickness and noise. Tumors are outlined "
                "on PVP.",
            ),
            figures=(Figure(overview_figure(phantom), f"Study {name}: all phases, before anything was done."),),
        ),
        _registration(phantom, real, folders),
        _inpainting(real, normal),
        _synthesis(folders),
    )


def _registration(phantom: Study, real: RegisteredStudy, folders: DemoFolders) -> Section:
    before, after = registration_errors(folders.phantoms, folders.real)
    verdicts = [qa.verdict for folder in find_studies(folders.real) for qa in _phase_qa(folder)]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict)
    rows = [
        (name, *(f"{np.quantile(errors, quantile):.1f}" for quantile in (0.5, 0.95, 1.0)))
        for name, errors in (("before", before), ("after", after))
    ]
    table = Table(
        ("distance in mm", "median", "95 %", "largest"),
        tuple(rows),
        "How far points of the liver lie from where they belong, against the known motion; all training studies and "
        "phases",
    )
    return Section(
        "Stage 1: pre-registration",
        (
            "Every phase is aligned to PVP over the liver. Each result judges itself: "
            f"{counts} of {len(verdicts)} phases; rejected phases are treated as missing from here on.",
        ),
        (table,),
        (
            Figure(
                registration_figure(phantom, real),
                "Checkerboards of each phase with PVP and differences to it, before and after. Edges that break at the "
                "borders of the squares, and bands along them in the differences, are misalignment.",
            ),
        ),
    )


def _inpainting(real: RegisteredStudy, normal: NormalStudy) -> Section:
    return Section(
        "Stage 2: the Normal CT Generator",
        (
            "The tumor mask is dilated, so that it also covers the tumor where another phase shows it displaced, "
            "and a fast-Fourier-convolution network fills it in every phase. Voxels outside the mask are untouched, "
            "bit for bit.",
        ),
        figures=(
            Figure(
                inpainting_figure(real, normal),
                "Per phase: the tumor and the mask to fill, the filled study, and what was changed.",
            ),
        ),
    )


def _synthesis(folders: DemoFolders) -> Section:
    figures = []
    for folder in _by_tumor(folders.synthetic)[:PICTURED_PAIRS]:
        source = next(normal for normal in find_studies(folders.normal) if folder.name.startswith(normal.name))
        picture = synthesis_figure(read_normal(source), SyntheticPair(read_registered(folder)))
        text = "the tumor-free study with the random mask, the synthetic study, and what was added"
        figures.append(Figure(picture, f"{folder.name}, per phase: {text}."))
    return Section(
        "Stage 3: the Multimodal CT Synthesizer",
        (
            "A latent diffusion model, conditioned on the tumor-free phases and a random tumor mask, draws what the "
            "tumor changes in all phases at once. Nothing farther than 12 mm from the mask is touched. A synthetic "
            "study made from a patient remains that patient's data.",
        ),
        figures=tuple(figures),
    )


def _comparison(folders: DemoFolders, evaluations: Mapping[str, Evaluation]) -> Section:
    named = {TITLES[name]: found for name, found in evaluations.items()}
    best = list(evaluations)[-1]
    scored = bool(evaluations[best].metric("tumor", "dsc"))
    cases = []
    for folder in find_studies(folders.validation)[:PICTURED_STUDIES]:
        scores = evaluations[best].metric("tumor", "dsc")
        caption = f"DSC {scores[folder.name]:.2f}" if folder.name in scores else "free of tumor"
        found = read_segmentation(folders.segmented(best) / folder.name)
        cases.append(SegmentationCase(read_study(folder), found, caption))
    return Section(
        "Stage 4: the Multimodal Segmenter",
        (
            "Evaluated on phantoms with held-out seeds that no network was trained on. Both trained segmenters took "
            "the same number of optimizer steps.",
            HOW_TO_READ,
            LESION_RULE,
        ),
        (
            metrics_table(named, "tumor"),
            metrics_table(named, "liver"),
            *([comparison_table(named, TITLES["real"])] if scored else []),
            lesion_comparison_table(named),
        ),
        (
            Figure(scores_figure(score_panels(named)), "Tumor scores by method, with 95 % intervals over studies."),
            Figure(segmentation_figure(cases), f"Truth and what the segmenter {TITLES[best]} found, on PVP."),
        ),
    )


def _training(folders: DemoFolders) -> Section:
    runs = {
        "inpainter": folders.inpainter,
        "autoencoder": folders.autoencoder,
        "denoiser": folders.synthesizer,
        "segmenter, real": folders.segmenter("real"),
        "segmenter, real + synthetic": folders.segmenter("real_and_synthetic"),
    }
    panels = []
    for name, run in runs.items():
        curves = read_curves(run / "metrics.jsonl")
        losses = tuple(curve for key, curve in curves.items() if key.endswith("/loss") and len(curve.steps) > 1)
        panels.append(CurvePanel(name, losses, logarithmic=name != "denoiser"))
    return Section("Training", figures=(Figure(curves_figure(panels), "Training losses by optimizer step."),))


def _limits(evaluations: Mapping[str, Evaluation]) -> Section:
    count = len(next(iter(evaluations.values())).studies)
    return Section(
        "What this shows, and what it does not",
        (
            "It shows that the four stages run, one after another, on this machine, and what each of them does. It "
            "does not show that the method works on patients: small networks were trained for minutes on a few "
            f"phantoms at 3 mm, and {count} studies make wide intervals. Where the intervals of two rows overlap, "
            "the demo cannot tell the methods apart, and a difference between them is no evidence for or against "
            "synthesis. The settings of the demo were chosen on these very phantoms.",
        ),
    )


def _times(seconds: Mapping[str, float]) -> Section:
    rows = [(name, f"{value / 60:.1f}") for name, value in seconds.items()]
    rows.append(("together", f"{sum(seconds.values()) / 60:.1f}"))
    return Section(
        "Times",
        ("Parts that were finished in an earlier run of the same demo count as zero.",),
        (Table(("part", "minutes"), tuple(rows)),),
    )


def registration_errors(phantoms: Path, registered: Path) -> tuple[FloatArray, FloatArray]:
    """Measure registration against the phantoms' known motion.

    Args:
        phantoms: Cohort of phantoms with their truth.
        registered: The same studies, registered.

    Returns:
        Distances in mm of liver points from where they belong, before and after, over all studies and phases, (N,).
    """
    before, after = [], []
    for folder in find_studies(registered):
        study = read_registered(folder)
        if study.liver is None:
            continue
        index = np.argwhere(study.liver.array)[:: max(1, int(study.liver.array.sum()) // POINTS)]
        points = study.grid.to_world(index[:, ::-1].astype(np.float64))
        for phase, transform in study.transforms.items():
            file = phantoms / folder.name / TRUTH_FOLDER / f"displacement_{phase}.nrrd"
            true_shift = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))[tuple(index.T)]
            found_shift = np.array([transform.TransformPoint(point) for point in points.tolist()]) - points
            before.append(np.linalg.norm(true_shift, axis=1))
            after.append(np.linalg.norm(found_shift - true_shift, axis=1))
    return np.concatenate(before), np.concatenate(after)


def _phase_qa(folder: Path) -> tuple[PhaseQA, ...]:
    qa = read_registered(folder).qa.get("register")
    return tuple(qa.phases.values()) if qa else ()


def _by_tumor(cohort: Path) -> list[Path]:
    """Return the studies, those first whose largest tumor shows the stages best."""

    def distance(folder: Path) -> float:
        study = read_study(folder)
        if study.tumor_mask is None:
            return np.inf
        return abs(float(np.log(largest_piece(study.tumor_mask).array.sum() * study.grid.voxel_ml / PICTURED_TUMOR_ML)))

    return sorted(find_studies(cohort), key=distance)
