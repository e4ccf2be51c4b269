"""(channel, subband) pairs as channels: what static WCC chooses from.

Exact rewrites fold a network's own Haar transforms into the layers that read them, which then read
the four pixels of each cell of a map. Pixels carry alike, and subbands do not: most of a map is in
its low band. So before a choice

1. layers that read the pixels of cells read their subbands;
2. a 1x1 convolution in front of them, if it shall choose too, moves behind the transform: it reads
   the subbands of its own input, and yields subbands. Nothing is transformed twice, and what is
   not read is not computed;

and after it the transform is folded back into the weights: convolutions of rule 2 become 2x2
convolutions of stride 2. All of it is exact. With half of the subbands on either side, such a
convolution does twice the multiply-adds that it did. So only those move whose multiply-adds cost
less than running a node does, at the prices of the device: there they are as good as free.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import fx, nn

from waveedge.compression.costs import CPU, CostProfile
from waveedge.compression.graph_queries import is_pointwise, layer_of
from waveedge.compression.reparameterize import (
    Shapes,
    SpaceToPhase,
    calls,
    concatenated,
    fresh_name,
    new_conv,
    source,
)
from waveedge.compression.shrink.pairs import by_input, dense_layer, set_weight
from waveedge.macs import layer_macs
from waveedge.normalise.modules import set_module

__all__ = ["Bands"]

_CELL = torch.tensor(
    [[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], dtype=torch.float64
).div(2)
"""Pixels of a cell, row by row, to the low band and three of details; its own inverse."""


class _Reader(NamedTuple):
    """A convolution that reads 4 ``channels`` phases, from its input ``first`` on."""

    conv: fx.Node
    first: int
    channels: int


class Bands:
    """A network whose layers read subbands, in place, until they are settled.

    Args:
        graph: the network in floating point.
        names: of the 1x1 convolutions that may move.
        image: the shape of one, (1, C, H, W).
        prices: of the device that the network shall run on.
        keep: names of layers that stay as they are.

    Attributes:
        maps: the values that subbands are of, by the node that yields these.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        names: Collection[str],
        image: tuple[int, ...],
        prices: CostProfile = CPU,
        keep: Collection[str] = (),
    ) -> None:
        self._graph, self._prices, self._keep = graph, prices, keep
        self._shapes = Shapes(graph, image)
        self._moved: list[fx.Node] = []
        self._turned: list[tuple[fx.Node, list[_Reader]]] = []
        self.maps: dict[fx.Node, fx.Node] = {}
        for node in list(graph.graph.nodes):
            if not isinstance(layer_of(graph, node), SpaceToPhase):
                continue
            readers = self._readers(node)
            if not readers:
                continue
            for reader in readers:
                self._turn(reader)
            writer = source(node)
            alone = writer.users.keys() == {node}
            if writer.target in names and alone and self._is_cheap(writer):
                self._move(node, writer)
            else:
                self._turned.append((self._transform(node, readers[0].channels), readers))
        self._check()

    def settle(self) -> None:
        """Fold the transforms into the layers, in place."""
        for node, readers in self._turned:
            for reader in readers:
                self._turn(reader)
            node.replace_all_uses_with(source(node))
            self._drop(node)
        for node in self._moved:
            channels = self._conv(node).in_channels // 4
            self._turn(_Reader(node, 0, channels))
            conv = self._conv(node)
            cells = conv.weight.reshape(-1, 2, 2, channels).permute(0, 3, 1, 2)
            set_module(self._graph, str(node.target), new_conv(cells, conv.bias, conv, stride=2))
            transform, phases = source(node), source(source(node))
            node.replace_input_with(transform, source(phases))
            self._drop(transform)
            self._drop(phases)
        self._check()

    def _readers(self, phases: fx.Node) -> list[_Reader]:
        """The convolutions that read phases, alone or beside other maps; none if others do."""
        channels = int(self._shapes[phases][1]) // 4
        readers = []
        for user in phases.users:
            parts = concatenated(user)
            joined = parts != [user]
            for reader in user.users if joined else [user]:
                if not self._is_pointwise(reader):
                    return []
                first = 0
                for part in parts if joined else [phases]:
                    if part is phases:
                        readers.append(_Reader(reader, first, channels))
                    first += int(self._shapes[part][1])
        return readers

    def _turn(self, reader: _Reader) -> None:
        """Let a layer read subbands where it read pixels, or the other way round."""
        conv = self._conv(reader.conv)
        weight = by_input(conv)
        rows = slice(reader.first, reader.first + 4 * reader.channels)
        cells = weight[rows].reshape(4, reader.channels, *weight.shape[1:])
        weight[rows] = torch.einsum("bp,pcot->bcot", _CELL, cells).flatten(0, 1)
        set_weight(conv, weight, conv.bias)

    def _transform(self, phases: fx.Node, channels: int) -> fx.Node:
        """Subbands of a map's phases, for all that read these."""
        graph = self._graph
        mixing = torch.kron(_CELL, torch.eye(channels, dtype=torch.float64))
        conv = new_conv(mixing[..., None, None], None, graph)
        name = set_module(graph, fresh_name(graph, f"{phases.target}_bands"), conv)
        with graph.graph.inserting_after(phases):
            node = graph.graph.call_module(name, (phases,))
        phases.replace_all_uses_with(node, delete_user_cb=lambda user: user is not node)
        self.maps[node] = source(phases)
        return node

    def _move(self, phases: fx.Node, writer: fx.Node) -> None:
        """Let a convolution in front of a transform follow it (rule 2)."""
        conv = self._conv(writer)
        channels, bias = conv.in_channels, None
        if conv.bias is not None:
            # The low band of a constant map is twice the constant, and others are zero.
            bias = torch.cat([2 * conv.bias, torch.zeros(3 * len(conv.bias)).to(conv.bias)])
        set_weight(
            conv,
            torch.kron(torch.eye(4).double(), by_input(conv)[..., 0].contiguous())[..., None],
            bias,
        )
        value = source(writer)
        phases.replace_all_uses_with(writer)
        phases.replace_input_with(writer, value)
        writer.prepend(phases)
        writer.replace_input_with(value, phases)
        self._transform(phases, channels)
        self._moved.append(writer)

    def _is_cheap(self, writer: fx.Node) -> bool:
        return self._is_pointwise(writer) and (
            layer_macs(self._conv(writer), self._shapes[writer]) <= self._prices.node
        )

    def _conv(self, node: fx.Node) -> nn.Conv2d:
        conv = layer_of(self._graph, node)
        assert isinstance(conv, nn.Conv2d)
        return conv

    def _is_pointwise(self, node: fx.Node) -> bool:
        return is_pointwise(dense_layer(self._graph, node, self._keep))

    def _drop(self, node: fx.Node) -> None:
        self._graph.graph.erase_node(node)
        if not calls(self._graph.graph, str(node.target)):
            self._graph.delete_submodule(str(node.target))

    def _check(self) -> None:
        self._graph.graph.lint()
        self._graph.recompile()
