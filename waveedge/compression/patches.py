"""What a layer's weights are multiplied with, and what should come of it, as matrices."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveedge.nn import Selection

__all__ = ["Samples", "damped", "sample"]

_SAMPLES = 4096
"""Positions that are enough for any layer, and more than that: 4 for every input of a filter."""
_DAMPING = 0.1
"""Share of the mean second moment that holds weights where they are when they are fitted."""


class Samples(NamedTuple):
    """A regular sample of single outputs and of their inputs, float64.

    Where the layer has a bias both are taken around their means: the bias can take out the rest.

    Attributes:
        inputs: (groups, samples, columns), the columns in the order of the dimensions of the
            layer's weight after the first.
        outputs: (groups, samples, rows); None for a WCC, whose outputs are no such products.
    """

    inputs: Tensor
    outputs: Tensor | None

    def moments(self) -> Tensor:
        """Second moments of the inputs: (groups, columns, columns)."""
        return self.inputs.mT @ self.inputs / self.inputs.shape[1]

    @property
    def enough(self) -> bool:
        """Whether there are as many as unknowns: of fewer, a fit learns the samples."""
        return self.outputs is not None and self.inputs.shape[1] >= self.inputs.shape[2]

    def fitted(self, weight: Tensor) -> Tensor:
        """The weight (groups, rows, columns) that turns the inputs into the outputs.

        Least squares, drawn towards the given one: it must not follow the noise of quantization.
        """
        assert self.outputs is not None
        missing = self.outputs - self.inputs @ weight.mT
        slope = self.inputs.mT @ missing / missing.shape[1]
        change: Tensor = torch.linalg.solve(damped(self.moments(), _DAMPING), slope)
        return weight + change.mT


def damped(moments: Tensor, share: float) -> Tensor:
    """Moments (groups, columns, columns) to which every input adds a share of their mean."""
    level = moments.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    damping = torch.where(level > 0, share * level, torch.ones_like(level))
    unit = torch.eye(moments.shape[-1], dtype=moments.dtype, device=moments.device)
    return moments + damping[:, None, None] * unit


def sample(module: nn.Module, x: Tensor, y: Tensor) -> Samples | None:
    """Sample a layer's input and output.

    Args:
        module: a convolution, a linear layer or a WCC.
        x: its input, (N, ...).
        y: its output, or what that should be.

    Returns:
        None for a layer that has no such form (a transposed convolution).
    """
    if isinstance(module, Selection):
        # The bias is added to the image, not to the coefficients.
        kept = module.kept_coefficients(x)
        rows = kept.movedim(1, -1).flatten(0, -2)
        return Samples(rows[_regular(len(rows), rows.shape[1])].double().unsqueeze(0), None)
    if isinstance(module, nn.Linear):
        rows = x.reshape(-1, x.shape[-1])
        chosen = _regular(len(rows), module.in_features)
        inputs, outputs = rows[chosen].unsqueeze(0), y.reshape(-1, y.shape[-1])[chosen].unsqueeze(0)
    elif isinstance(module, nn.Conv2d):
        windows = _windows(module, x)
        height, width = y.shape[2:]
        chosen = _regular(len(y) * height * width, module.weight[0].numel())
        at = (chosen // (height * width), chosen // width % height, chosen % width)
        inputs, outputs = (
            rows[at].reshape(len(chosen), module.groups, -1).movedim(1, 0)
            for rows in (windows.movedim(1, 3), y.movedim(1, 3))
        )
    else:
        return None
    inputs, outputs = inputs.double(), outputs.double()
    if module.bias is not None:
        inputs = inputs - inputs.mean(dim=1, keepdim=True)
        outputs = outputs - outputs.mean(dim=1, keepdim=True)
    return Samples(inputs, outputs)


def _regular(count: int, columns: int) -> Tensor:
    """Indices of a regular sample out of ``count``, large enough for ``columns`` unknowns."""
    step = count // max(_SAMPLES, 4 * columns)
    # An odd step visits every column of a map whose width is a power of two.
    return torch.arange(0, count, step | 1)


def _windows(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """What each output position sees: a view (N, C, height, width, taps down, taps across)."""
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        left, right, top, bottom = conv._reversed_padding_repeated_twice
        mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        x = F.pad(x, (left, right, top, bottom), mode=mode)
    else:
        vertical, horizontal = conv.padding
        x = F.pad(x, (horizontal, horizontal, vertical, vertical))
    for dim, size, stride, dilation in zip(
        (2, 3), conv.kernel_size, conv.stride, conv.dilation, strict=True
    ):
        x = x.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    return x
