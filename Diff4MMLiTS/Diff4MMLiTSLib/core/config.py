"""Every setting with its default, its unit and its origin; TOML files and ``--set`` change them.

Each command has one configuration class. Unknown keys are errors that list the valid ones.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import InputError


class Settings(BaseModel):
    """Base of all configurations: frozen, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelKind(StrEnum):
    """What a model does; a synthesizer is an autoencoder and a denoiser that belong together."""

    INPAINTER = "inpainter"
    AUTOENCODER = "autoencoder"
    DENOISER = "denoiser"
    SYNTHESIZER = "synthesizer"
    SEGMENTER = "segmenter"


class ModelCard(Settings):
    """What ``model.json`` says about a model: enough to run it, to repeat it and to know what it is for.

    Attributes:
        networks: Configuration of each network by its name; each has its ``<name>.safetensors``.
        numbers: Measured constants that the networks need, for example ``latent_scale``.
        data_hash: SHA-256 over the training studies (ids and voxels).
    """

    format: int = 1
    kind: ModelKind
    name: str
    phases: tuple[str, ...] = ("NC", "AP", "PVP", "DELAY")
    spacing_mm: float
    window_hu: tuple[float, float]
    networks: dict[str, dict[str, Any]]  # Any: checked by the network's own class
    numbers: dict[str, float] = {}
    versions: dict[str, str] = {}
    seed: int
    data_hash: str = ""
    training_data: str = "phantoms"
    license: str = "Apache-2.0"
    intended_use: str = "trained on phantoms, not for patients"
    metrics: dict[str, float] = {}


class Method(StrEnum):
    """How far registration may change a phase."""

    NONE = "none"
    RIGID = "rigid"
    AFFINE = "affine"
    DEFORMABLE = "deformable"


class RegisterConfig(Settings):
    """Registration of the phases to the reference phase; docs/registration.md measures the choices.

    Attributes:
        method: Rigid, affine or deformable alignment, or resampling only.
        region_mm: Distance around the liver that is aligned with it.
        margin_mm: Distance over which the deformation fades outside the liver.
        search_spacing_mm: Voxels of the exhaustive search over translations.
        least_overlap: Part of the region that a translation must keep in the moving field of view.
        linear_spacing_mm: Voxels of the rigid and affine refinement.
        linear_iterations: Most iterations of that refinement.
        spacing_mm: Voxels of the deformable refinement.
        search_mm: Largest displacement along an axis that the discrete search finds beyond the rigid start.
        control_mm: Distance of the B-spline's control points.
        iterations: Steps of the descent.
        samples: Voxels that one step looks at.
        step_mm: First step length of the descent; it ends at a tenth.
        smoothness: Weight of the bending energy against the dissimilarity.
        seed: Seed of the voxels that are looked at.
    """

    method: Method = Method.DEFORMABLE
    region_mm: float = Field(default=10.0, ge=0)
    margin_mm: float = Field(default=36.0, gt=0)
    search_spacing_mm: float = Field(default=4.0, gt=0)
    least_overlap: float = Field(default=0.6, gt=0, le=1)
    linear_spacing_mm: float = Field(default=3.0, gt=0)
    linear_iterations: int = Field(default=60, ge=1)
    spacing_mm: float = Field(default=2.0, gt=0)
    search_mm: float = Field(default=16.0, gt=0)
    control_mm: float = Field(default=12.0, gt=0)
    iterations: int = Field(default=120, ge=1)
    samples: int = Field(default=60_000, ge=1000)
    step_mm: float = Field(default=0.5, gt=0)
    smoothness: float = Field(default=1.0, ge=0)
    seed: int = Field(default=0, ge=0)


class Precision(StrEnum):
    """Number format of the forward pass; weights stay float32."""

    FLOAT32 = "no"
    BFLOAT16 = "bf16"
    FLOAT16 = "fp16"


class TrainLoopConfig(Settings):
    """The one training loop; learning rates belong to the networks.

    Attributes:
        steps: Optimizer steps.
        batch_size: Items of one forward pass of one process.
        accumulation: Forward passes per optimizer step.
        warmup_fraction: Part of the steps in which the learning rate rises; it then falls as a cosine to zero.
        ema_decay: Decay of the moving average of the weights; smaller in the first steps.
        validate_every: Steps between validations; 0 validates at the end only.
        checkpoint_every: Steps between checkpoints; 0 writes one at the end only.
        keep_checkpoints: How many checkpoints stay; the best weights stay besides.
        patience: Validations without a better score after which training ends; 0 never ends it.
        workers: Processes that prepare items; 0 prepares them in the loop. The result does not depend on it.
    """

    steps: int = Field(default=50_000, ge=1)
    batch_size: int = Field(default=2, ge=1)
    accumulation: int = Field(default=1, ge=1)
    warmup_fraction: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=1e-5, ge=0)
    clip_norm: float = Field(default=12.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Precision = Precision.FLOAT32
    validate_every: int = Field(default=1000, ge=0)
    checkpoint_every: int = Field(default=1000, ge=0)
    keep_checkpoints: int = Field(default=2, ge=1)
    patience: int = Field(default=0, ge=0)
    workers: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)


class AugmentationConfig(Settings):
    """How training patches vary. No flips: a mirrored abdomen has its liver on the wrong side.

    Attributes:
        rotation_degrees: Largest rotation about each axis.
        scale: Largest relative change of size.
        shift_mm: Standard deviation, along each axis, of the shift of a phase against the reference phase:
            what registration leaves over.
        gain: Largest relative change of contrast about 0 HU, per phase.
        offset_hu: Standard deviation of the change of brightness, per phase.
        noise_hu: Largest standard deviation of added white noise.
        phase_dropout: Probability that a phase is withheld; one always stays.
    """

    rotation_degrees: float = Field(default=10.0, ge=0)
    scale: float = Field(default=0.15, ge=0, lt=1)
    shift_mm: float = Field(default=1.0, ge=0)
    gain: float = Field(default=0.08, ge=0, lt=1)
    offset_hu: float = Field(default=8.0, ge=0)
    noise_hu: float = Field(default=10.0, ge=0)
    phase_dropout: float = Field(default=0.25, ge=0, lt=1)


class SegmenterArchitecture(StrEnum):
    """Which MONAI network segments."""

    DYNUNET = "dynunet"
    UNET = "unet"
    ATTENTION_UNET = "attention_unet"
    SEGRESNET = "segresnet"
    SWIN_UNETR = "swin_unetr"


class SegmenterNetwork(Settings):
    """The network of stage 4.

    Attributes:
        channels: Feature channels per resolution, finest first; each level halves the resolution.
            SegResNet and SwinUNETR take only the first and double it; SwinUNETR needs a multiple of 12.
        deep_supervision: How many coarser levels of the DynUNet are trained too.
    """

    architecture: SegmenterArchitecture = SegmenterArchitecture.DYNUNET
    channels: tuple[int, ...] = Field(default=(32, 64, 128, 256, 320), min_length=3)
    deep_supervision: int = Field(default=2, ge=0)


class SegmenterTrainConfig(Settings):
    """Training of the segmenter on real and synthetic studies.

    Attributes:
        spacing_mm: Working grid, isotropic.
        window_hu: Values clipped and mapped to [-1, 1].
        patch: Size of a training patch in voxels (Z, Y, X); a multiple of the network's total downsampling.
        tumor_fraction: Part of the patches centered on a tumor.
        liver_fraction: Part of the patches centered in the liver.
        synthetic_fraction: Part of the patches from synthetic studies, when there are real and synthetic ones.
        learning_rate: Peak rate of AdamW.
    """

    spacing_mm: float = Field(default=1.5, gt=0)
    window_hu: tuple[float, float] = (-175.0, 250.0)
    patch: tuple[int, int, int] = (96, 96, 96)
    tumor_fraction: float = Field(default=0.5, ge=0, le=1)
    liver_fraction: float = Field(default=0.3, ge=0, le=1)
    synthetic_fraction: float = Field(default=0.5, ge=0, le=1)
    learning_rate: float = Field(default=4e-4, gt=0)
    network: SegmenterNetwork = SegmenterNetwork()
    augmentation: AugmentationConfig = AugmentationConfig()
    loop: TrainLoopConfig = TrainLoopConfig()

    @model_validator(mode="after")
    def _patch_fits_the_network(self) -> Self:
        factor = (
            32
            if self.network.architecture is SegmenterArchitecture.SWIN_UNETR
            else 2 ** (len(self.network.channels) - 1)
        )
        if any(size < factor or size % factor for size in self.patch):
            raise ValueError(f"a patch whose sizes are multiples of {factor} (the network halves the resolution)")
        return self


class SegmentConfig(Settings):
    """Stage 4 at work.

    Attributes:
        overlap: Overlap of neighboring windows, as a fraction.
        windows_at_once: Windows in one forward pass.
        minimum_tumor_ml: Smaller tumor components are removed. A ball of 4 mm diameter has 0.03 ml.
        probability: Whether the tumor probability is kept.
    """

    overlap: float = Field(default=0.5, ge=0, lt=1)
    windows_at_once: int = Field(default=2, ge=1)
    minimum_tumor_ml: float = Field(default=0.03, ge=0)
    probability: bool = False


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_config(
    kind: type[SettingsT],
    file: Path | None = None,
    assignments: Sequence[str] = (),
) -> SettingsT:
    """Build a configuration from its defaults, a TOML file and ``key=value`` assignments, in this order.

    Args:
        kind: The configuration class.
        file: TOML file whose keys are those of ``kind``; None for the defaults.
        assignments: For example ``["final_grid_mm=30", "optimizer.learning_rate=1e-4"]``; values are TOML, or text.

    Raises:
        InputError: Unreadable file, unknown key, or a value of the wrong type or range.
    """
    values = _read_toml(file) if file else {}
    for assignment in assignments:
        _assign(values, assignment)
    return build_config(kind, values)


def build_config(kind: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:  # Any: checked here
    """Build a configuration from plain values.

    Raises:
        InputError: Unknown key, or a value of the wrong type or range.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            owner = _owner(kind, first["loc"][:-1])
            raise InputError(
                f"Unknown setting '{key}'", expected="one of " + ", ".join(sorted(owner.model_fields))
            ) from None
        raise InputError(f"Setting '{key}' has the value {first['input']!r}", expected=first["msg"]) from None


def _read_toml(file: Path) -> dict[str, Any]:  # Any: checked by build_config
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no configuration file '{file.name}'", remedy="Check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"'{file.name}' cannot be read as TOML: {error}", expected="a TOML file") from None


def _assign(values: dict[str, Any], assignment: str) -> None:  # Any: checked by build_config
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise InputError(f"The assignment '{assignment}'", expected="key=value, for example spacing_mm=2.0")
    *parents, last = key.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(f"The setting '{parent}' of '{assignment}' is a value", expected="a group of settings")
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = text


def _owner(kind: type[Settings], path: tuple[int | str, ...]) -> type[Settings]:
    for name in path:
        field = kind.model_fields.get(str(name))
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, Settings):
            kind = inner
    return kind
