"""A chain of linear layers as one convolution: where every output reads, and with what weights.

Zero padding inside a chain makes it a convolution whose kernel differs near the borders: what an
inner layer would compute outside its map is cut off, not computed. So an axis is divided into
*runs* of outputs that share a kernel, and the weights of a run are found by pulling one output back
through the chain, layer by layer (each layer's adjoint), cutting off what lies outside.

Where a chain enlarges its input by ``up``, one output position of the convolution stands for a
*block* of ``up`` pixels, which become channels. Blocks may start ``shift`` pixels before the first
one: for a transposed convolution with k=4 s=2 p=1 a shift of 1 needs 2 taps where 0 needs 3. Pixels
of a block that lie outside the map hold anything; whoever reads blocks cuts them off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batchnorm import affine
from .rewrite import pair

__all__ = [
    "Axis",
    "AxisStep",
    "Run",
    "Step",
    "axis_steps",
    "cut",
    "identity_step",
    "kernel",
    "plan_axis",
    "pull_back",
    "step_of",
]


@dataclass(frozen=True, eq=False)
class Step:
    """One linear layer.

    Attributes:
        weight: (out, in, k, k), or (in, out, k, k) where it enlarges.
        bias: (out,), or None for zeros.
        up: whether it is a transposed convolution.
        diagonal: whether channels do not mix and k is 1, as in a BatchNorm.
    """

    weight: Tensor
    bias: Tensor | None
    up: bool = False
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    diagonal: bool = False

    @property
    def in_channels(self) -> int:
        return self.weight.shape[0 if self.up else 1]

    @property
    def out_channels(self) -> int:
        return self.weight.shape[1 if self.up else 0]

    def without_bias(self) -> Step:
        return replace(self, bias=None)


def step_of(module: nn.Module | None) -> Step | None:
    """``module`` as a step, or None if it is not a linear layer of a kind we can chain."""
    if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
        scale, shift = affine(module)
        return Step(torch.diag(scale)[:, :, None, None], shift, diagonal=True)
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        return None
    if module.groups != 1 or pair(module.dilation) != (1, 1) or module.padding_mode != "zeros":
        return None
    up = isinstance(module, nn.ConvTranspose2d)
    if up and any(pair(module.output_padding)):
        return None
    padding = _padding(module)
    if padding is None:
        return None
    bias = None if module.bias is None else module.bias.detach()
    return Step(module.weight.detach(), bias, up, pair(module.stride), padding)


def _padding(module: nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, int] | None:
    if module.padding == "valid":
        return 0, 0
    if module.padding == "same":
        k_h, k_w = module.kernel_size
        return (k_h // 2, k_w // 2) if k_h % 2 and k_w % 2 else None
    return pair(module.padding)


def identity_step(channels: int) -> Step:
    """The step that changes nothing."""
    return Step(torch.eye(channels)[:, :, None, None], None, diagonal=True)


class AxisStep(NamedTuple):
    """A step along one axis."""

    up: bool
    taps: int
    stride: int
    padding: int

    def size(self, size: int) -> int:
        """Number of outputs from ``size`` inputs."""
        if self.up:
            return (size - 1) * self.stride - 2 * self.padding + self.taps
        return (size + 2 * self.padding - self.taps) // self.stride + 1

    def reach(self, low: int, high: int) -> tuple[int, int]:
        """The inputs [low, high) that outputs [low, high) read."""
        if self.up:
            first = -((self.taps - 1 - self.padding - low) // self.stride)
            return first, (high - 1 + self.padding) // self.stride + 1
        return low * self.stride - self.padding, (high - 1) * self.stride - self.padding + self.taps


def axis_steps(steps: Sequence[Step], axis: int) -> tuple[AxisStep, ...]:
    """``steps`` along axis 0 (rows) or 1 (columns)."""
    return tuple(
        AxisStep(s.up, s.weight.shape[2 + axis], s.stride[axis], s.padding[axis]) for s in steps
    )


class Run(NamedTuple):
    """Output blocks [start, stop) that share a kernel.

    Attributes:
        cut: whether an inner layer is cut off by a border here.
        low: first input row of block ``start``; may lie before the image.
        taps: rows of the kernel, after dropping those that never see the image.
        dropped: rows that were dropped in front.
    """

    start: int
    stop: int
    cut: bool
    low: int
    taps: int
    dropped: int


class Axis(NamedTuple):
    """How one axis of the convolution that stands for a chain is laid out.

    Attributes:
        up: pixels in a block.
        stride: input rows from one block to the next.
        shift: pixels of the first block that lie before the map.
        blocks: number of blocks.
        size_in: input rows.
        size_out: output pixels.
        runs: blocks by kernel, in order.
    """

    up: int
    stride: int
    shift: int
    blocks: int
    size_in: int
    size_out: int
    runs: tuple[Run, ...]

    @property
    def taps(self) -> int:
        """Multiply-adds along this axis, per input and output channel of a pixel's block."""
        return sum((run.stop - run.start) * run.taps for run in self.runs)


@lru_cache(maxsize=4096)
def plan_axis(
    steps: tuple[AxisStep, ...], size: int, up: int = 1, shift: int | None = None
) -> Axis | None:
    """Lay out one axis of a chain on ``size`` inputs, in blocks of a multiple of ``up`` pixels.

    Blocks start ``shift`` pixels early; None chooses the shift that needs the fewest taps.

    None where a layer has gaps (a stride larger than its kernel), so that some outputs read
    nothing.
    """
    sizes = [size]
    for step in steps:
        sizes.append(step.size(sizes[-1]))
    block, stride = _period(steps, up)
    if shift is None:
        reaches = [_walk(steps, sizes, -d, block - d, cut=False) for d in range(block)]
        shift = min(range(block), key=lambda d: (reaches[d][1] - reaches[d][0], d))
    blocks = math.ceil((sizes[-1] + shift) / block)
    runs = list(_runs(steps, sizes, block, stride, shift, blocks))
    if any(run.taps < 1 for run in runs):
        return None
    return Axis(block, stride, shift, blocks, size, sizes[-1], tuple(runs))


def _period(steps: Sequence[AxisStep], up: int) -> tuple[int, int]:
    """The least multiple of ``up`` outputs in which the chain repeats, and the inputs it takes."""
    for block in range(up, up * math.prod(s.stride for s in steps if s.up) + 1, up):
        stride = block
        for step in reversed(steps):
            if step.up and stride % step.stride:
                break
            stride = stride // step.stride if step.up else stride * step.stride
        else:
            return block, stride
    raise AssertionError("the product of all strides is a period")


def _walk(
    steps: Sequence[AxisStep], sizes: Sequence[int], low: int, high: int, *, cut: bool
) -> tuple[int, int, tuple[int, ...]]:
    """The inputs that outputs [low, high) read, and how much each border would cut off inside."""
    cuts: list[int] = []
    for index in reversed(range(len(steps))):
        low, high = steps[index].reach(low, high)
        if index > 0:
            cuts += [max(0, -low), max(0, high - sizes[index])]
            if cut:
                low, high = max(low, 0), min(high, sizes[index])
    return low, high, tuple(cuts)


def _runs(
    steps: Sequence[AxisStep],
    sizes: Sequence[int],
    block: int,
    stride: int,
    shift: int,
    blocks: int,
) -> Iterator[Run]:
    def key(index: int) -> tuple[int, ...]:
        low = block * index - shift
        inside = max(low, 0), min(low + block, sizes[-1])
        cuts = _walk(steps, sizes, *inside, cut=True)[2]
        return (inside[0] - low, inside[1] - low, *cuts) if any(cuts) else ()

    start = 0
    while start < blocks:
        stop = start + 1
        while stop < blocks and key(stop) == key(start):
            stop += 1
        first = block * start - shift
        low, high, _ = _walk(steps, sizes, first, first + block, cut=bool(key(start)))
        # Rows that lie outside the image for every block of the run only multiply zeros.
        dropped = max(0, -(low + stride * (stop - 1 - start)))
        beyond = max(0, high - sizes[0])
        yield Run(
            start, stop, bool(key(start)), low + dropped, high - low - dropped - beyond, dropped
        )
        start = stop


@torch.no_grad()
def kernel(
    steps: Sequence[Step], axes: tuple[Axis, Axis], runs: tuple[Run, Run]
) -> tuple[Tensor, Tensor]:
    """Weight (B, I, k_h, k_w) and bias (B,) in float64 of the outputs in ``runs``.

    The B = up * up * O channels of a block are ordered phase by phase, (up, up, O).
    """
    channels, (up_h, up_w) = steps[-1].out_channels, (axis.up for axis in axes)
    patch = torch.eye(up_h * up_w * channels, dtype=torch.float64)
    patch = patch.reshape(-1, up_h, up_w, channels).permute(0, 3, 1, 2)
    origin = [a.up * run.start - a.shift for a, run in zip(axes, runs, strict=True)]
    bias = torch.zeros(len(patch), dtype=torch.float64)
    sizes = [_sizes(steps, axis, n) for n, axis in enumerate(axes)]
    for index in reversed(range(len(steps))):
        step = steps[index]
        if step.bias is not None:
            bias += patch.sum(dim=(2, 3)) @ step.bias.double()
        patch, origin = pull_back(step, patch, origin)
        for axis in (0, 1):
            if index > 0 and runs[axis].cut:
                patch, origin[axis] = cut(patch, axis, origin[axis], sizes[axis][index])
    rows, columns = runs
    patch = patch[:, :, rows.dropped :, columns.dropped :]
    return patch[:, :, : rows.taps, : columns.taps], bias


def _sizes(steps: Sequence[Step], axis: Axis, number: int) -> list[int]:
    sizes = [axis.size_in]
    for step in axis_steps(steps, number):
        sizes.append(step.size(sizes[-1]))
    return sizes


def pull_back(step: Step, patch: Tensor, origin: list[int]) -> tuple[Tensor, list[int]]:
    """The adjoint of ``step``: a patch over its outputs becomes a patch over its inputs."""
    weight = step.weight.double()
    if not step.up:
        starts = [o * s - p for o, s, p in zip(origin, step.stride, step.padding, strict=True)]
        return F.conv_transpose2d(patch, weight, stride=step.stride), starts
    starts = []
    pads: list[int] = []
    for axis, start in enumerate(origin):
        along = axis_steps([step], axis)[0]
        length = patch.shape[2 + axis]
        low, high = along.reach(start, start + length)
        first = low * along.stride - along.padding
        last = (high - 1) * along.stride - along.padding + along.taps
        starts.append(low)
        pads = [start - first, last - start - length, *pads]
    return F.conv2d(F.pad(patch, pads), weight, stride=step.stride), starts


def cut(patch: Tensor, axis: int, start: int, size: int) -> tuple[Tensor, int]:
    """Drop the part of a patch that lies outside a map of ``size``."""
    low, high = max(0, -start), min(patch.shape[2 + axis], size - start)
    return patch.narrow(2 + axis, low, high - low), max(0, start)
