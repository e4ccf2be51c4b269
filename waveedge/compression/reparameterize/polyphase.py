"""Keep the residual stream of wavelet blocks in polyphase form, so that nothing is interleaved."""

from __future__ import annotations

import copy
import operator

import torch
from torch import fx, nn

from waveedge.macs import layer_macs

from .graph_builder import Builder
from .linear_steps import step_of
from .phases import PhaseToSpace, SpaceToPhase
from .rewrite import Applied, Rewrite, Shapes, called, numel, pair, prune, source
from .spans import Span

__all__ = ["Polyphase"]


class Polyphase(Rewrite):
    """A transposed convolution of stride 2 yields phases, and the Haar level of the next block
    reads phases. What lies between (sums, 1x1 convolutions) treats all phases alike, so the map in
    between need not exist: each of its four phases, the pixels (2 q + r, 2 p + c), is a map of its
    own.

    Rules, from a SpaceToPhase upwards, where at least one transposed convolution or PhaseToSpace is
    reached:

    1. ConvTranspose2d: a convolution for each phase, with the taps that reach its pixels. Of a
       PhaseToSpace, what it reads.
    2. A sum: the sums of phases.
    3. A 1x1 convolution: the same one for each phase.
    4. Anything else: SpaceToPhase of the map, in parts.
    5. SpaceToPhase itself: the phases, joined.
    6. Whoever else reads one of those values gets it interleaved.

    It saves interleaving a map and taking it apart again, and pays for that with three convolutions
    and three sums more: where running an operator is dear and the map small, it is left out.
    """

    name = "polyphase"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        converter = _Converter(self, graph_module, shapes)
        applied = []
        for node, _ in self.modules(graph_module, SpaceToPhase):
            value = source(node)
            if converter.native(value) and self._pays(called(value, graph_module), shapes[value]):
                phases = converter.phases(value)
                node.replace_all_uses_with(Builder(graph_module, node).join(phases))
                prune(node)
                applied.append(Applied("polyphase.5", str(node.target), 0, 0))
        return applied + converter.settle()

    def _pays(self, producer: nn.Module | None, shape: tuple[int, ...]) -> bool:
        if isinstance(producer, PhaseToSpace):  # both go, and nothing comes
            return True
        shuffled = self.prices.shuffle + 2 * self.prices.element
        return 2 * shuffled * numel(shape) >= 6 * self.prices.node


class _Converter:
    """Values of a graph as their four phases, in the order of SpaceToPhase, each made once."""

    def __init__(self, rewrite: Rewrite, graph_module: fx.GraphModule, shapes: Shapes) -> None:
        self.rewrite = rewrite
        self.graph_module = graph_module
        self.shapes = shapes
        self.made: dict[fx.Node, list[fx.Node]] = {}
        self.parts: dict[fx.Node, list[fx.Node]] = {}
        self.applied: list[Applied] = []

    def native(self, value: fx.Node) -> bool:
        """Whether ``value`` comes in phases by itself."""
        if value in self.made:
            return True
        module = called(value, self.graph_module)
        if isinstance(module, nn.ConvTranspose2d):
            return self.rewrite.free(value) and _is_doubling(module)
        if isinstance(module, PhaseToSpace):
            return module.upscale_factor == 2
        if self._is_pointwise(value, module):
            return self.native(source(value))
        return self._is_sum(value) and any(map(self.native, value.all_input_nodes))

    def phases(self, value: fx.Node) -> list[fx.Node]:
        """The phases of ``value``."""
        if value in self.made:
            return self.made[value]
        if not self.native(value):
            return self._parts(value)
        build, name = Builder(self.graph_module, value), str(value.target)
        module = called(value, self.graph_module)
        if isinstance(module, nn.ConvTranspose2d):
            step = step_of(module)
            assert step is not None
            size_in, size_out = (self.shapes[node][2:] for node in (source(value), value))
            result = build.phases(name, source(value), step, size_in, size_out)
            before = layer_macs(module, self.shapes[value])
            shape = (1, step.out_channels, size_out[0] // 2, size_out[1] // 2)
            after = sum(layer_macs(called(phase, self.graph_module), shape) for phase in result)
            self.applied.append(Applied("polyphase.1", name, before, after))
        elif isinstance(module, PhaseToSpace):
            result = self._windows(build, source(value), self.shapes[value][1])
        elif isinstance(module, nn.Conv2d):
            inner = enumerate(self.phases(source(value)))
            result = [build.module(f"{name}_phase{n}", copy.deepcopy(module), x) for n, x in inner]
        else:
            operands = [self.phases(operand) for operand in value.all_input_nodes]
            result = [build.total(phase) for phase in zip(*operands, strict=True)]
        self.made[value] = result
        return result

    def _parts(self, value: fx.Node) -> list[fx.Node]:
        """Rule 4."""
        if value not in self.parts:
            build, channels = Builder(self.graph_module, value.next), self.shapes[value][1]
            whole = build.module(f"{value.name}_phases", SpaceToPhase(), value)
            self.parts[value] = self._windows(build, whole, channels)
        return self.parts[value]

    def _windows(self, build: Builder, phases: fx.Node, channels: int) -> list[fx.Node]:
        """Four phases of ``channels`` each, one by one."""
        return [
            build.window(phases, Span(start, start + channels, 4 * channels, "first"))
            for start in range(0, 4 * channels, channels)
        ]

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

    def _is_sum(self, node: fx.Node) -> bool:
        return (
            node.op == "call_function"
            and node.target in (operator.add, torch.add)
            and not node.kwargs
            and len(node.args) == len(node.all_input_nodes) == 2
            and all(self.shapes.get(x) == self.shapes.get(node) for x in node.all_input_nodes)
        )

    def settle(self) -> list[Applied]:
        """Give whoever still reads a converted value the map; the pipeline removes the others."""
        for value in reversed(list(self.made)):
            others = [user for user in value.users if user not in self.made]
            if others:
                build = Builder(self.graph_module, value.next)
                phases = build.join(self.made[value])
                image = build.module(f"{value.name}_shuffle", PhaseToSpace(2), phases)
                for user in others:
                    user.replace_input_with(value, image)
                self.applied.append(Applied("polyphase.6", value.name, 0, 0))
        return self.applied


def _is_doubling(module: nn.ConvTranspose2d) -> bool:
    """Whether a transposed convolution is linear, has a stride of 2, and no tap is missing."""
    large = min(module.kernel_size) >= 2
    return step_of(module) is not None and pair(module.stride) == (2, 2) and large
