"""One patient's phases, and what each stage of the method guarantees about them.

Data goes one way: ``Study`` -> ``RegisteredStudy`` -> ``NormalStudy`` -> ``SyntheticPair``; a registered study is
segmented into a ``Segmentation``. Each type checks its guarantee once, when it is built, so a stage that asks for the
type need not check again, and stages called in the wrong order are type errors.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .errors import InputError
from .grid import Grid, Volume
from .phases import ALL_PHASES, Phase, default_reference, in_order

log = logging.getLogger(__name__)

SYNTHETIC_MARK = "Diff4MMLiTS"
"""Value of the key SYNTHETIC in the header of every synthetic image."""
LONGEST_ID_BYTES = 200
"""File systems allow 255 bytes; the folders that are made from a study add to its name."""
WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{kind}{n}" for kind in ("COM", "LPT") for n in range(1, 10))}


class MaskSource(StrEnum):
    """Who drew a mask."""

    ANNOTATION = "annotation"
    MODEL = "model"
    PHANTOM = "phantom"
    SYNTHETIC = "synthetic"


class Verdict(StrEnum):
    """What a stage says about its own result."""

    PASS = "pass"
    REVIEW = "review"
    REJECT = "reject"


@dataclass(frozen=True)
class Mask:
    """A binary mask with its origin.

    Args:
        volume: 0/1 values, (Z, Y, X), uint8.
        source: Who drew it.

    Raises:
        InputError: The values are not 0 and 1.
    """

    volume: Volume
    source: MaskSource

    def __post_init__(self) -> None:
        array = self.volume.array
        if array.dtype != np.uint8 or (array.size and int(array.max()) > 1):
            raise InputError(
                f"A mask with values up to {array.max()} of type {array.dtype}",
                expected="0 for background and 1 for the structure",
                remedy="Export one structure per mask file",
            )

    @property
    def array(self) -> NDArray[np.bool_]:
        """The mask as booleans, (Z, Y, X)."""
        return np.asarray(self.volume.array) > 0


@dataclass(frozen=True)
class TumorFree:
    """The declaration that a study has no tumor: annotated as free of it, or with every tumor inpainted."""


TUMOR_FREE = TumorFree()


@dataclass(frozen=True)
class HistoryEntry:
    """One step in the making of a study; enough to repeat it.

    Args:
        stage: The command's name, for example ``register``.
        version: Version of this software.
        config: The configuration that was used, plain JSON values.
        seed: Seed of the random numbers, if any were used.
        inputs: SHA-256 of each input file by its name inside the study folder.
        models: SHA-256 of each model by its name.
    """

    stage: str
    version: str
    config: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON of a configuration, read by people
    seed: int | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseQA:
    """What a stage measured about one phase.

    Args:
        verdict: The stage's judgment of the phase.
        reasons: Why, in words, one sentence each; empty for ``pass``.
        measures: Numbers by name; names end in their unit.
    """

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StageQA:
    """What a stage measured about its own result; see ``PhaseQA``.

    Args:
        seconds: Wall-clock time that the stage took.
        notes: Facts in words by name, for example which liver mask was used.
    """

    verdict: Verdict
    seconds: float
    reasons: tuple[str, ...] = ()
    phases: Mapping[Phase, PhaseQA] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst verdict; ``pass`` when there is none."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.PASS)


@dataclass(frozen=True, eq=False)
class Study:
    """One patient's set of CT phases, each on its own grid.

    Args:
        study_id: Name of the study and of its folder; letters, digits, ``.``, ``_``, ``-`` and spaces.
        phases: CT volumes in HU by phase, at least one.
        reference_phase: The phase that carries the annotation.
        liver: Liver mask on the reference phase's grid, or None when there is none.
        tumor: Tumor mask on that grid; ``TUMOR_FREE`` when the study is declared free of tumor; None when unknown.
        synthetic: Whether any voxel was made by a generative model of tumors.
        history: How the study came to be, oldest first.
        qa: What the stages measured about themselves, by stage name.

    Raises:
        InputError: No phase, a reference phase that is not there, or a mask on another grid.
    """

    study_id: str
    phases: Mapping[Phase, Volume]
    reference_phase: Phase
    liver: Mask | None = None
    tumor: Mask | TumorFree | None = None
    synthetic: bool = False
    history: tuple[HistoryEntry, ...] = ()
    qa: Mapping[str, StageQA] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_study_id(self.study_id)
        object.__setattr__(self, "phases", {phase: self.phases[phase] for phase in in_order(self.phases)})
        default_reference(self.phases)
        if self.reference_phase not in self.phases:
            raise InputError(
                f"Study '{self.study_id}' has no volume for its reference phase {self.reference_phase}",
                expected="one of its phases: " + ", ".join(self.phases),
            )
        for name, mask in (("liver", self.liver), ("tumor", self.tumor)):
            if isinstance(mask, Mask):
                self._check_grid(f"The {name} mask", mask.volume.grid)

    def _check_grid(self, name: str, grid: Grid) -> None:
        if difference := self.grid.difference(grid):
            raise InputError(
                f"{name} of study '{self.study_id}' lies on another grid than {self.reference_phase}: {difference}",
                expected=f"the grid of {self.reference_phase}",
                remedy=f"Resample it to the {self.reference_phase} volume, or set the phase it was drawn on",
            )

    @property
    def reference(self) -> Volume:
        """The CT volume of the reference phase."""
        return self.phases[self.reference_phase]

    @property
    def grid(self) -> Grid:
        """The grid of the reference phase and of every mask."""
        return self.reference.grid

    @property
    def tumor_mask(self) -> Mask | None:
        """The tumor mask, or None when the study has none (free of tumor, or unknown)."""
        return self.tumor if isinstance(self.tumor, Mask) else None

    @property
    def is_tumor_free(self) -> bool:
        """Whether the study is declared free of tumor (unknown is not free)."""
        return isinstance(self.tumor, TumorFree)


@dataclass(frozen=True, eq=False)
class RegisteredStudy(Study):
    """A study with all phases on the reference phase's grid; a one-phase study is one by definition.

    Args:
        transforms: ITK transforms by moving phase: point of the reference phase (LPS mm) -> point of the moving phase.
            Phases that need none are absent.

    Raises:
        InputError: As ``Study``, or a phase on another grid.
    """

    transforms: Mapping[Phase, sitk.Transform] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for phase, volume in self.phases.items():
            self._check_grid(f"Phase {phase}", volume.grid)

    def stack(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return all four phases and which are there.

        Returns:
            CT values (P, Z, Y, X), float32, HU, in the order of ``Phase``, 0 where a phase is missing;
            presence flags (P,), float32, 0 or 1.
        """
        values = np.zeros((len(ALL_PHASES), *self.grid.shape), dtype=np.float32)
        presence = np.zeros(len(ALL_PHASES), dtype=np.float32)
        for index, phase in enumerate(ALL_PHASES):
            if phase in self.phases:
                values[index] = self.phases[phase].array
                presence[index] = 1.0
        return values, presence


def rejected_phases(study: Study) -> frozenset[Phase]:
    """Return the phases whose registration was judged unusable; the reference phase is never one."""
    qa = study.qa.get("register")
    phases = qa.phases.items() if qa else ()
    return frozenset(
        phase for phase, found in phases if found.verdict is Verdict.REJECT and phase != study.reference_phase
    )


def is_rejected(qa: Mapping[str, StageQA], stage: str) -> bool:
    """Return whether a stage judged its own result unusable, of a study's ``qa``."""
    return stage in qa and qa[stage].verdict is Verdict.REJECT


def without_rejected(study: RegisteredStudy) -> RegisteredStudy:
    """Return a study without the phases that registration rejected: to later stages they are missing.

    A warning names each phase that is left out, and why. ``qa`` stays as it is.
    """
    rejected = rejected_phases(study) & set(study.phases)
    if not rejected:
        return study
    for phase in in_order(rejected):
        reasons = "; ".join(study.qa["register"].phases[phase].reasons)
        log.warning("%s: %s is left out, its registration was rejected (%s)", study.study_id, phase, reasons)
    phases = {phase: volume for phase, volume in study.phases.items() if phase not in rejected}
    transforms = {phase: found for phase, found in study.transforms.items() if phase not in rejected}
    return replace(study, phases=phases, transforms=transforms)


def source_study_of(study: Study) -> str:
    """Return the id of the patient's study that a synthetic one was made from; empty for a real one."""
    sources = [entry.config.get("source_study") for entry in study.history if entry.stage == "synthesize"]
    return str(sources[0] or "") if sources else ""


@dataclass(frozen=True, eq=False)
class NormalStudy:
    """A registered study without tumor: declared free of it, or with every tumor inpainted.

    Args:
        study: The tumor-free phases.
        inpainting_mask: What was filled, on the study's grid; None when nothing had to be.

    Raises:
        InputError: The study is not declared tumor-free.
    """

    study: RegisteredStudy
    inpainting_mask: Mask | None = None

    def __post_init__(self) -> None:
        if not self.study.is_tumor_free:
            found = "has tumors" if self.study.tumor_mask else "does not say whether it has tumors"
            raise InputError(
                f"Study '{self.study.study_id}' {found}",
                expected="a tumor-free study: an unlabeled tumor in a synthetic pair is a wrong label",
                remedy='Remove its tumors with "inpaint", or declare it tumor-free ("tumor": null in study.json)',
            )


@dataclass(frozen=True, eq=False)
class SyntheticPair:
    """Synthetic phases with the tumor mask they were made from, strictly aligned by construction.

    Args:
        study: The synthetic phases; its tumor mask has the source ``synthetic``.

    Raises:
        InputError: The study is not marked synthetic or has no synthetic tumor mask.
    """

    study: RegisteredStudy

    def __post_init__(self) -> None:
        mask = self.study.tumor_mask
        if not self.study.synthetic or mask is None or mask.source is not MaskSource.SYNTHETIC:
            raise InputError(
                f"Study '{self.study.study_id}' is not a synthetic pair", expected="a synthetic tumor mask"
            )


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Liver and tumor of one study, found by a model.

    Args:
        study_id: The study that was segmented.
        liver: Liver, tumors included, on the grid of the study's reference phase.
        tumor: Tumors, on the same grid; inside ``liver``.
        reference_phase: The phase on whose grid the masks lie.
        probability: Tumor probability 0 ... 255 (uint8), when asked for.
        uncertainty: Entropy of background, liver and tumor, 0 ... 255 (uint8), when asked for.
        history: How it came to be.

    Raises:
        InputError: The masks lie on different grids.
    """

    study_id: str
    liver: Mask
    tumor: Mask
    reference_phase: Phase
    probability: Volume | None = None
    uncertainty: Volume | None = None
    history: tuple[HistoryEntry, ...] = ()

    def __post_init__(self) -> None:
        if difference := self.liver.volume.grid.difference(self.tumor.volume.grid):
            raise InputError(f"Liver and tumor lie on different grids: {difference}", expected="one grid")


def check_study_id(study_id: str) -> str:
    """Return a study id that can name a folder on every system.

    Raises:
        InputError: Empty, longer than 100 characters or 200 bytes, with others than letters, digits, space and
            ``._-()``, hidden by a dot at its beginning, or a name that Windows keeps for devices.
    """
    is_valid = re.fullmatch(r"(?=.{1,100}\Z)[\w()-][\w .()-]*(?<![ .])", study_id)
    is_device = study_id.partition(".")[0].rstrip().upper() in WINDOWS_DEVICES
    if not is_valid or is_device or len(study_id.encode()) > LONGEST_ID_BYTES:
        raise InputError(
            f"The study id '{study_id}' cannot name a folder",
            expected="1 to 100 letters, digits, spaces and . _ - ( ), not beginning with a dot or ending in one",
        )
    return study_id
