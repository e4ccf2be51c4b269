"""Write the convolution that stands for a chain of linear layers into a graph."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn

from waveedge.normalise.modules import set_module

from .block_layout import Layout
from .linear_steps import Axis, Run, Step, axis_steps, kernel
from .phases import PhaseToSpace
from .rewrite import new_conv
from .spans import Place, Span

__all__ = ["Builder"]


class _Reads(NamedTuple):
    """What a convolution reads along one axis.

    Attributes:
        low: first input row of the first output; may lie before the map.
        stride: input rows from one output to the next.
        outputs: their number.
        size: input rows.
        place: which outputs of the map they are: those of a border stay as many on a larger one.
    """

    low: int
    stride: int
    outputs: int
    size: int
    place: Place = "whole"


class Builder:
    """Inserts nodes in front of one node of a graph.

    Args:
        graph_module: the graph; new modules are added to it.
        point: the node in front of which everything is inserted.
    """

    def __init__(self, graph_module: fx.GraphModule, point: fx.Node) -> None:
        self.graph_module = graph_module
        self.point = point

    def module(self, name: str, module: nn.Module, *inputs: fx.Node) -> fx.Node:
        """Call ``module``, which is added under ``name``."""
        return self.call(set_module(self.graph_module, name, module), *inputs)

    def call(self, name: str, *inputs: fx.Node) -> fx.Node:
        """Call the module that stands under ``name``."""
        with self.point.graph.inserting_before(self.point):
            return self.point.graph.call_module(name, inputs)

    def function(self, function: Any, *arguments: Any) -> fx.Node:
        """Call a function."""
        with self.point.graph.inserting_before(self.point):
            return self.point.graph.call_function(function, arguments)

    def method(self, name: str, *arguments: Any) -> fx.Node:
        """Call a method of the first argument."""
        with self.point.graph.inserting_before(self.point):
            return self.point.graph.call_method(name, arguments)

    def copy(self, node: fx.Node, value: fx.Node) -> fx.Node:
        """The operation of ``node``, whose only input it replaces by ``value``."""
        with self.point.graph.inserting_before(self.point):
            return self.point.graph.node_copy(node, lambda _: value)

    def total(self, values: Sequence[fx.Node]) -> fx.Node:
        """The sum of values."""
        result = values[0]
        for value in values[1:]:
            result = self.function(operator.add, result, value)
        return result

    def join(self, values: Sequence[fx.Node], dim: int = 1) -> fx.Node:
        """Values concatenated along an axis."""
        return values[0] if len(values) == 1 else self.function(torch.cat, list(values), dim)

    def window(self, value: fx.Node, *axes: Span | None) -> fx.Node:
        """Part of ``value``: a span per axis from channels on, or None for all."""
        index = [slice(None) if axis is None else axis.slice() for axis in axes]
        if all(part == slice(None) for part in index):
            return value
        index += [slice(None)] * (3 - len(index))
        return self.function(operator.getitem, value, (slice(None), *index))

    def blocks(
        self,
        name: str,
        terms: Sequence[tuple[fx.Node, Sequence[Step]]],
        layout: Layout,
    ) -> fx.Node:
        """The sum of chains of equal layout, each on its own source (see linear_steps.py)."""
        source = self.join([source for source, _ in terms])
        axes = (layout.rows, layout.columns)
        lines = []
        for r, row in enumerate(layout.rows.runs):
            pieces = []
            for c, column in enumerate(layout.columns.runs):
                found = [kernel(steps, axes, (row, column)) for _, steps in terms]
                weight = torch.cat([weight for weight, _ in found], dim=1)
                bias = torch.stack([bias for _, bias in found]).sum(dim=0)
                label = name if layout.regions == 1 else f"{name}_{r}{c}"
                reads = [
                    _Reads(
                        run.low, axis.stride, run.stop - run.start, axis.size_in, _place(axis, run)
                    )
                    for axis, run in zip(axes, (row, column), strict=True)
                ]
                pieces.append(self._conv(label, source, weight, bias, reads))
            lines.append(self.join(pieces, 3))
        return self.join(lines, 2)

    def _conv(
        self,
        name: str,
        source: fx.Node,
        weight: torch.Tensor,
        bias: torch.Tensor,
        reads: Sequence[_Reads],
    ) -> fx.Node:
        """A convolution whose rows and columns begin where ``reads`` says."""
        windows, pads = [], []
        for along, taps in zip(reads, weight.shape[2:], strict=True):
            end = along.low + along.stride * (along.outputs - 1) + taps
            first, last = max(0, along.low), min(along.size, end)
            windows.append(Span(first, last, along.size, along.place))
            pads.append((max(0, -along.low), max(0, end - along.size)))
        source = self.window(source, None, *windows)
        even = [min(low, high) for low, high in pads]
        rest = [(low - p, high - p) for (low, high), p in zip(pads, even, strict=True)]
        if any(map(any, rest)):
            source = self.function(F.pad, source, [*rest[1], *rest[0]])
        stride = tuple(along.stride for along in reads)
        conv = new_conv(weight, bias, self.graph_module, stride=stride, padding=tuple(even))
        return self.module(name, conv, source)

    def phases(
        self,
        name: str,
        source: fx.Node,
        step: Step,
        size_in: Sequence[int],
        size_out: Sequence[int],
    ) -> list[fx.Node]:
        """A transposed convolution of stride 2, each phase of its even map as a convolution."""
        bias = step.weight.new_zeros(step.out_channels) if step.bias is None else step.bias
        found = []
        for number, phase in enumerate(itertools.product((0, 1), (0, 1))):
            reads, taps = [], []
            for axis, first in enumerate(phase):
                along = axis_steps([step], axis)[0]
                low, high = along.reach(first, first + 1)
                reads.append(_Reads(low, 1, size_out[axis] // 2, size_in[axis]))
                # The tap through which input ``i`` reaches the first pixel.
                taps.append([first + along.padding - 2 * i for i in range(low, high)])
            weight = step.weight[:, :, taps[0]][:, :, :, taps[1]].transpose(0, 1).contiguous()
            label = f"{name}_phase{number}"
            found.append(self._conv(label, source, weight, bias.clone(), reads))
        return found

    def image(self, name: str, blocks: fx.Node, layout: Layout) -> fx.Node:
        """Blocks as a map."""
        if layout.phases == 1:
            return blocks
        shuffled = self.module(f"{name}_shuffle", PhaseToSpace(layout.rows.up), blocks)
        height, width = (
            Span(axis.shift, axis.shift + axis.size_out, axis.blocks * axis.up) for axis in layout
        )
        return self.window(shuffled, None, height, width)

    def aligned(self, blocks: fx.Node, channels: int, layout: Layout) -> fx.Node:
        """Blocks as aligned phases (N, up * up * C, h / up, w / up).

        Phase r of an axis, the pixels ``up * q + r``, stands at place ``(r + shift) % up`` of the
        blocks that start at number ``(r + shift) // up``.
        """
        rows, columns = layout
        phases = []
        for r in range(rows.up):
            for c in range(columns.up):
                place_r, place_c = (r + rows.shift) % rows.up, (c + columns.shift) % columns.up
                start = (place_r * columns.up + place_c) * channels
                windows = [Span(start, start + channels, channels * layout.phases, "first")]
                for axis, phase in ((rows, r), (columns, c)):
                    first = (phase + axis.shift) // axis.up
                    windows.append(Span(first, first + axis.size_out // axis.up, axis.blocks))
                phases.append(self.window(blocks, *windows))
        return self.join(phases)


def _place(axis: Axis, run: Run) -> Place:
    """Where the blocks of a run lie: the longest is what a larger map has more of."""
    longest = max(axis.runs, key=lambda run: run.stop - run.start)
    if run is longest:
        return "whole"
    return "first" if run.start < longest.start else "last"
