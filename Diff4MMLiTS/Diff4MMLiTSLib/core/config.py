"""Every setting with its default, its unit and its origin; TOML files and ``--set`` change them.

Each command has one configuration class. Unknown keys are errors that list the valid ones.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .enhancement import TumorFamily
from .errors import InputError
from .phases import Phase


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


class RegisterLimits(Settings):
    """When a registered phase needs review and when it is rejected: (review, reject).

    Each limit lies between what good and broken registrations reach in ``benchmarks/registration.py --verdicts``.

    Attributes:
        matched_fraction: Least part of the liver's structures that are found within 4 mm.
        residual_p95_mm: Largest 95 % quantile of their distance.
        outside_fraction: Largest part of the liver without data in the phase.
        folding_fraction: Largest folded part of the region.
        tumor_volume_change: Largest relative change of the tumors' volume.
        liver_dice: Least Dice of the livers, when a model found the phase's.
    """

    matched_fraction: tuple[float, float] = (0.7, 0.5)
    residual_p95_mm: tuple[float, float] = (12.0, 18.0)
    outside_fraction: tuple[float, float] = (0.02, 0.3)
    folding_fraction: tuple[float, float] = (0.001, 0.01)
    tumor_volume_change: tuple[float, float] = (0.2, 0.5)
    liver_dice: tuple[float, float] = (0.88, 0.75)


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
        stride: One step of the descent looks at every stride-th voxel along each axis.
        step_mm: First step length of the descent; it ends at a tenth.
        smoothness: Weight of the bending energy against the dissimilarity.
        limits: Thresholds of the verdict.
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
    stride: int = Field(default=3, ge=1, le=3)
    step_mm: float = Field(default=0.5, gt=0)
    smoothness: float = Field(default=1.0, ge=0)
    limits: RegisterLimits = RegisterLimits()


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
            SegResNet and SwinUNETR take only the first (a multiple of 8 and of 12) and double it.
        deep_supervision: How many coarser levels of the DynUNet are trained too.
        patch: Size (Z, Y, X), in voxels of the working grid, of training patches and of the windows at work.
    """

    architecture: SegmenterArchitecture = SegmenterArchitecture.DYNUNET
    channels: tuple[int, ...] = Field(default=(32, 64, 128, 256, 320), min_length=3)
    deep_supervision: int = Field(default=2, ge=0)
    patch: tuple[int, int, int] = (96, 96, 96)

    @model_validator(mode="after")
    def _patch_fits(self) -> Self:
        swin = self.architecture is SegmenterArchitecture.SWIN_UNETR
        factor = 32 if swin else 2 ** (len(self.channels) - 1)
        if any(
            size < 2 * factor or size % factor for size in self.patch
        ):  # normalization needs two voxels at the bottom
            raise ValueError(
                f"patch sizes of 2, 3, 4, ... times {factor}, because the network divides them by {factor}"
            )
        return self


class SegmenterTrainConfig(Settings):
    """Training of the segmenter on real and synthetic studies.

    Attributes:
        spacing_mm: Working grid, isotropic.
        window_hu: Values clipped and mapped to [-1, 1].
        tumor_fraction: Part of the patches centered on a tumor.
        liver_fraction: Part of the patches centered in the liver.
        synthetic_fraction: Part of the patches from synthetic studies, when there are real and synthetic ones.
        learning_rate: Peak rate of AdamW.
    """

    spacing_mm: float = Field(default=1.5, gt=0)
    window_hu: tuple[float, float] = (-175.0, 250.0)
    tumor_fraction: float = Field(default=0.5, ge=0, le=1)
    liver_fraction: float = Field(default=0.3, ge=0, le=1)
    synthetic_fraction: float = Field(default=0.5, ge=0, le=1)
    learning_rate: float = Field(default=4e-4, gt=0)
    network: SegmenterNetwork = SegmenterNetwork()
    augmentation: AugmentationConfig = AugmentationConfig()
    loop: TrainLoopConfig = TrainLoopConfig()


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


class InpainterNetwork(Settings):
    """The Fast Fourier Convolution network of stage 2.

    Attributes:
        channels: Feature channels at full resolution; each halving of the resolution doubles them.
        downsamplings: Halvings of the resolution before the residual blocks.
        blocks: Residual blocks of fast Fourier convolutions.
        global_ratio: Part of the channels that work in the frequency domain.
    """

    channels: int = Field(32, ge=4, multiple_of=4)
    downsamplings: int = Field(2, ge=1)
    blocks: int = Field(9, ge=1)
    global_ratio: float = Field(0.75, gt=0, lt=1)


class DiscriminatorNetwork(Settings):
    """The patch discriminator of a GAN: ``layers`` halvings of the resolution."""

    channels: int = Field(32, ge=4)
    layers: int = Field(3, ge=1)


class AutoencoderNetwork(Settings):
    """The VQGAN of stage 3; one phase a pass.

    Attributes:
        channels: Feature channels per level; each level halves the resolution, so two levels compress 4x per axis.
        residual_layers: Residual units per level.
        latent_channels: Channels of the latent.
        codes: Entries of the codebook.
        decay: Of the codebook's moving averages.
    """

    channels: tuple[int, ...] = Field((64, 128), min_length=1)
    residual_layers: int = Field(2, ge=1)
    latent_channels: int = Field(8, ge=1)
    codes: int = Field(2048, ge=2)
    decay: float = Field(0.99, gt=0, lt=1)


class Prediction(StrEnum):
    """What the denoiser predicts: noise, velocity, or the clean latents, which learn fastest in few steps."""

    NOISE = "epsilon"
    V = "v_prediction"
    LATENTS = "sample"


class DiffusionConfig(Settings):
    """The noising process; it belongs to the model. Latents are never clipped: they are standardized instead.

    Attributes:
        zero_terminal_snr: The last timestep is pure noise, as sampling assumes; noise cannot be predicted from it.
    """

    timesteps: int = Field(1000, ge=2)
    schedule: Literal["scaled_linear", "squaredcos_cap_v2"] = "squaredcos_cap_v2"
    prediction: Prediction = Prediction.V
    zero_terminal_snr: bool = True

    @model_validator(mode="after")
    def _pure_noise_tells_no_image(self) -> Self:
        if self.zero_terminal_snr and self.prediction is Prediction.NOISE:
            raise ValueError("another prediction with zero_terminal_snr: the noise in pure noise tells no image")
        return self


class DenoiserNetwork(Settings):
    """The diffusion U-Net of stage 3 and the process it reverses; channels per level are multiples of ``groups``."""

    channels: tuple[int, ...] = Field((64, 128, 256), min_length=1)
    attention: tuple[bool, ...] = (False, False, True)
    residual_blocks: int = Field(2, ge=1)
    groups: int = Field(16, ge=1)
    diffusion: DiffusionConfig = DiffusionConfig()


class Sampler(StrEnum):
    """How noise becomes latents: fast, reference and gold."""

    DPM_SOLVER = "dpm_solver"
    DDIM = "ddim"
    DDPM = "ddpm"


class TumorMaskConfig(Settings):
    """Random tumor masks.

    Attributes:
        tumors: How many.
        center_mm: World position (LPS) of the only tumor; None draws it.
        diameter_mm: Range to draw the diameter from; None draws a radius class.
        radius_classes_mm: Mean radii of tiny, small, medium and large tumors.
        class_weights: How often each class is drawn.
        axis_spread: Each semi-axis is the radius times U(1 - spread, 1 + spread).
        elasticity: Largest elastic displacement of the surface, as part of the radius, reached at the largest class.
        lobulation: Height of the lobes, as part of the radius.
        minimum_inside: Part of the shape that must lie in free liver; less than 1 admits subcapsular tumors.
        gap_mm: Distance between tumors.
        tries: Bound of the search for a place.
    """

    tumors: int = Field(1, ge=1)
    center_mm: tuple[float, float, float] | None = None
    diameter_mm: tuple[float, float] | None = None
    radius_classes_mm: tuple[float, ...] = Field((4.0, 8.0, 16.0, 32.0), min_length=1)
    class_weights: tuple[float, ...] = (0.25, 0.4, 0.25, 0.1)
    axis_spread: float = Field(0.25, ge=0, lt=1)
    elasticity: float = Field(0.25, ge=0)
    lobulation: float = Field(0.15, ge=0)
    minimum_inside: float = Field(0.75, gt=0, le=1)
    gap_mm: float = Field(3.0, ge=0)
    tries: int = Field(200, ge=1)

    @model_validator(mode="after")
    def _classes_fit(self) -> Self:
        if len(self.class_weights) != len(self.radius_classes_mm) or sum(self.class_weights) <= 0:
            raise ValueError("one weight per radius class, some of them positive")
        if self.diameter_mm and not 0 < self.diameter_mm[0] <= self.diameter_mm[1]:
            raise ValueError("a range of diameters, smallest first")
        if self.center_mm and self.tumors > 1:
            raise ValueError("one tumor when its center is given")
        return self


class InpaintConfig(Settings):
    """Stage 2 at work.

    Attributes:
        margin_mm: Dilation of the tumor mask, so that it covers the displaced tumor of other phases too.
        rim_mm: How far the dilated mask may reach beyond the liver.
        context_mm: Known tissue around the region that the network sees.
        window: Size in voxels of the working grid up to which a region is filled in one pass.
        texture: Add the noise that the fill lacks against the patient's own parenchyma.
    """

    margin_mm: float = Field(5.0, ge=0, le=15)
    rim_mm: float = Field(2.0, ge=0)
    context_mm: float = Field(24.0, gt=0)
    window: int = Field(96, ge=16)
    texture: bool = True


class SynthesizeConfig(Settings):
    """Stage 3 at work.

    Attributes:
        sampler: How noise becomes latents.
        steps: Denoising steps (20 for DPM-Solver++, 50 for DDIM, 1000 for DDPM).
        context_mm: Normal tissue around the mask that the network sees.
        band_mm: Distance from the mask at which the synthetic part has faded out.
        redraws: How often a pair that fails its own check is drawn again.
        family: Kind of tumor that is asked for: hcc, hypovascular, cyst or hemangioma; None leaves it to the model.
    """

    sampler: Sampler = Sampler.DPM_SOLVER
    steps: int = Field(20, ge=1)
    context_mm: float = Field(16.0, gt=0)
    band_mm: float = Field(6.0, gt=0, le=12)
    redraws: int = Field(3, ge=0)
    family: TumorFamily | None = None
    tumor: TumorMaskConfig = TumorMaskConfig()


class InpainterTrainConfig(Settings):
    """Training of the inpainter on random holes in livers; a weight of 0 switches a loss off.

    Attributes:
        spacing_mm: Working grid, isotropic.
        patch: Size of a training patch in voxels (Z, Y, X).
        margin_mm: Dilation of real tumors, which are hidden and never learned from.
        spectral_weight: Of the difference of magnitude spectra in the hole; L1 in the hole weighs 1.
        adversarial_weight: Of the discriminator's opinion, from ``adversarial_start`` (part of all steps) on.
        r1_weight: Of the discriminator's gradient penalty.
        feature_weight: Of the difference of the discriminator's features.
        gain: Largest relative change of contrast per phase.
        offset_hu: Standard deviation of the change of brightness per phase.
        phase_dropout: Probability that a phase is withheld.
    """

    spacing_mm: float = Field(1.0, gt=0)
    window_hu: tuple[float, float] = (-175.0, 400.0)
    patch: tuple[int, int, int] = (96, 96, 96)
    margin_mm: float = Field(5.0, ge=0)
    spectral_weight: float = Field(0.1, ge=0)
    adversarial_weight: float = Field(0.1, ge=0)
    adversarial_start: float = Field(0.2, ge=0, le=1)
    r1_weight: float = Field(0.001, ge=0)
    feature_weight: float = Field(1.0, ge=0)
    gain: float = Field(0.05, ge=0, lt=1)
    offset_hu: float = Field(6.0, ge=0)
    phase_dropout: float = Field(0.2, ge=0, lt=1)
    learning_rate: float = Field(3e-4, gt=0)
    holes: TumorMaskConfig = TumorMaskConfig(minimum_inside=0.5, tries=20, class_weights=(0.1, 0.4, 0.4, 0.1))
    network: InpainterNetwork = InpainterNetwork()
    discriminator: DiscriminatorNetwork = DiscriminatorNetwork()
    loop: TrainLoopConfig = TrainLoopConfig()


class AutoencoderTrainConfig(Settings):
    """Training of the autoencoder on single phases; see ``InpainterTrainConfig`` for the shared names.

    Attributes:
        tumor_fraction: Part of the patches centered on a tumor.
        gradient_weight: Of the difference of image gradients: keeps edges.
        quantized_fraction: Part of the items decoded from codes; the rest from continuous latents, as diffusion does.
    """

    spacing_mm: float = Field(1.0, gt=0)
    window_hu: tuple[float, float] = (-175.0, 400.0)
    patch: tuple[int, int, int] = (96, 96, 96)
    tumor_fraction: float = Field(0.5, ge=0, le=1)
    gradient_weight: float = Field(0.5, ge=0)
    spectral_weight: float = Field(0.1, ge=0)
    adversarial_weight: float = Field(0.1, ge=0)
    adversarial_start: float = Field(0.3, ge=0, le=1)
    r1_weight: float = Field(0.001, ge=0)
    feature_weight: float = Field(1.0, ge=0)
    quantized_fraction: float = Field(0.5, ge=0, le=1)
    gain: float = Field(0.1, ge=0, lt=1)
    offset_hu: float = Field(10.0, ge=0)
    learning_rate: float = Field(3e-4, gt=0)
    network: AutoencoderNetwork = AutoencoderNetwork()
    discriminator: DiscriminatorNetwork = DiscriminatorNetwork()
    loop: TrainLoopConfig = TrainLoopConfig()


class DenoiserTrainConfig(Settings):
    """Training of the denoiser on pairs of a study with tumors and its inpainted normal study.

    Working grid and window are the autoencoder's.

    Attributes:
        patch: Size of a training patch in voxels (Z, Y, X), a multiple of the autoencoder's compression.
        ring_mm: Width of the ring around the tumor that counts as much as the tumor.
        background_weight: Weight of the loss elsewhere.
        largest_shift_mm: How far a tumor may lie beside its mask in other phases and still be moved onto it.
        family_dropout: Probability that the tumor's family is not told.
    """

    patch: tuple[int, int, int] = (96, 96, 96)
    ring_mm: float = Field(6.0, ge=0)
    background_weight: float = Field(0.1, ge=0, le=1)
    largest_shift_mm: float = Field(8.0, ge=0)
    family_dropout: float = Field(0.3, ge=0, le=1)
    phase_dropout: float = Field(0.1, ge=0, lt=1)
    learning_rate: float = Field(3e-4, gt=0)
    network: DenoiserNetwork = DenoiserNetwork()
    loop: TrainLoopConfig = TrainLoopConfig()


class ImportConfig(Settings):
    """How ``import`` makes studies from what users have.

    Attributes:
        single_phase: Phase of nnU-Net or Decathlon images whose dataset names none; LiTS is portal venous.
        phases: Phase by number: of a series in the listing of a DICOM folder, or of an nnU-Net channel.
        reference_phase: The phase that the masks were drawn on; None for the first present of PVP, AP, DELAY, NC.
        study_id: Name for the one examination of a DICOM folder; None for a salted hash.
        interpolate_gaps: Accept DICOM series with uneven spacing or single missing slices, by linear interpolation.
        force: Replace studies that are there already.
    """

    single_phase: Phase = Phase.PVP
    phases: dict[int, Phase] = Field(default_factory=dict)
    reference_phase: Phase | None = None
    study_id: str | None = None
    interpolate_gaps: bool = False
    force: bool = False


class TrainTarget(StrEnum):
    """What a recipe trains: one network, or all of them in order."""

    INPAINTER = "inpainter"
    AUTOENCODER = "autoencoder"
    DENOISER = "denoiser"
    SEGMENTER = "segmenter"
    ALL = "all"


class TrainConfig(Settings):
    """A recipe: what is trained, from which cohorts, with which settings. Paths are relative to the recipe's folder.

    Attributes:
        target: The network to train, or ``all``.
        name: Name of the model.
        cohorts: Registered studies with liver and tumor labels; for the segmenter synthetic ones too. ``all`` registers
            studies that are not.
        validation: Studies that are only measured.
        normal: The inpainted counterparts of ``cohorts`` (denoiser).
        normal_validation: The inpainted counterparts of ``validation`` (denoiser).
        autoencoder: Model folder of the autoencoder (denoiser).
        allow_model_masks: Learn from masks that a model drew, too.
        intended_use: What the model is for; the output of every command repeats it.
        margin_mm: How much around the liver is learned from.
        pairs: Synthetic pairs per study (all).
    """

    target: TrainTarget = TrainTarget.ALL
    name: str = "model"
    cohorts: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    normal: tuple[str, ...] = ()
    normal_validation: tuple[str, ...] = ()
    autoencoder: str = ""
    allow_model_masks: bool = False
    intended_use: str = "research only, not for patients"
    margin_mm: float = Field(30.0, ge=0)
    pairs: int = Field(1, ge=1)
    register_studies: RegisterConfig = RegisterConfig()
    inpaint: InpaintConfig = InpaintConfig()
    synthesize: SynthesizeConfig = SynthesizeConfig()
    train_inpainter: InpainterTrainConfig = InpainterTrainConfig()
    train_autoencoder: AutoencoderTrainConfig = AutoencoderTrainConfig()
    train_denoiser: DenoiserTrainConfig = DenoiserTrainConfig()
    train_segmenter: SegmenterTrainConfig = SegmenterTrainConfig()


class DemoConfig(Settings):
    """The demonstration; its values come from Resources/Recipes/demo.toml.

    Attributes:
        training_studies: Phantoms that are learned from.
        validation_studies: Phantoms, with held-out seeds, that are only measured.
        recipe: How the networks are trained; its cohorts are the demo's own.
    """

    training_studies: int = Field(ge=2)
    validation_studies: int = Field(ge=1)
    recipe: TrainConfig


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
