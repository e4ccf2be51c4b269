"""What makes a network family: everything that the rest of waveedge asks of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from waveedge.models.config import NetworkConfig
from waveedge.models.evidence import Evidence

__all__ = ["Family", "Reading"]

Reading = tuple[dict[str, Any], tuple[str, ...]]
"""Fields of a configuration, and the names of those that no shape tells and that hold the
published default."""


@dataclass(frozen=True)
class Family:
    """A network family, complete: its file in ``waveedge/models/families/`` registers it.

    Attributes:
        name: in specifications and files; the name of the family's module.
        title: what people call it.
        config: its configuration: the fields of one network, and the images that it takes.
        module: builds the network of a configuration, with fresh random weights. The names of its
            state dict are those of the published checkpoints.
        own_keys: pattern of names in a state dict that only this family has.
        shared_keys: pattern of its other names, which many networks have.
        read: tells the configuration from the names and shapes of a state dict.
        telling: fields by which a message calls one network of the family.
    """

    name: str
    title: str
    config: type[NetworkConfig]
    module: Callable[[Any], nn.Module]
    own_keys: str
    shared_keys: str
    read: Callable[[Evidence], Reading]
    telling: tuple[str, ...] = ()

    def own(self, names: Iterable[str]) -> int:
        """How many of a state dict's names only this family has."""
        return sum(re.fullmatch(self.own_keys, name) is not None for name in names)

    def shared(self, names: Iterable[str]) -> int:
        """How many of a state dict's names this family has in common with many networks."""
        return sum(re.fullmatch(self.shared_keys, name) is not None for name in names)
