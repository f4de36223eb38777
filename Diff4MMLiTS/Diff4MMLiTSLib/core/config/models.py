"""What a model is: its card and the configurations of its networks."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from .settings import Settings


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
        numbers: Measured constants that the networks need, for example ``coarse_factor``.
        data_hash: SHA-256 over the training studies (ids and voxels).
    """

    format: int = 1
    kind: ModelKind
    name: str
    phases: tuple[str, ...] = ("NC", "AP", "PVP", "DELAY")
    spacing_mm: float
    window_hu: tuple[float, float]
    networks: dict[str, dict[str, Any]]  # Any: checked by the network's own class
    numbers: dict[str, float] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    seed: int
    data_hash: str = ""
    training_data: str = "phantoms"
    license: str = "Apache-2.0"
    intended_use: str = "trained on phantoms, not for patients"
    metrics: dict[str, float] = Field(default_factory=dict)


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
