"""The network families: configuration, module, and what an image must look like for each."""

from __future__ import annotations

from typing import Literal

from torch import nn

from waveedge.models.wavemix import WaveMix, WaveMixConfig
from waveedge.models.wtconvnext import WTConvNeXt, WTConvNeXtConfig
from waveedge.spec import ModelSpec, Preprocessing

__all__ = ["CONFIGS", "Config", "describe", "network"]

Config = WaveMixConfig | WTConvNeXtConfig

CONFIGS: dict[str, type[WaveMixConfig] | type[WTConvNeXtConfig]] = {
    "wavemix": WaveMixConfig,
    "wtconvnext": WTConvNeXtConfig,
}

# Mean and deviation of ImageNet's training images, as used by the published training code.
_IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def network(config: Config) -> nn.Module:
    """Build the module of a configuration, with fresh random weights."""
    return WaveMix(config) if isinstance(config, WaveMixConfig) else WTConvNeXt(config)


def describe(config: Config, assumed: tuple[str, ...] = ()) -> ModelSpec:
    """Describe a network: its configuration, and the published practice for its images.

    Args:
        config: of either family.
        assumed: fields of ``config`` that nobody stated and no shape tells.
    """
    family: Literal["wavemix", "wtconvnext"]
    family = "wavemix" if isinstance(config, WaveMixConfig) else "wtconvnext"
    colour = config.in_channels == 3
    normalised = colour and config.task in ("classification", "segmentation")
    return ModelSpec(
        family=family,
        config=config.model_dump(mode="json"),
        assumed=assumed,
        task=config.task,
        preprocessing=_IMAGENET if normalised else Preprocessing(),
        channels=config.in_channels,
        input_size=_input_size(config),
        size_multiple=config.size_multiple,
    )


def _input_size(config: Config) -> tuple[int, int]:
    """Height and width that the family's checkpoints are usually run at."""
    if isinstance(config, WTConvNeXtConfig):
        return 224, 224
    height, width = 128, 128
    if config.task == "segmentation":
        height, width = 256, 512
    elif config.task == "classification":
        # Released: 256 (ImageNet) with a patch stem or four levels, 32 (CIFAR) with neither.
        small = 28 if config.in_channels == 1 else 32
        large = config.stem == "patch" or config.reduction > 1
        height = width = 256 if large and config.in_channels != 1 else small
    multiple = config.size_multiple
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple
