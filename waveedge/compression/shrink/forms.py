"""What can be asked of a smaller form of a part of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, fx

from waveedge.compression.shrink.pairs import Pair

__all__ = ["Form", "PairForm"]


class Form(ABC):
    """Channels of which fewer may do.

    Attributes:
        channels: as many as there are.
        losses: (channels + 1,) float64, what keeping 0, 1, ... of them costs: the squared error
            of their reader's outputs, up to a factor. Descending; the last is 0.
        noise: (channels + 1,) float64, in the units of ``losses``: how much more the rounding of
            these channels costs than that of all of them, with fewer to average over.
        price: of all of them for one image.
    """

    channels: int
    losses: Tensor
    noise: Tensor
    price: float

    @abstractmethod
    def apply(self, graph: fx.GraphModule, channels: int) -> None:
        """Leave so many channels in ``graph``, which has the nodes of the one looked at."""


class PairForm(Form):
    """Channels between two layers.

    Their price is that of both layers and of the map between them, in multiply-adds.

    Attributes:
        kind: of the form, for reports.
        pair: the layers.
    """

    kind: ClassVar[str]
    pair: Pair
