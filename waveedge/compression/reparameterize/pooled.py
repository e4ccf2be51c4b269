"""The mean of a map that transposed convolutions would make, without making the map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .linear_steps import AxisStep, Step, axis_steps, cut, pull_back

__all__ = ["FramePool", "frame_of", "pooled_weight"]


class FramePool(nn.Module):
    """Means of a map as a whole and of the rows, columns and corners along its border.

    (N, C, h, w) to (N, C * (1 + top + bottom) * (1 + left + right)): the mean over everything, then
    what single columns add to it, then what every row of the border and its corners do. The mean of
    any map that a transposed convolution makes of x is a linear function of these. As shares of one
    mean, all fit one grid of integers: a corner as it is would be a hundred times the mean.

    Args:
        rows: (top, bottom), how many rows of each border stand alone.
        columns: (left, right), the same for columns.
    """

    def __init__(self, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns

    @property
    def parts(self) -> int:
        """Number of means per channel."""
        return (1 + sum(self.rows)) * (1 + sum(self.columns))

    def forward(self, x: Tensor) -> Tensor:
        # One product that reads the map once: a runtime would convert a quantized map to floats
        # anew for the mean and for each line of the border.
        rows, columns = (
            _parts(size, border).to(x)
            for size, border in zip(x.shape[-2:], (self.rows, self.columns), strict=True)
        )
        parts = x.flatten(2) @ torch.kron(rows, columns).T
        return parts.transpose(1, 2).flatten(1)

    def extra_repr(self) -> str:
        return f"rows={self.rows}, columns={self.columns}"


def _parts(size: int, border: tuple[int, int]) -> Tensor:
    """(1 + lines of the border, size): what takes the mean of a line, and the share of its ends."""
    ends = [*range(border[0]), *range(size - border[1], size)]
    shares = torch.cat([torch.ones(1, size), torch.eye(size)[ends]])
    return shares.double() / size


def frame_of(steps: Sequence[Step], size: Sequence[int]) -> FramePool | None:
    """What the mean of a chain's output depends on; None if that is more than a border's width."""
    borders = []
    for axis in (0, 1):
        border = _cut_border(axis_steps(steps, axis), size[axis])
        if border is None:
            return None
        borders.append(border)
    return FramePool(borders[0], borders[1])


def _cut_border(steps: Sequence[AxisStep], size: int) -> tuple[int, int] | None:
    """How many inputs at each end lose some of their outputs to a border."""
    if any(step.stride > 1 and not step.up for step in steps):
        return None  # which outputs an input reaches would depend on more than the border
    lost = [False] * size, [False] * size
    for index in range(size):
        low, high, inputs = index, index + 1, size
        for step in steps:
            low, high = _spread(step, low, high)
            outputs = step.size(inputs)
            lost[0][index] |= low < 0
            lost[1][index] |= high > outputs
            inputs = outputs
    top, bottom = sum(lost[0]), sum(lost[1])
    return (top, bottom) if top + bottom < size else None


def _spread(step: AxisStep, low: int, high: int) -> tuple[int, int]:
    """The outputs [low, high) that read inputs [low, high)."""
    if step.up:
        return low * step.stride - step.padding, (high - 1) * step.stride - step.padding + step.taps
    return low + step.padding - step.taps + 1, high + step.padding


@torch.no_grad()
def pooled_weight(
    steps: Sequence[Step], size: Sequence[int], pool: FramePool
) -> tuple[Tensor, Tensor]:
    """Weight (O, C * parts) and bias (O,), float64, of the mean as a function of ``pool``.

    A map with one row more than its borders has every kind of row, so the sums over outputs that
    each input position feeds are found on such a small map.
    """
    small = [sum(border) + 1 for border in (pool.rows, pool.columns)]
    sums = _output_sums(steps, small)  # (O, C, *small)
    outputs = 1
    for axis, border in enumerate((pool.rows, pool.columns)):
        sums = _by_mean(sums, 2 + axis, border[0], size[axis])
        outputs *= _sizes(axis_steps(steps, axis), size[axis])[-1]
    return sums.permute(0, 2, 3, 1).flatten(1) / outputs, _mean_bias(steps, size)


def _sizes(steps: Sequence[AxisStep], size: int) -> list[int]:
    sizes = [size]
    for step in steps:
        sizes.append(step.size(sizes[-1]))
    return sizes


def _output_sums(steps: Sequence[Step], size: Sequence[int]) -> Tensor:
    """How much each input, (O, C, h, w), adds to the sum over all outputs of a chain."""
    sizes = [_sizes(axis_steps(steps, axis), size[axis]) for axis in (0, 1)]
    channels = steps[-1].out_channels
    patch = torch.eye(channels, dtype=torch.float64)[:, :, None, None]
    patch = patch.expand(-1, -1, sizes[0][-1], sizes[1][-1])
    for index in reversed(range(len(steps))):
        patch, origin = pull_back(steps[index], patch, [0, 0])
        for axis in (0, 1):
            patch, _ = cut(patch, axis, origin[axis], sizes[axis][index])
    return patch


def _by_mean(sums: Tensor, dim: int, top: int, size: int) -> Tensor:
    """Weights of single lines as weights of (the mean over all lines, the share of each border)."""
    inner = sums.narrow(dim, top, 1)
    border = [sums.narrow(dim, 0, top), sums.narrow(dim, top + 1, sums.shape[dim] - top - 1)]
    return torch.cat([inner, torch.cat(border, dim) - inner], dim) * size


def _mean_bias(steps: Sequence[Step], size: Sequence[int]) -> Tensor:
    """The mean over all outputs of a chain on zeros."""
    axes = [axis_steps(steps, axis) for axis in (0, 1)]
    first = steps[0].bias
    first = torch.zeros(steps[0].out_channels) if first is None else first
    shape = [axis[0].size(n) for axis, n in zip(axes, size, strict=True)]
    value = first.double()[None, :, None, None].expand(-1, -1, *shape)
    for step in steps[1:]:
        convolve = F.conv_transpose2d if step.up else F.conv2d
        bias = None if step.bias is None else step.bias.double()
        value = convolve(value, step.weight.double(), bias, step.stride, step.padding)
    return value.mean((0, 2, 3))
