"""Haar transforms folded into the convolutions beside them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from waveedge.macs import layer_macs
from waveedge.nn import DWT2d, IDWT2d

from .graph_builder import Builder
from .mixing import matrix_of, one_channel_each, spread
from .phases import PhaseToSpace, SpaceToPhase
from .pyramid import Bands, bands_of, transform_macs
from .rewrite import (
    Applied,
    Rewrite,
    Shapes,
    called,
    calls,
    concatenated,
    fresh_name,
    new_conv,
    prune,
    source,
)

__all__ = ["Haar"]


class Haar(Rewrite):
    """One Haar level of a map with even sides only mixes the four pixels of each 2x2 cell, and so
    does nothing that the convolution behind or before it cannot do.

    Rules:

    1. A convolution that reads the four bands of a level and anything else, in any order and with
       any signs, reads the four phases of the map (its pixels at even and odd rows and columns, as
       4 C channels) instead, with the transform folded into its weights. The multiply-adds stay the
       same, the transform's own vanish.
    2. Where the low band is needed elsewhere (by the next level), it is a 1x1 convolution of the
       same phases with constant weights. All other readers of the level must fall under rule 1.
    3. Where the low band alone is read, by convolutions, it is an average of cells, and their
       weights take the factor.
    4. An inverse level whose bands are the output of one convolution, read by nothing else: the
       convolution yields the phases of the map.

    Longer wavelets and odd sides are left alone: their bands reach beyond a cell.
    """

    name = "haar"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        for node in list(graph_module.graph.nodes):
            layer = called(node, graph_module)
            if not isinstance(layer, DWT2d | IDWT2d) or node.target in self.keep:
                continue
            if layer.filters.shape[1] != 2:
                continue
            if isinstance(layer, IDWT2d):
                applied += self._inverse(graph_module, shapes, node, layer)
                continue
            bands = bands_of(node, 1) if layer.levels == 1 else None
            if bands is None or any(side % 2 for side in shapes[source(node)][2:]):
                continue
            level = _Level(graph_module, shapes, node, layer, bands)
            if not bands.details[0]:
                applied += self._pooled(level)
                continue
            readers = self._readers(level)
            if readers:
                applied += _fold(level, readers)
        return applied

    def _readers(self, level: _Level) -> list[fx.Node] | None:
        """The convolutions that read all bands, or None if something else reads a detail."""
        readers: dict[fx.Node, None] = {}
        for value in level.mixtures:
            for reader in _through_joins(value):
                if reader in level.values:
                    continue
                if self._reads_all(level, reader):
                    readers[reader] = None
                elif value not in level.bands.low:
                    return None
        return list(readers)

    def _reads_all(self, level: _Level, node: fx.Node) -> bool:
        layer = called(node, level.graph_module)
        if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or node.target in self.keep:
            return False
        parts = [level.matrix(part) for part in concatenated(source(node)) if part in level.values]
        read = sum(len(part) for part in parts if part is not None)
        return None not in parts and read >= 4 * level.channels

    def _pooled(self, level: _Level) -> list[Applied]:
        """Rule 3."""
        readers = [user for low in level.bands.low for user in low.users]
        layers = [called(user, level.graph_module) for user in readers]
        if not all(map(self.free, readers)) or not all(isinstance(x, nn.Conv2d) for x in layers):
            return []
        low = level.matrix(level.bands.low[0]) if level.bands.low else None
        if low is None or not torch.equal(
            low, low[0, 0] * torch.eye(len(low)).double().repeat(1, 4)
        ):
            return []
        build, name = Builder(level.graph_module, level.node), str(level.node.target)
        value = source(level.node)
        pooled = build.module(fresh_name(level.graph_module, f"{name}_low"), nn.AvgPool2d(2), value)
        level.shapes[pooled] = level.shapes[level.bands.low[0]]
        with torch.no_grad():
            for layer in dict.fromkeys(layers):
                assert isinstance(layer, nn.Conv2d)
                layer.weight.copy_(layer.weight.double() * 4 * low[0, 0])
        for band in level.bands.low:
            band.replace_all_uses_with(pooled)
        return [Applied("haar.3", name, transform_macs(level.shapes[value], 1), 0)]

    def _inverse(
        self, graph_module: fx.GraphModule, shapes: Shapes, node: fx.Node, inverse: IDWT2d
    ) -> list[Applied]:
        """Rule 4."""
        conv = _producer(node)
        layer = called(conv, graph_module)
        if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or not self.free(conv):
            return []
        values = spread(node.graph, {conv: one_channel_each(layer.out_channels)})
        arguments: Any = fx.node.map_arg(node.args, values.get)
        (low, details), *_ = arguments
        if low is None or len(details) != 1 or details[0] is None:
            return []
        with torch.no_grad():
            image = copy.deepcopy(inverse).double()((low, details))
        matrix = matrix_of(SpaceToPhase()(image))
        if matrix is None or len(matrix) > layer.out_channels:
            return []
        cost = layer_macs(layer, shapes[conv])
        weight = torch.einsum("pk,kiyx->piyx", matrix, layer.weight.double())
        bias = None if layer.bias is None else matrix @ layer.bias.double()
        build, name = Builder(graph_module, node), str(conv.target)
        phases = build.module(name, _like(layer, weight, bias), source(conv))
        channels = len(matrix)
        shapes[phases] = (1, channels, *shapes[conv][2:])
        mapped = build.module(f"{name}_shuffle", PhaseToSpace(2), phases)
        shapes[mapped] = shapes[node]
        before = cost + transform_macs(shapes[node], 1)
        node.replace_all_uses_with(mapped)
        prune(node)
        after = cost * channels // layer.out_channels
        return [Applied("haar.4", name, before, after)]


class _Level:
    """One level of a transform, and all that is mixed of its bands.

    Attributes:
        channels: C of the map.
        values: nodes -> what they yield for the phases of the map, each alone.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        shapes: Shapes,
        node: fx.Node,
        transform: DWT2d,
        bands: Bands,
    ) -> None:
        self.graph_module = graph_module
        self.shapes = shapes
        self.node = node
        self.bands = bands
        self.channels = int(shapes[source(node)][1])
        cells = PhaseToSpace(2)(one_channel_each(4 * self.channels))
        with torch.no_grad():
            self.values = spread(node.graph, {node: copy.deepcopy(transform).double()(cells)})

    @property
    def mixtures(self) -> list[fx.Node]:
        """The nodes that yield tensors, with readers beside the nodes between."""
        return [node for node, value in self.values.items() if isinstance(value, Tensor)]

    def matrix(self, node: fx.Node) -> Tensor | None:
        """(channels of the node, 4 C phases) in float64; None where a node is no mixture."""
        return matrix_of(self.values[node])


def _through_joins(node: fx.Node) -> list[fx.Node]:
    """The readers of a value, looking through concatenations."""
    readers = []
    for user in node.users:
        readers += _through_joins(user) if concatenated(user) != [user] else [user]
    return readers


def _producer(node: fx.Node) -> fx.Node | None:
    """The one node that all inputs of ``node`` are made of, with nothing else reading on the way.

    Whether they are mixtures of its channels is for :func:`spread` to say.
    """
    between, awaited = {node}, set(node.all_input_nodes)
    nodes: list[fx.Node] = list(node.graph.nodes)
    for value in reversed(nodes):
        if value not in awaited:
            continue
        awaited.remove(value)
        if not value.users.keys() <= between:
            return None
        if not awaited and value.op == "call_module":
            return value
        if value.op != "call_function":
            return None
        between.add(value)
        awaited |= set(value.all_input_nodes)
    return None


def _fold(level: _Level, readers: list[fx.Node]) -> list[Applied]:
    """Rules 1 and 2."""
    graph_module, shapes, node = level.graph_module, level.shapes, level.node
    value, name, channels = source(node), str(node.target), level.channels
    size = shapes[level.bands.details[0][0]][3:]
    build = Builder(graph_module, node)
    phases = build.module(fresh_name(graph_module, f"{name}_phases"), SpaceToPhase(), value)
    shapes[phases] = (1, 4 * channels, *size)
    transform = transform_macs(shapes[value], 1)
    applied = []
    for conv in readers:
        before = transform + layer_macs(called(conv, graph_module), shapes[conv])
        result = _read_phases(level, conv, phases)
        after = layer_macs(called(result, graph_module), shapes[result])
        applied.append(Applied("haar.1", str(conv.target), before, after))
    for low in level.bands.low:
        if set(_through_joins(low)) - set(readers) - level.values.keys():
            matrix = level.matrix(low)
            assert matrix is not None
            conv_low = new_conv(matrix[:, :, None, None], None, graph_module)
            result = build.module(fresh_name(graph_module, f"{name}_low"), conv_low, phases)
            shapes[result] = shapes[low]
            low.replace_all_uses_with(result)
            cost = layer_macs(conv_low, shapes[low])
            applied.append(Applied("haar.2", name, transform, cost))
    for conv in readers:
        prune(conv)
    return applied


@torch.no_grad()
def _read_phases(level: _Level, conv: fx.Node, phases: fx.Node) -> fx.Node:
    """Let one convolution read the phases where it read the bands."""
    layer = called(conv, level.graph_module)
    assert isinstance(layer, nn.Conv2d)
    joined = concatenated(source(conv))
    parts = torch.split(layer.weight.double(), [level.shapes[part][1] for part in joined], 1)
    folded = [torch.zeros(()).double()]
    others: list[tuple[fx.Node, Tensor]] = []
    for value, part in zip(joined, parts, strict=True):
        if value in level.values:
            matrix = level.matrix(value)
            assert matrix is not None
            folded.append(torch.einsum("ocyx,cp->opyx", part, matrix))
        else:
            others.append((value, part))
    weight = torch.cat([sum(folded[1:], folded[0]), *(part for _, part in others)], 1)
    build = Builder(level.graph_module, conv)
    name = str(conv.target)
    if len(calls(conv.graph, name)) > 1:  # shared by levels, of which some may not fold
        name = fresh_name(level.graph_module, name)
    inputs = build.join([phases, *(value for value, _ in others)])
    result = build.module(name, _like(layer, weight, layer.bias), inputs)
    level.shapes[result] = level.shapes[conv]
    conv.replace_all_uses_with(result)
    return result


def _like(layer: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A convolution that moves over its map as ``layer`` does, with other channels."""
    return new_conv(
        weight,
        bias,
        layer,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        padding_mode=layer.padding_mode,
    )
