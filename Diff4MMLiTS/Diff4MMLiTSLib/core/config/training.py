"""The settings of training, of recipes and of the demo."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from .models import AutoencoderNetwork, DenoiserNetwork, DiscriminatorNetwork, InpainterNetwork, SegmenterNetwork
from .settings import Settings
from .stages import InpaintConfig, RegisterConfig, SynthesizeConfig, TumorMaskConfig


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
        keep_free_gb: Disk space (10^9 bytes) that stays free: a run that would need it is refused, and one that
            comes near ends with a checkpoint.
        workers: Threads that prepare items ahead; 0 prepares them in the loop. The result does not depend on it.
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
    keep_free_gb: float = Field(default=1.0, ge=0)
    workers: int = Field(default=2, ge=0)
    seed: int = Field(default=0, ge=0)


class AugmentationConfig(Settings):
    """How training patches vary; what is 0 does not.

    Attributes:
        rotation_degrees: Largest rotation about each axis.
        scale: Largest relative change of size.
        shift_mm: Standard deviation, along each axis, of the shift of a phase against the reference phase:
            what registration leaves over.
        gain: Largest relative change of contrast about 0 HU, per phase.
        offset_hu: Standard deviation of the change of brightness, per phase.
        noise_hu: Largest standard deviation of added white noise.
        phase_dropout: Probability that a phase is withheld; one always stays.
        tissue_hu: Standard deviation of the change of brightness of each kind of tissue (a bent tone curve), per phase.
        liver_hu: Standard deviation of the change of brightness of the liver against everything else, per phase:
            fat, iron, cirrhosis, timing.
        blur_mm: Largest standard deviation of a blur along z, and half of that across it, per phase: thick slices.
        field_cut: Probability that the field of view ends inside the patch.
        flips: Axes along which every second patch is flipped. None by default: a mirrored abdomen has its liver on
            the wrong side.
    """

    rotation_degrees: float = Field(default=10.0, ge=0)
    scale: float = Field(default=0.15, ge=0, lt=1)
    shift_mm: float = Field(default=1.0, ge=0)
    gain: float = Field(default=0.08, ge=0, lt=1)
    offset_hu: float = Field(default=8.0, ge=0)
    noise_hu: float = Field(default=10.0, ge=0)
    phase_dropout: float = Field(default=0.25, ge=0, lt=1)
    tissue_hu: float = Field(default=6.0, ge=0)
    liver_hu: float = Field(default=10.0, ge=0)
    blur_mm: float = Field(default=2.0, ge=0)
    field_cut: float = Field(default=0.1, ge=0, le=1)
    flips: tuple[Literal["x", "y", "z"], ...] = ()

    def weakened(self, strength: float) -> AugmentationConfig:
        """Return the settings that vary patches by a part, 0 to 1, of what these do; flips stay."""
        values = self.model_dump(exclude={"flips"})
        return self.model_copy(update={name: strength * value for name, value in values.items()})


class SegmenterTrainConfig(Settings):
    """Training of the segmenter on real and synthetic studies.

    Attributes:
        spacing_mm: Working grid, isotropic.
        window_hu: Values clipped and mapped to [-1, 1].
        tumor_fraction: Part of the patches centered on a tumor.
        liver_fraction: Part of the patches centered in the liver.
        synthetic_fraction: Part of the patches from synthetic studies, when there are real and synthetic ones.
        coarse_factor: How much larger the voxels are in which the liver is searched at work.
        coarse_fraction: Part of the patches with such voxels; with 0 the model searches at full resolution.
        click_fraction: Part of the other patches with clicks; the rest has none, as in automatic use.
        learning_rate: Peak rate of AdamW.
        augmentation_growth: Patches during which they come to vary as ``augmentation`` says, evenly from not at all
            on: faint tumors are learned while they look alike, and strange looks later. 0: from the start.
    """

    spacing_mm: float = Field(default=1.5, gt=0)
    window_hu: tuple[float, float] = (-175.0, 250.0)
    tumor_fraction: float = Field(default=0.5, ge=0, le=1)
    liver_fraction: float = Field(default=0.3, ge=0, le=1)
    synthetic_fraction: float = Field(default=0.5, ge=0, le=1)
    coarse_factor: float = Field(default=2.0, gt=1)
    coarse_fraction: float = Field(default=0.25, ge=0, lt=1)
    click_fraction: float = Field(default=0.25, ge=0, lt=1)
    learning_rate: float = Field(default=4e-4, gt=0)
    network: SegmenterNetwork = SegmenterNetwork()
    augmentation: AugmentationConfig = AugmentationConfig()
    augmentation_growth: int = Field(default=0, ge=0)
    loop: TrainLoopConfig = TrainLoopConfig()


class InpainterTrainConfig(Settings):
    """Training of the inpainter on random holes in livers; a weight of 0 switches a loss off.

    Attributes:
        spacing_mm: Working grid, isotropic.
        patch: Size of a training patch in voxels (Z, Y, X).
        margin_mm: Dilation of real tumors, which are hidden and never learned from.
        known_weight: Of L1 on the known liver, which makes the fill meet it; L1 in the hole weighs 1.
        spectral_weight: Of the difference of magnitude spectra in the hole.
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
    known_weight: float = Field(0.1, ge=0)
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


class AutoencoderLimits(Settings):
    """What an autoencoder must keep before a denoiser may be trained on it; measured on whole latents, not on codes.

    Attributes:
        psnr_db: Least peak signal-to-noise ratio in the liver, over the window; noise of 10 HU alone costs 35 dB.
        ssim: Least mean structural similarity in the liver.
        bias_hu: Largest mean error in liver and in tumors: half of what radiologists see.
        std_ratio: Allowed deviation of the parenchyma, as a multiple of the genuine one.
    """

    psnr_db: float = 33.0
    ssim: float = Field(0.85, le=1)
    bias_hu: float = Field(5.0, gt=0)
    std_ratio: tuple[float, float] = (0.7, 1.3)


class DenoiserTrainConfig(Settings):
    """Training of the denoiser on pairs of a study with tumors and its inpainted normal study.

    Working grid and window are the autoencoder's.

    Attributes:
        limits: What the autoencoder must keep; else training is refused.
        patch: Size of a training patch in voxels (Z, Y, X), a multiple of the autoencoder's compression.
        ring_mm: Width of the ring around the tumor that counts as much as the tumor.
        background_weight: Weight of the loss elsewhere.
        largest_shift_mm: How far a tumor may lie beside its mask in other phases and still be moved onto it.
        family_dropout: Probability that the tumor's family is not told.
        mirror: Show lesions mirrored along random axes, too.
        contrast_gain: Largest relative change of a tumor's contrast.
    """

    limits: AutoencoderLimits = AutoencoderLimits()
    patch: tuple[int, int, int] = (96, 96, 96)
    ring_mm: float = Field(6.0, ge=0)
    background_weight: float = Field(0.1, ge=0, le=1)
    largest_shift_mm: float = Field(8.0, ge=0)
    family_dropout: float = Field(0.1, ge=0, le=1)
    mirror: bool = True
    contrast_gain: float = Field(0.15, ge=0, lt=1)
    phase_dropout: float = Field(0.1, ge=0, lt=1)
    learning_rate: float = Field(3e-4, gt=0)
    network: DenoiserNetwork = DenoiserNetwork()
    loop: TrainLoopConfig = TrainLoopConfig()


class TrainTarget(StrEnum):
    """What a recipe trains: one network, autoencoder and denoiser (synthesizer), or all of them in order."""

    INPAINTER = "inpainter"
    AUTOENCODER = "autoencoder"
    DENOISER = "denoiser"
    SYNTHESIZER = "synthesizer"
    SEGMENTER = "segmenter"
    ALL = "all"


class PairSource(StrEnum):
    """Where the segmenter's synthetic pairs come from.

    Files are made once before training; a pool is made during training and replaced from time to time; fresh ones are
    made for every training item.
    """

    FILES = "files"
    POOL = "pool"
    FRESH = "fresh"


class TrainConfig(Settings):
    """A recipe: what is trained, from which cohorts, with which settings. Paths are relative to the recipe's folder.

    Attributes:
        target: The network to train, or ``all``.
        name: Name of the model.
        cohorts: Registered studies with liver and tumor labels; for the segmenter synthetic ones too. ``all`` registers
            studies that are not.
        validation: Studies that are only measured.
        normal: The inpainted counterparts of ``cohorts`` (denoiser, synthesizer; segmenter).
        normal_validation: The inpainted counterparts of ``validation`` (denoiser, synthesizer).
        autoencoder: Model folder of the autoencoder (denoiser).
        allow_model_masks: Learn from masks that a model drew, too.
        intended_use: What the model is for; the output of every command repeats it.
        margin_mm: How much around the liver is loaded for stages 2 and 3; stage 4 learns from whole studies.
        synthesizer: Model folder that makes a segmenter's pairs out of ``normal``, when they are not files (segmenter).
        pairs: Synthetic pairs per study, in files (all).
        pair_source: Where a segmenter's synthetic pairs come from (segmenter, all).
        pool: Pairs of the pool.
        pool_uses: The pool is replaced after so many training items per pair.
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
    synthesizer: str = ""
    pairs: int = Field(1, ge=1)
    pair_source: PairSource = PairSource.FILES
    pool: int = Field(32, ge=1)
    pool_uses: int = Field(16, ge=1)
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
