"""Fewer channels between two layers with a nonlinearity between them.

Channels go one after another, always the one whose loss costs the reader's outputs least once the
weights that read the others have been refitted: optimal brain surgeon (Hassibi and Stork, 1992) by
channels. With the second moments H of the reader's inputs and its weight W, losing the inputs q
costs W_q ((H^-1)_qq)^-1 W_q^T, and the others change by -W_q ((H^-1)_qq)^-1 (H^-1)_q.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, fx

from waveedge.compression.graph_queries import layer_of
from waveedge.compression.shrink.forms import Form
from waveedge.compression.shrink.moments import Moments, step_power
from waveedge.compression.shrink.pairs import Layer, Pair, by_input, set_weight

__all__ = ["Hidden", "eliminate"]

_DAMPING = 1e-4
"""Share of the mean second moment that every input gets at least, for what was never seen."""
_AT_ONCE = 64
"""A step removes up to this part of the channels that are left, the cheapest ones."""


class Hidden(Form):
    """See the module's head."""

    kind: ClassVar[str] = "hidden channels"

    def __init__(self, pair: Pair, reader: Layer, moments: Moments, bits: int) -> None:
        self.pair = pair
        self.channels = len(pair.columns)
        self._mean = moments.mean
        # What the bias can take out, which it cannot where zeros are padded.
        self._centred = reader.bias is not None and not _pads(reader)
        second = moments.covariance if self._centred else moments.second
        rounding = step_power(float(moments.peak.max()), bits)
        damping = max(rounding, _DAMPING * float(second.diagonal().mean()), 1e-30)
        self._second = second + damping * torch.eye(len(second), dtype=second.dtype)
        found = eliminate(by_input(reader), self._second, pair.columns)
        self.order, self.losses = found.order, found.losses
        self.noise = rounding * (found.powers - found.powers[-1])
        # The damping has counted the noise among the losses.
        self.losses = (self.losses - damping * (found.powers - found.powers[-1])).clamp(min=0)

    def apply(self, graph: fx.GraphModule, channels: int) -> None:
        """See :class:`~waveedge.compression.shrink.forms.Form`."""
        writer: Layer = layer_of(graph, self.pair.writer)  # type: ignore[assignment]
        reader: Layer = layer_of(graph, self.pair.reader)  # type: ignore[assignment]
        before = by_input(reader)
        weight = eliminate(before, self._second, self.pair.columns, down_to=channels).weight
        kept = torch.tensor(sorted(self.order[len(self.order) - channels :]))
        bias = reader.bias
        if self._centred and bias is not None:
            lost = torch.einsum("i,iot->o", self._mean, before - weight)
            bias = bias.double() + lost
        set_weight(reader, weight[self.pair.columns[kept].T.flatten()], bias)
        rows = by_input(writer)[:, kept]
        set_weight(writer, rows, None if writer.bias is None else writer.bias[kept])


class Elimination(NamedTuple):
    """What came of removing input channels of a layer, one after another.

    Attributes:
        order: the channels as they went, those that stay last.
        losses: (channels + 1,) the error of keeping 0, 1, ... of them; infinite where not found.
        powers: (channels + 1,) the sum of squares of the weight that is left; likewise.
        weight: (inputs, outputs, taps) what is left at the end, zeros where nothing is read.
    """

    order: list[int]
    losses: Tensor
    powers: Tensor
    weight: Tensor


def eliminate(weight: Tensor, second: Tensor, columns: Tensor, *, down_to: int = 0) -> Elimination:
    """Remove input channels of a layer, the least missed first.

    Args:
        weight: (inputs, outputs, taps) float64.
        second: (inputs, inputs) second moments of the inputs, positive definite.
        columns: (channels, n) the inputs that a channel is.
        down_to: channels that are left.
    """
    channels = len(columns)
    left = weight.flatten(1).clone()  # (inputs, outputs * taps)
    inverse = torch.linalg.inv(second)
    alive = torch.ones(channels, dtype=torch.bool)
    losses = torch.full((channels + 1,), torch.inf, dtype=torch.float64)
    powers = losses.clone()
    losses[channels] = lost = 0.0
    powers[channels] = left.square().sum()
    order: list[int] = []
    while (count := int(alive.sum())) > down_to:
        blocks = inverse[columns[:, :, None], columns[:, None, :]]  # (channels, n, n)
        blocks[~alive] = torch.eye(columns.shape[1]).double()
        read = left[columns]  # (channels, n, outputs * taps)
        costs = (read * torch.linalg.solve(blocks, read)).sum((1, 2))
        costs[~alive] = torch.inf
        for channel in costs.argsort(stable=True)[: max(1, count // _AT_ONCE)].tolist():
            if count == down_to:
                break
            gone = columns[channel]
            block = inverse[gone[:, None], gone[None]]
            shift = torch.linalg.solve(block, left[gone])
            lost += float((left[gone] * shift).sum())
            left -= inverse[:, gone] @ shift
            inverse = inverse - inverse[:, gone] @ torch.linalg.solve(block, inverse[gone])
            alive[channel] = False
            left[gone] = 0
            inverse[gone] = 0
            inverse[:, gone] = 0
            order.append(channel)
            count -= 1
            losses[count] = lost
            powers[count] = left.square().sum()
    order += alive.nonzero().flatten().tolist()
    return Elimination(order, losses, powers, left.reshape_as(weight))


def _pads(layer: Layer) -> bool:
    padding = getattr(layer, "padding", 0)
    return padding not in (0, (0, 0), "valid") and layer.weight[0, 0].numel() > 1
