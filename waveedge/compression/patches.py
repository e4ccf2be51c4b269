"""Second moments of what a layer's weights are multiplied with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveedge.nn import WaveletCompressedConv2d

__all__ = ["second_moments"]

_SAMPLES = 4096
"""Positions that are enough for any layer, and more than that: 4 for every input of a filter."""


def second_moments(module: nn.Module, x: Tensor) -> Tensor | None:
    """Second moments of the inputs that meet the weights of one output, group by group.

    Where the layer has a bias they are taken around the mean: the bias can take out the rest.

    Args:
        module: a convolution, a linear layer or a WCC.
        x: its input, (N, ...).

    Returns:
        (groups, columns, columns) float64 with the columns in the order of ``module.weight``'s
        dimensions after the first; None for a layer that has no such form (transposed).
    """
    columns = _columns(module, x)
    if columns is None:
        return None
    columns = columns.double()
    # The bias of a WCC is added to the image, not to the coefficients.
    if getattr(module, "bias", None) is not None and not isinstance(
        module, WaveletCompressedConv2d
    ):
        columns = columns - columns.mean(dim=1, keepdim=True)
    return columns.mT @ columns / columns.shape[1]


def _columns(module: nn.Module, x: Tensor) -> Tensor | None:
    """A regular sample of the inputs of single outputs: (groups, samples, columns)."""
    if isinstance(module, WaveletCompressedConv2d):
        kept = _kept_coefficients(module, x)
        return _sample(kept.movedim(1, -1).flatten(0, -2), kept.shape[1]).unsqueeze(0)
    if isinstance(module, nn.Linear):
        return _sample(x.flatten(0, -2), x.shape[-1]).unsqueeze(0)
    if isinstance(module, nn.Conv2d):
        return _conv_columns(module, x)
    return None


def _sample(rows: Tensor, columns: int) -> Tensor:
    return rows[_regular(rows.shape[0], columns)]


def _regular(count: int, columns: int) -> Tensor:
    """Indices of a regular sample out of ``count``, large enough for ``columns`` unknowns."""
    wanted = max(_SAMPLES, 4 * columns)
    step = max(1, count // wanted)
    # An odd step visits every column of a map whose width is a power of two.
    return torch.arange(0, count, step if step == 1 else step | 1)


def _conv_columns(conv: nn.Conv2d, x: Tensor) -> Tensor:
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        left, right, top, bottom = conv._reversed_padding_repeated_twice
        mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        x = F.pad(x, (left, right, top, bottom), mode=mode)
    else:
        vertical, horizontal = conv.padding
        x = F.pad(x, (horizontal, horizontal, vertical, vertical))
    windows = x
    for dim, size, stride, dilation in zip(
        (2, 3), conv.kernel_size, conv.stride, conv.dilation, strict=True
    ):
        windows = windows.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    count = windows.shape[0] * windows.shape[2] * windows.shape[3]
    taps = windows.shape[4] * windows.shape[5]
    chosen = _regular(count, conv.in_channels // conv.groups * taps)
    columns = windows.shape[3]
    rows = windows.shape[2]
    picked = windows.movedim(1, 3)[
        chosen // (rows * columns), chosen // columns % rows, chosen % columns
    ]
    rows_of_groups: Tensor = picked.reshape(len(chosen), conv.groups, -1)
    return rows_of_groups.movedim(1, 0)


def _kept_coefficients(module: WaveletCompressedConv2d, x: Tensor) -> Tensor:
    """What the 1x1 convolution inside a WCC reads: (N, I, k, tiles), quantized."""
    seen: list[Tensor] = []
    hook = module.activation_quantizer.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output)
    )
    try:
        module(x)
    finally:
        hook.remove()
    return seen[0]
