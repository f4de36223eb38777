"""Every setting with its default, its unit and its origin; TOML files and ``--set`` change them.

Each command has one configuration class. Unknown keys are errors that list the valid ones.
"""

from .models import (
    AutoencoderNetwork,
    DenoiserNetwork,
    DiffusionConfig,
    DiscriminatorNetwork,
    InpainterNetwork,
    ModelCard,
    ModelKind,
    Prediction,
    SegmenterArchitecture,
    SegmenterNetwork,
)
from .settings import Settings, SettingsT, build_config, load_config
from .stages import (
    AUTO_MARGIN,
    ImportConfig,
    InpaintConfig,
    Method,
    RegisterConfig,
    RegisterLimits,
    Sampler,
    SegmentConfig,
    SynthesizeConfig,
    TumorMaskConfig,
)
from .training import (
    AugmentationConfig,
    AutoencoderTrainConfig,
    DemoConfig,
    DenoiserTrainConfig,
    InpainterTrainConfig,
    Precision,
    SegmenterTrainConfig,
    TrainConfig,
    TrainLoopConfig,
    TrainTarget,
)

__all__ = [
    "AUTO_MARGIN",
    "AugmentationConfig",
    "AutoencoderNetwork",
    "AutoencoderTrainConfig",
    "DemoConfig",
    "DenoiserNetwork",
    "DenoiserTrainConfig",
    "DiffusionConfig",
    "DiscriminatorNetwork",
    "ImportConfig",
    "InpaintConfig",
    "InpainterNetwork",
    "InpainterTrainConfig",
    "Method",
    "ModelCard",
    "ModelKind",
    "Precision",
    "Prediction",
    "RegisterConfig",
    "RegisterLimits",
    "Sampler",
    "SegmentConfig",
    "SegmenterArchitecture",
    "SegmenterNetwork",
    "SegmenterTrainConfig",
    "Settings",
    "SettingsT",
    "SynthesizeConfig",
    "TrainConfig",
    "TrainLoopConfig",
    "TrainTarget",
    "TumorMaskConfig",
    "build_config",
    "load_config",
]
