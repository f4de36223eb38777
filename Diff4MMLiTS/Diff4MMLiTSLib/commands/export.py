"""Exports to the formats that other tools read: nnU-Net, MONAI bundle, DICOM SEG, and a model's card as text."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..arguments import add_force, phase, positive
from ..core.progress import Progress
from .command import Command, CommandGroup


def _nnunet_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("cohorts", nargs="+", metavar="COHORT", type=Path, help="registered studies, real or synthetic")
    parser.add_argument("out", metavar="OUT", type=Path, help="new dataset folder, DatasetNNN_Name")
    parser.add_argument(
        "--phases",
        nargs="+",
        type=phase,
        default=[],
        metavar="PHASE",
        help="what becomes a channel (default: every phase that all studies have)",
    )
    parser.add_argument("--allow-model-masks", action="store_true", help="export masks that a model drew, too")
    add_force(parser)


def _nnunet(options: Namespace, progress: Progress) -> Path:
    from functools import partial

    from ..reporting.exports.nnunet import export_nnunet
    from ..training.datasets import check_usable

    check = partial(check_usable, training=True, allow_model_masks=options.allow_model_masks)
    export_nnunet(
        options.cohorts, options.out, phases=options.phases, check=check, force=options.force, progress=progress
    )
    return Path(options.out)


def _dicom_seg_arguments(parser: ArgumentParser) -> None:
    parser.description = (
        "Write a segmentation as DICOM SEG that refers to its CT series. The file carries the patient's name and "
        "number, as the series does: it belongs into the patient's record and nowhere else."
    )
    parser.add_argument("segmentation", metavar="SEGMENTATION", type=Path, help='one folder that "segment" wrote')
    parser.add_argument("out", metavar="OUT", type=Path, help="new file, for example tumors.dcm")
    parser.add_argument(
        "--dicom", type=Path, required=True, metavar="FOLDER", help="the DICOM files that the study was imported from"
    )
    parser.add_argument(
        "--series", type=positive, metavar="NUMBER", help="which series of the listing, where several would do"
    )
    add_force(parser)


def _dicom_seg(options: Namespace, progress: Progress) -> Path:
    from ..reporting.exports.dicom_seg import export_dicom_seg

    export_dicom_seg(
        options.segmentation,
        options.out,
        dicom=options.dicom,
        series=options.series,
        force=options.force,
        progress=progress,
    )
    return Path(options.out)


def _monai_bundle_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=Path, help="model folder of a segmenter")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder of the bundle")
    add_force(parser)


def _monai_bundle(options: Namespace, _progress: Progress) -> Path:
    from ..core.config import ModelKind
    from ..reporting.exports.monai_bundle import export_monai_bundle
    from ..training.checkpoint import load_model

    model = load_model(options.model, ModelKind.SEGMENTER)
    export_monai_bundle(options.model, options.out, card=model.card, digest=model.hash, force=options.force)
    return Path(options.out)


def _model_card_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=Path, help="model folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="new file, for example MODEL_CARD.md")
    add_force(parser)


def _model_card(options: Namespace, _progress: Progress) -> Path:
    from ..reporting.exports.model_card import write_model_card
    from ..training.checkpoint import load_card, model_hash

    write_model_card(load_card(options.model), model_hash(options.model), options.out, force=options.force)
    return Path(options.out)


COMMANDS = (
    CommandGroup(
        "export",
        "Write studies, segmentations and models for other tools.",
        (
            Command("nnunet", "Write cohorts as a raw dataset of nnU-Net v2.", _nnunet_arguments, _nnunet),
            Command("monai-bundle", "Write a segmenter as a MONAI bundle.", _monai_bundle_arguments, _monai_bundle),
            Command(
                "dicom-seg",
                "Write a segmentation as DICOM SEG for the patient's record (with the patient's name and number).",
                _dicom_seg_arguments,
                _dicom_seg,
            ),
            Command("model-card", "Write a model's card as Markdown.", _model_card_arguments, _model_card),
        ),
    ),
)
