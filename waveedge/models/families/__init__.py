"""The network families. Each module here is one; its ``FAMILY`` says all about it."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from torch import nn

from waveedge.models.config import NetworkConfig
from waveedge.models.family import Family
from waveedge.spec import ModelSpec, Preprocessing

__all__ = ["FAMILIES", "describe", "family_of", "network"]

FAMILIES: dict[str, Family] = {
    name: import_module(f"{__name__}.{name}").FAMILY
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__))
}
"""By name, as in specifications."""

# Mean and deviation of ImageNet's training images, as used by the published training code.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(config: NetworkConfig) -> nn.Module:
    """Build the module of a configuration, with fresh random weights."""
    return family_of(config).module(config)


def family_of(config: NetworkConfig) -> Family:
    """Return the family that a configuration belongs to."""
    return next(family for family in FAMILIES.values() if family.config is type(config))


def describe(config: NetworkConfig, assumed: tuple[str, ...] = ()) -> ModelSpec:
    """Describe a network: its configuration, and the published practice for its images.

    Args:
        config: of any family.
        assumed: fields of ``config`` that nobody stated and no shape tells.
    """
    preprocessing = Preprocessing(colour=config.colour)
    if config.channels == 3 and config.task in ("classification", "segmentation"):
        preprocessing = Preprocessing(mean=_MEAN, std=_STD)
    return ModelSpec(
        family=family_of(config).name,
        config=config.model_dump(mode="json"),
        assumed=assumed,
        task=config.task,
        preprocessing=preprocessing,
        channels=config.channels,
        input_size=config.usual_size,
        size_multiple=config.size_multiple,
    )
