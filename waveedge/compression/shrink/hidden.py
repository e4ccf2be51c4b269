"""Fewer channels between two layers with a nonlinearity between them.

Those go that the reader misses least (:mod:`.elimination`); the writer does not compute them.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, fx

from waveedge.compression.graph_queries import layer_of
from waveedge.compression.shrink.elimination import Inputs
from waveedge.compression.shrink.forms import PairForm
from waveedge.compression.shrink.moments import Moments
from waveedge.compression.shrink.pairs import Layer, Pair, by_input, set_weight

__all__ = ["Hidden"]


class Hidden(PairForm):
    """See the module's head."""

    kind: ClassVar[str] = "hidden channels"

    def __init__(
        self, pair: Pair, reader: Layer, moments: Moments, metric: Tensor | None = None
    ) -> None:
        self.pair = pair
        self.channels = len(pair.columns)
        self._inputs = Inputs(reader, moments, pair.columns, metric)
        self.losses, self.noise = self._inputs.losses, self._inputs.noise

    def apply(self, graph: fx.GraphModule, channels: int) -> None:
        """See :class:`~waveedge.compression.shrink.forms.Form`."""
        writer: Layer = layer_of(graph, self.pair.writer)  # type: ignore[assignment]
        reader: Layer = layer_of(graph, self.pair.reader)  # type: ignore[assignment]
        kept = self._inputs.kept(channels)
        weight, bias = self._inputs.refitted(reader, channels)
        set_weight(reader, weight[self.pair.columns[kept].T.flatten()], bias)
        rows = by_input(writer)[:, kept]
        set_weight(writer, rows, None if writer.bias is None else writer.bias[kept])
