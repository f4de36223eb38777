"""The four stages: register, inpaint, synthesize, segment."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..arguments import add_model, add_stage, natural, positive
from ..core.errors import InputError
from ..core.progress import Progress
from .command import Command, finished, run_options, settings_of


def _register_arguments(parser: ArgumentParser) -> None:
    add_stage(parser)
    parser.add_argument(
        "--method",
        choices=["none", "rigid", "affine", "deformable"],
        help="how far phases may be bent (default: deformable)",
    )
    livers = parser.add_mutually_exclusive_group()
    livers.add_argument("--liver-model", type=Path, help="segmenter that finds the livers that nobody drew")
    livers.add_argument(
        "--totalsegmentator",
        action="store_true",
        help="let TotalSegmentator find them, where it and its weights are installed",
    )


def _register(options: Namespace, progress: Progress) -> Path:
    from ..core.config import Method, RegisterConfig
    from ..liver_finders import LiverSource
    from ..pipeline import register_cohort

    config = settings_of(RegisterConfig, options)
    if options.method:
        config = config.model_copy(update={"method": Method(options.method)})
    result = register_cohort(
        options.source,
        options.out,
        config=config,
        options=run_options(options),
        livers=LiverSource(options.liver_model, options.totalsegmentator),
        progress=progress,
    )
    return finished(result, options)


def _inpaint_arguments(parser: ArgumentParser) -> None:
    add_stage(parser)
    add_model(parser, "inpainter")
    parser.add_argument("--margin-mm", metavar="MM", help="dilation of the tumor mask (default: 5), or auto")
    parser.add_argument("--segmenter", type=Path, help="model folder; it is asked whether tumor is left")


def _inpaint(options: Namespace, progress: Progress) -> Path:
    from ..core.config import InpaintConfig
    from ..pipeline import inpaint_cohort

    assignments = [f"margin_mm={options.margin_mm}"] if options.margin_mm is not None else []
    config = settings_of(InpaintConfig, options, assignments)
    run, asked = run_options(options), options.segmenter
    result = inpaint_cohort(
        options.source, options.out, model=options.model, config=config, options=run, segmenter=asked, progress=progress
    )
    return finished(result, options)


def _synthesize_arguments(parser: ArgumentParser) -> None:
    add_stage(parser)
    add_model(parser, "synthesizer")
    parser.add_argument("--pairs", type=positive, default=1, help="synthetic pairs per study")
    parser.add_argument("--seed", type=natural, default=0, help="seed of masks and noise")
    parser.add_argument("--tumors", type=positive, help="tumors per pair")
    parser.add_argument("--family", help="hcc, hypovascular, cyst or hemangioma")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--mask", type=Path, help="image file with the tumor mask to use")
    place.add_argument("--center-mm", type=float, nargs=3, metavar=("X", "Y", "Z"), help="center of the tumor, LPS")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--diameter-mm", type=float, nargs=2, metavar=("LO", "HI"), help="range of tumor diameters")
    size.add_argument("--sizes-from", type=Path, metavar="COHORT", help="draw sizes as they are in these studies")


def _synthesize(options: Namespace, progress: Progress) -> Path:
    from ..core.config import SynthesizeConfig
    from ..pipeline import pairs_summary, sizes_of_cohort, synthesize_cohort

    assignments = [
        f"{key}={value}"
        for key, value in (
            ("tumor.tumors", options.tumors),
            ("family", options.family),
            ("tumor.center_mm", options.center_mm),
            ("tumor.diameter_mm", options.diameter_mm),
        )
        if value is not None
    ]
    if options.mask and options.sizes_from:
        raise InputError("--mask and --sizes-from: a mask that is given has its size", expected="one of them")
    config = settings_of(SynthesizeConfig, options, assignments)
    if options.sizes_from:
        sizes = sizes_of_cohort(options.sizes_from, progress.part(0.0, 0.02))
        tumor = config.tumor.model_copy(update={"sizes": sizes})
        config = config.model_copy(update={"tumor": tumor})
    result = synthesize_cohort(
        options.source,
        options.out,
        model=options.model,
        pairs=options.pairs,
        config=config,
        options=run_options(options),
        mask=options.mask,
        progress=progress,
    )
    out = finished(result, options)
    progress.show(1.0, pairs_summary(out, [*result.written, *result.skipped]))
    return out


def _segment_arguments(parser: ArgumentParser) -> None:
    add_stage(parser)
    add_model(parser, "segmenter")
    parser.add_argument("--fast", action="store_true", help="fewer overlapping windows, for machines without a GPU")
    parser.add_argument("--probability", action="store_true", help="write the tumor probability too (0 to 255)")
    parser.add_argument("--uncertainty", action="store_true", help="write a map of the uncertainty too (0 to 255)")


def _segment(options: Namespace, progress: Progress) -> Path:
    from ..core.config import SegmentConfig
    from ..pipeline import segment_cohort

    asked = [f"{name}=true" for name in ("probability", "uncertainty") if getattr(options, name)]
    config = settings_of(SegmentConfig, options, asked)
    if options.fast:
        config = config.fast()
    run = run_options(options)
    result = segment_cohort(
        options.source, options.out, model=options.model, config=config, options=run, progress=progress
    )
    return finished(result, options)


COMMANDS = (
    Command("register", "Stage 1: align the phases of each study.", _register_arguments, _register),
    Command("inpaint", "Stage 2: remove annotated tumors from all phases.", _inpaint_arguments, _inpaint),
    Command("synthesize", "Stage 3: put synthetic tumors into tumor-free studies.", _synthesize_arguments, _synthesize),
    Command("segment", "Stage 4: find liver and tumors.", _segment_arguments, _segment),
)
