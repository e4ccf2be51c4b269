"""Keep the residual stream of wavelet blocks in polyphase form, so that nothing is interleaved."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from .emit import Builder
from .layout import Layout, plan
from .linear import step_of
from .phases import SpaceToPhase
from .rewrite import Applied, Rewrite, Shapes, called, macs, new_conv, pair, prune, source

__all__ = ["Polyphase"]


class Polyphase(Rewrite):
    """A transposed convolution of stride 2 yields phases, and the Haar level of the next block
    reads phases. What lies between (sums, 1x1 convolutions) treats all phases alike, so the map in
    between need not exist: it stays in blocks of 2x2 pixels (linear.py), all of one grid.

    Rules, from a SpaceToPhase upwards, where at least one transposed convolution is reached:

    1. ConvTranspose2d: the convolution that yields its blocks.
    2. A sum: the sum of blocks.
    3. A 1x1 convolution: the same one for each phase, as a convolution of as many groups.
    4. Anything else: SpaceToPhase of the map, extended to whole blocks.
    5. SpaceToPhase itself: the blocks, cut to aligned phases.
    6. Whoever else reads one of those values gets it interleaved.
    """

    name = "polyphase"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        converter = _Converter(self, graph_module, shapes)
        applied = []
        for node, _ in self.modules(graph_module, SpaceToPhase):
            value = source(node)
            layout = converter.native(value)
            if layout is not None:
                blocks = converter.blocks(value, layout)
                build = Builder(graph_module, node)
                node.replace_all_uses_with(build.aligned(blocks, shapes[value][1], layout))
                prune(node)
                applied.append(Applied("polyphase.5", str(node.target), 0, 0))
        return applied + converter.settle()


class _Converter:
    """Values of a graph in blocks, each made once."""

    def __init__(self, rewrite: Rewrite, graph_module: fx.GraphModule, shapes: Shapes) -> None:
        self.rewrite = rewrite
        self.graph_module = graph_module
        self.shapes = shapes
        self.made: dict[fx.Node, tuple[fx.Node, Layout]] = {}
        self.padded: dict[fx.Node, fx.Node] = {}
        self.applied: list[Applied] = []

    def native(self, value: fx.Node) -> Layout | None:
        """The blocks that ``value`` comes in by itself; None if it does not."""
        if value in self.made:
            return self.made[value][1]
        module = called(value, self.graph_module)
        if isinstance(module, nn.ConvTranspose2d) and self.rewrite.free(value):
            step = step_of(module)
            size = self.shapes[source(value)][2:] if source(value) in self.shapes else None
            layout = plan([step], size) if step is not None and size is not None else None
            return layout if layout is not None and layout.rows.up == 2 else None
        if self._is_pointwise(value, module):
            return self.native(source(value))
        if _is_sum(value):
            found = [self.native(operand) for operand in value.all_input_nodes]
            layouts = [layout for layout in found if layout is not None]
            if layouts and all(layout.grid == layouts[0].grid for layout in layouts):
                return layouts[0]
        return None

    def blocks(self, value: fx.Node, layout: Layout) -> fx.Node:
        """``value`` in blocks of ``layout``'s grid."""
        if value in self.made:
            return self.made[value][0]
        if self.native(value) is None:
            return self._padded(value, layout)
        build = Builder(self.graph_module, value)
        module = called(value, self.graph_module)
        if isinstance(module, nn.ConvTranspose2d):
            own, step = self.native(value), step_of(module)
            assert own is not None
            assert step is not None
            before = macs(module, self.shapes[value])
            after = own.macs(step.in_channels, step.out_channels)
            self.applied.append(Applied("polyphase.1", str(value.target), before, after))
            result = build.blocks(str(value.target), [(source(value), [step])], own)
        elif module is not None:
            result = self._pointwise(build, value, layout)
        else:
            operands = [self.blocks(operand, layout) for operand in value.args]  # type: ignore[arg-type]
            result = build.total(operands)
        self.made[value] = (result, layout)
        return result

    def _pointwise(self, build: Builder, value: fx.Node, layout: Layout) -> fx.Node:
        conv = called(value, self.graph_module)
        assert isinstance(conv, nn.Conv2d)
        inner, phases = self.blocks(source(value), layout), layout.phases
        weight = conv.weight.detach().repeat(phases, 1, 1, 1)
        bias = None if conv.bias is None else conv.bias.detach().repeat(phases)
        grouped = new_conv(weight, bias, conv, groups=phases)
        return build.module(str(value.target), grouped, inner)

    def _padded(self, value: fx.Node, layout: Layout) -> fx.Node:
        """Rule 4. The pixels outside may hold anything; repeated ones lie on the value's own grid
        when it is quantized."""
        if value not in self.padded:
            build, map_ = Builder(self.graph_module, value.next), value
            for dim, axis in ((2, layout.rows), (3, layout.columns)):
                size, after = axis.size_out, axis.blocks * axis.up - axis.shift - axis.size_out
                whole = (None,) * (dim - 1)
                pieces = [map_]
                if axis.shift:
                    pieces.insert(0, build.window(map_, *whole, (0, axis.shift, size)))
                if after:
                    pieces.append(build.window(map_, *whole, (size - after, size, size)))
                map_ = build.join(pieces, dim)
            name = f"{value.name}_phases"
            self.padded[value] = build.module(name, SpaceToPhase(), map_)
        return self.padded[value]

    def _is_pointwise(self, value: fx.Node, module: nn.Module | None) -> bool:
        return (
            isinstance(module, nn.Conv2d)
            and self.rewrite.free(value)
            and module.kernel_size == (1, 1)
            and module.groups == 1
            and pair(module.stride) == (1, 1)
            and step_of(module) is not None
            and step_of(module).padding == (0, 0)  # type: ignore[union-attr]
        )

    def settle(self) -> list[Applied]:
        """Give whoever still reads a converted value the map; the pipeline removes the others."""
        for value in reversed(list(self.made)):
            blocks, layout = self.made[value]
            others = [user for user in value.users if user not in self.made]
            if others:
                build = Builder(self.graph_module, value.next)
                image = build.image(value.name, blocks, layout)
                for user in others:
                    user.replace_input_with(value, image)
                self.applied.append(Applied("polyphase.6", value.name, 0, 0))
        return self.applied


def _is_sum(node: fx.Node) -> bool:
    return (
        node.op == "call_function"
        and node.target in (operator.add, torch.add)
        and not node.kwargs
        and len(node.args) == 2
        and all(isinstance(operand, fx.Node) for operand in node.args)
    )
