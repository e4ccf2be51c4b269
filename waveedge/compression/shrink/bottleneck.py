"""Two layers with nothing nonlinear between them, by way of fewer channels.

A layer that writes C channels and one that reads them are one linear map, often of low rank on real
images: in a WaveMix block the 1x1 convolution and the transposed convolution behind it, or the
reduction and what reads its Haar transform. The channels between them are replaced by r principal
directions.

With the second moments S of the channels and the metric M = sum of B^T G B over the taps of the
reader B (what an error of a channel costs, where errors at neighbouring positions do not depend on
each other; G is that of the reader's outputs, :mod:`.metrics`), M = L L^T, the least error by r
directions is that of the r largest eigenvectors U of L^T S L (Eckart and Young): the writer A
becomes (U^T L^T) A, the reader B (L^-T U). Moments are not taken around the mean: a constant part
is then a direction like any other, and zeros that the reader pads with stay zeros.

The first directions carry most, and all of them share one grid when they are quantized. So they are
turned within their space until all carry about as much; the network computes the same.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, fx

from waveedge.compression.graph_queries import layer_of
from waveedge.compression.shrink.elimination import weighed
from waveedge.compression.shrink.forms import PairForm
from waveedge.compression.shrink.moments import Moments, step_power
from waveedge.compression.shrink.pairs import Layer, Pair, by_input, set_weight

__all__ = ["Bottleneck", "principal", "spread"]

_FLOOR = 1e-9
"""Of the largest eigenvalue of the metric: what a reader ignores has no inverse."""


class Bottleneck(PairForm):
    """See the module's head."""

    kind: ClassVar[str] = "bottleneck"

    def __init__(
        self, pair: Pair, reader: Layer, moments: Moments, metric: Tensor | None = None
    ) -> None:
        self.pair = pair
        self.channels = len(pair.columns)
        weight = weighed(by_input(reader), metric)[pair.columns]  # (C, n, outputs, taps)
        rows = weight.flatten(1)
        found = principal(moments.second, rows)
        self._encode, self._decode = found.encode, found.decode
        carried = found.energies.cumsum(0)
        self.losses = torch.cat([carried[-1:], (carried[-1] - carried).clamp(min=0)])
        # Turned, r directions have a peak of about that part of what they carry; in the reader's
        # outputs r of them make as much noise as one.
        peaks = moments.peak.square() / moments.second.diagonal().clamp(min=1e-30)
        before = step_power(float(moments.peak.max())) * float(rows.square().sum())
        after = step_power(float(peaks.median()) ** 0.5) * carried
        self.noise = torch.cat([after[:1], after - before]).clamp(min=0)
        self.noise[-1] = 0

    def apply(self, graph: fx.GraphModule, channels: int) -> None:
        """See :class:`~waveedge.compression.shrink.forms.Form`."""
        writer: Layer = layer_of(graph, self.pair.writer)  # type: ignore[assignment]
        reader: Layer = layer_of(graph, self.pair.reader)  # type: ignore[assignment]
        turn = spread(channels)
        encode, decode = turn @ self._encode[:channels], self._decode[:, :channels] @ turn.T
        weight = torch.einsum("rc,ict->irt", encode, by_input(writer))
        bias = None if writer.bias is None else encode @ writer.bias.double()
        set_weight(writer, weight, bias)
        read = torch.einsum("cr,cnot->rnot", decode, by_input(reader)[self.pair.columns])
        set_weight(reader, _in_order(read), reader.bias)


class Principal(NamedTuple):
    """The principal directions of some channels.

    Attributes:
        encode: (C, C) float64, channels to directions; those come first whose loss costs most.
        decode: (C, C) float64, its inverse.
        energies: (C,) float64, what the loss of each costs.
    """

    encode: Tensor
    decode: Tensor
    energies: Tensor


def principal(second: Tensor, rows: Tensor) -> Principal:
    """The directions in which moments and metric are diagonal; see the module's head.

    Args:
        second: (C, C) float64, second moments of the channels.
        rows: (C, n) float64, what reads them, so that errors of all n cost the same; not all zero.
    """
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    scale = values.clamp(min=float(values[-1]) * _FLOOR).sqrt()
    root = vectors * scale  # L, M = L L^T
    energies, directions = torch.linalg.eigh(root.T @ second @ root)
    return Principal(
        encode=(root @ directions).flip(1).T,
        decode=((vectors / scale) @ directions).flip(1),
        energies=energies.clamp(min=0).flip(0),
    )


def spread(channels: int) -> Tensor:
    """An orthogonal matrix whose columns have entries of like size (DCT-II)."""
    n = torch.arange(channels, dtype=torch.float64)
    matrix = torch.cos(torch.pi / channels * (n[:, None] + 0.5) * n[None, :])
    matrix[:, 0] *= 0.5**0.5
    turn: Tensor = matrix * (2 / channels) ** 0.5
    return turn


def _in_order(read: Tensor) -> Tensor:
    """(channels, n, outputs, taps) as the reader's inputs, which come n by n groups of channels."""
    return read.transpose(0, 1).flatten(0, 1)
