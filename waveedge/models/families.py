"""The network families: configuration, module, and what an image must look like for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from waveedge.models.config import NetworkConfig
from waveedge.models.wavemix import WaveMix, WaveMixConfig
from waveedge.models.wavemixlite import WaveMixLite, WaveMixLiteConfig
from waveedge.models.wavemixsr import WaveMixSRConfig, wavemixsr
from waveedge.models.wavepaint import WavePaint, WavePaintConfig
from waveedge.models.wtconvnext import WTConvNeXtConfig
from waveedge.models.wtconvnext_mmseg import wtconvnext
from waveedge.spec import Family, ModelSpec, Preprocessing

__all__ = ["CONFIGS", "TITLES", "Config", "describe", "network"]

Config = NetworkConfig


class _Family(NamedTuple):
    title: str
    config: type[NetworkConfig]
    module: Callable[[Any], nn.Module]


_FAMILIES: dict[Family, _Family] = {
    "wavemix": _Family("WaveMix", WaveMixConfig, WaveMix),
    "wavemixsr": _Family("WaveMixSR", WaveMixSRConfig, wavemixsr),
    "wavepaint": _Family("WavePaint", WavePaintConfig, WavePaint),
    "wavemixlite": _Family("WaveMix-Lite (dodoseung)", WaveMixLiteConfig, WaveMixLite),
    "wtconvnext": _Family("WTConvNeXt", WTConvNeXtConfig, wtconvnext),
}

CONFIGS: dict[str, type[NetworkConfig]] = {
    name: family.config for name, family in _FAMILIES.items()
}
TITLES: dict[str, str] = {name: family.title for name, family in _FAMILIES.items()}

# Mean and deviation of ImageNet's training images, as used by the published training code.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(config: Config) -> nn.Module:
    """Build the module of a configuration, with fresh random weights."""
    return _FAMILIES[_family(config)].module(config)


def describe(config: Config, assumed: tuple[str, ...] = ()) -> ModelSpec:
    """Describe a network: its configuration, and the published practice for its images.

    Args:
        config: of any family.
        assumed: fields of ``config`` that nobody stated and no shape tells.
    """
    preprocessing = Preprocessing(colour=config.colour)
    if config.channels == 3 and config.task in ("classification", "segmentation"):
        preprocessing = Preprocessing(mean=_MEAN, std=_STD)
    return ModelSpec(
        family=_family(config),
        config=config.model_dump(mode="json"),
        assumed=assumed,
        task=config.task,
        preprocessing=preprocessing,
        channels=config.channels,
        input_size=config.usual_size,
        size_multiple=config.size_multiple,
    )


def _family(config: Config) -> Family:
    return next(name for name, family in _FAMILIES.items() if family.config is type(config))
