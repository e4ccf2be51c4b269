"""Inputs of a layer removed one after another, the least missed first.

Always the one goes whose loss costs the layer's outputs least once the weights that read the others
have been refitted: optimal brain surgeon (Hassibi and Stork, 1992), by channels. With the second
moments H of the inputs and the weight W, losing the inputs q costs W_q ((H^-1)_qq)^-1 W_q^T, and
the others change by -W_q ((H^-1)_qq)^-1 (H^-1)_q.

Errors of some outputs cost the network's more than those of others (:mod:`.metrics`): W counts in
those terms. The refit of the others is the same.

Weights that make up for others enlarge the rounding of what they read. So H holds, besides the
moments of the inputs, that of their rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from waveedge.compression.shrink.moments import Moments, step_power
from waveedge.compression.shrink.pairs import Layer, by_input

__all__ = ["Elimination", "Inputs", "eliminate", "weighed"]

_DAMPING = 1e-4
"""Share of the mean second moment that every input gets at least, for what was never seen."""
_AT_ONCE = 64
"""A step removes up to this part of the channels that are left, the cheapest ones."""


class Inputs:
    """The inputs of a layer, and what each number of them costs.

    Args:
        layer: that reads them.
        moments: of its input channels.
        columns: (channels, n) which of those that the layer reads come and go together.
        metric: (outputs, outputs) float64, what errors of the layer's outputs cost; alike where
            None.

    Attributes:
        order: the channels as they go, the last ones last.
        losses: (channels + 1,) float64, what keeping 0, 1, ... of them costs: the squared error of
            the outputs, up to a factor.
        noise: (channels + 1,) float64, what rounding those costs more than rounding all.
    """

    def __init__(
        self, layer: Layer, moments: Moments, columns: Tensor, metric: Tensor | None = None
    ) -> None:
        self.columns = columns
        self._mean = moments.mean
        # What the bias can take out, which it cannot where zeros are padded.
        self._centred = layer.bias is not None and not _pads(layer)
        second = moments.covariance if self._centred else moments.second
        rounding = step_power(float(moments.peak.max()))
        damping = max(rounding, _DAMPING * float(second.diagonal().mean()), 1e-30)
        self._second = second + damping * torch.eye(len(second), dtype=second.dtype)
        read = columns.flatten()  # what is not read cannot make up for what is
        found = eliminate(
            weighed(by_input(layer)[read], metric),
            self._second[read][:, read],
            torch.arange(len(read)).reshape(columns.shape),
        )
        more = found.powers - found.powers[-1]
        self.order = found.order
        self.noise = rounding * more
        self.losses = (found.losses - damping * more).clamp(min=0)  # which count the damping

    def kept(self, channels: int) -> Tensor:
        """(channels,) the indices of those that stay, ascending."""
        return torch.tensor(sorted(self.order[len(self.order) - channels :]))

    def refitted(self, layer: Layer, channels: int) -> tuple[Tensor, Tensor | None]:
        """The weight of ``layer`` as of ``by_input``, zeros where nothing is read, and its bias."""
        before = by_input(layer)
        # Least squares: what the last elimination leaves, without those before it.
        read = self.columns[self.kept(channels)].flatten()
        moments = self._second[read]
        weight = torch.zeros_like(before)
        weight[read] = torch.linalg.solve(moments[:, read], moments @ before.flatten(1)).unflatten(
            1, before.shape[1:]
        )
        bias = layer.bias
        if self._centred and bias is not None:
            bias = bias.double() + torch.einsum("i,iot->o", self._mean, before - weight)
        return weight, bias


def weighed(weight: Tensor, metric: Tensor | None) -> Tensor:
    """A weight (inputs, outputs, taps) to outputs whose errors all cost the same."""
    if metric is None:
        return weight
    return torch.einsum("iot,op->ipt", weight, torch.linalg.cholesky(metric))


class Elimination(NamedTuple):
    """What came of removing input channels of a layer, one after another.

    Attributes:
        order: the channels as they went.
        losses: (channels + 1,) the error of keeping 0, 1, ... of them.
        powers: (channels + 1,) the sum of squares of the weight that is left.
    """

    order: list[int]
    losses: Tensor
    powers: Tensor


def eliminate(weight: Tensor, second: Tensor, columns: Tensor) -> Elimination:
    """Remove the input channels of a layer, the least missed first.

    Args:
        weight: (inputs, outputs, taps) float64.
        second: (inputs, inputs) second moments of the inputs, positive definite.
        columns: (channels, n) the inputs that a channel is.
    """
    channels = len(columns)
    left = weight.flatten(1).clone()  # (inputs, outputs * taps)
    inverse = torch.linalg.inv(second)
    alive = torch.ones(channels, dtype=torch.bool)
    losses = torch.zeros(channels + 1, dtype=torch.float64)
    powers = torch.zeros_like(losses)
    powers[channels] = left.square().sum()
    lost = 0.0
    order: list[int] = []
    while count := int(alive.sum()):
        costs = _costs(inverse, left, columns, alive)
        costs[~alive] = torch.inf
        together = max(1, count // _AT_ONCE)
        going = costs.argsort(stable=True)[:together]
        gone = columns[going].flatten()
        block = inverse[gone[:, None], gone[None]]
        shift = torch.linalg.solve(block, left[gone])
        lost += float((left[gone] * shift).sum())
        reached = inverse[:, gone]
        left.addmm_(reached, shift, alpha=-1)
        inverse.addmm_(reached, torch.linalg.solve(block, inverse[gone]), alpha=-1)
        alive[going] = False
        left[gone] = 0
        inverse[gone] = 0
        inverse[:, gone] = 0
        order += going.tolist()
        # Of those that go together, the first is charged with all.
        losses[count - together : count] = lost
        powers[count - together : count] = left.square().sum()
    return Elimination(order, losses, powers)


def _costs(inverse: Tensor, left: Tensor, columns: Tensor, alive: Tensor) -> Tensor:
    """(channels,) what losing each of them costs; of those that are gone, anything."""
    costs: Tensor
    if columns.shape[1] == 1:
        numbers = columns[:, 0]
        costs = left[numbers].square().sum(1) / inverse.diagonal()[numbers].clamp(min=1e-300)
    else:
        blocks = inverse[columns[:, :, None], columns[:, None, :]]  # (channels, n, n)
        blocks[~alive] = torch.eye(columns.shape[1], dtype=blocks.dtype)
        read = left[columns]  # (channels, n, outputs * taps)
        costs = (read * torch.linalg.solve(blocks, read)).sum((1, 2))
    return costs


def _pads(layer: Layer) -> bool:
    padding = getattr(layer, "padding", 0)
    return padding not in (0, (0, 0), "valid") and layer.weight[0, 0].numel() > 1
