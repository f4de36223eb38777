"""Studies and configurations so small that networks train on them in seconds."""

from __future__ import annotations

import numpy as np
import torch

from Diff4MMLiTSLib.core.config import (
    AutoencoderNetwork,
    DenoiserNetwork,
    DiffusionConfig,
    ModelCard,
    ModelKind,
    Prediction,
    SegmenterTrainConfig,
    build_config,
)
from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.known_lesions import NUMBERS, KnownLesions
from Diff4MMLiTSLib.nets.autoencoder import Autoencoder
from Diff4MMLiTSLib.nets.denoiser import Denoiser
from Diff4MMLiTSLib.training.datasets import WorkingStudy
from Diff4MMLiTSLib.training.segmenter_task import NETWORK

LIVER_HU = np.array([58.0, 78.0, 118.0, 95.0])
TUMOR_HU = np.array([42.0, 115.0, 75.0, 72.0])


def working_study(name: str = "study", *, seed: int = 0, size: int = 24, synthetic: bool = False) -> WorkingStudy:
    """Return four phases of a round liver with a round tumor, 3 mm voxels."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:size, :size, :size] - (size - 1) / 2
    liver = z**2 + y**2 + x**2 < (size * 0.4) ** 2
    tumor = (z - 2) ** 2 + (y + 2) ** 2 + x**2 < (size * 0.16) ** 2
    means = np.where(tumor, TUMOR_HU[:, None, None, None], np.where(liver, LIVER_HU[:, None, None, None], -100.0))
    phases = (means + rng.normal(0, 10, means.shape)).astype(np.float32)
    return WorkingStudy(
        study_id=name,
        phases=phases,
        presence=np.ones(4, dtype=np.float32),
        liver=liver,
        tumor=tumor,
        grid=Grid((size, size, size), (3.0, 3.0, 3.0)),
        synthetic=synthetic,
    )


def segmenter_config(**loop: object) -> SegmenterTrainConfig:
    """Return a configuration of a segmenter with 16 mm patches and 3 levels."""
    return build_config(
        SegmenterTrainConfig,
        {
            "spacing_mm": 3.0,
            "network": {"channels": (8, 16, 32), "patch": (16, 16, 16), "deep_supervision": 1},
            "learning_rate": 5e-3,
            "loop": {"steps": 4, "checkpoint_every": 1, "ema_decay": 0.9, **loop},
        },
    )


def segmenter_card(config: SegmenterTrainConfig, *, name: str = "tiny") -> ModelCard:
    """Return the card of a segmenter trained with this configuration."""
    return ModelCard(
        kind=ModelKind.SEGMENTER,
        name=name,
        spacing_mm=config.spacing_mm,
        window_hu=config.window_hu,
        networks={NETWORK: config.network.model_dump(mode="json")},
        seed=config.loop.seed,
    )


AUTOENCODER = AutoencoderNetwork(channels=(4,), residual_layers=1, latent_channels=2, codes=8)
DENOISER = DenoiserNetwork(
    channels=(8, 8),
    attention=(False, False),
    residual_blocks=1,
    groups=4,
    diffusion=DiffusionConfig(prediction=Prediction.LATENTS),
)
SYNTHESIZER_CARD = ModelCard(
    kind=ModelKind.SYNTHESIZER,
    name="tiny",
    spacing_mm=2.0,
    window_hu=(-175.0, 400.0),
    networks={
        "autoencoder": AUTOENCODER.model_dump(mode="json"),
        "denoiser": DENOISER.model_dump(mode="json"),
        "lesions": {},
    },
    seed=0,
)
NOTHING_KNOWN = KnownLesions(
    np.zeros((0, NUMBERS), np.float32), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)
)


def synthesizer_networks() -> tuple[Autoencoder, Denoiser]:
    """Return networks of which the denoiser says "darker by 40 HU" wherever it is asked, with some noise."""
    torch.manual_seed(0)
    autoencoder = Autoencoder(AUTOENCODER)
    denoiser = Denoiser(DENOISER, autoencoder)
    for parameter in autoencoder.vqvae.parameters():
        parameter.requires_grad_(False).zero_()  # what is left is the coarse image
    for parameter in denoiser.network.out.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    denoiser.network.out[-1].conv.bias.requires_grad_(False).copy_(torch.tensor([-1.0, 0.0] * 4))
    denoiser.set_latent_scale(torch.zeros(2), torch.ones(2), torch.tensor([4 * 40 / 287.5, 0.1]))
    return autoencoder, denoiser


def synthesizer_weights() -> dict[str, dict[str, torch.Tensor]]:
    """Return what a model folder holds beside ``SYNTHESIZER_CARD``."""
    autoencoder, denoiser = synthesizer_networks()
    lesions = {name: torch.from_numpy(values) for name, values in vars(NOTHING_KNOWN).items()}
    return {"autoencoder": autoencoder.state_dict(), "denoiser": denoiser.state_dict(), "lesions": lesions}
