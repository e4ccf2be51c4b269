"""The geometry of the convolution that stands for a chain of linear layers, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from waveedge.compression.costs import CostProfile

from .linear_steps import Axis, Step, axis_steps, plan_axis

__all__ = ["Layout", "chain_cost", "plan", "sizes_of"]


class Layout(NamedTuple):
    """Rows and columns of one convolution; equal for chains that can be summed by it."""

    rows: Axis
    columns: Axis

    @property
    def regions(self) -> int:
        """Number of convolutions: one, and more where borders need kernels of their own."""
        return len(self.rows.runs) * len(self.columns.runs)

    @property
    def phases(self) -> int:
        """Pixels in a block."""
        return self.rows.up * self.columns.up

    @property
    def grid(self) -> tuple[tuple[int, int, int], ...]:
        """What must agree for blocks to be added."""
        return tuple((axis.up, axis.shift, axis.blocks) for axis in self)

    def macs(self, in_channels: int, out_channels: int) -> int:
        """Multiply-adds of all its convolutions, planned: there are no layers yet to count."""
        return in_channels * out_channels * self.phases * self.rows.taps * self.columns.taps

    def cost(self, in_channels: int, out_channels: int, prices: CostProfile) -> float:
        """Multiply-adds, the input read, the blocks written, and joined where there are regions."""
        read = in_channels * self.rows.size_in * self.columns.size_in
        written = out_channels * self.phases * self.rows.blocks * self.columns.blocks
        if self.regions > 1:
            written *= 5  # joined along columns, then along rows
        nodes = prices.node * (2 * self.regions - 1)
        return self.macs(in_channels, out_channels) + prices.element * (read + written) + nodes

    def image_cost(self, channels: int, prices: CostProfile) -> float:
        """Blocks to an image."""
        elements = channels * self.rows.size_out * self.columns.size_out
        return (prices.shuffle + 2 * prices.element) * elements if self.phases > 1 else 0


def plan(
    steps: Sequence[Step],
    size: Sequence[int],
    up: int = 1,
    shift: Sequence[int | None] = (None, None),
) -> Layout | None:
    """The layout of a chain on maps of ``size`` (h, w), in blocks of a multiple of ``up`` pixels.

    None where it cannot be laid out, or only in blocks that are not square.
    """
    rows, columns = (
        plan_axis(axis_steps(steps, axis), size[axis], up, shift[axis]) for axis in (0, 1)
    )
    if rows is None or columns is None or rows.up != columns.up:
        return None
    return Layout(rows, columns)


def sizes_of(steps: Sequence[Step], size: Sequence[int]) -> list[tuple[int, int]]:
    """(h, w) of the input and of every step's output."""
    sizes = [(int(size[0]), int(size[1]))]
    for step in steps:
        height, width = (axis_steps([step], axis)[0].size(sizes[-1][axis]) for axis in (0, 1))
        sizes.append((height, width))
    return sizes


def chain_cost(
    steps: Sequence[Step], size: Sequence[int], prices: CostProfile
) -> tuple[float, list[int]]:
    """The least cost of a chain as a series of convolutions, and where each of them ends.

    Every stretch of the chain may become one convolution; a single layer is its own.
    """
    sizes = sizes_of(steps, size)
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for end in range(1, len(steps) + 1):
        options = []
        for start in range(end):
            cost = best[start][0] + _stretch_cost(steps[start:end], sizes[start], prices)
            options.append((cost, [*best[start][1], end]))
        best.append(min(options))
    return best[-1]


def _stretch_cost(steps: Sequence[Step], size: Sequence[int], prices: CostProfile) -> float:
    layout = plan(steps, size)
    if layout is None:
        return 0.0 if len(steps) == 1 else math.inf
    channels = steps[0].in_channels, steps[-1].out_channels
    if len(steps) == 1 and steps[0].diagonal:
        return 2.0 * prices.element * channels[0] * math.prod(size)
    return layout.cost(*channels, prices) + layout.image_cost(channels[1], prices)
