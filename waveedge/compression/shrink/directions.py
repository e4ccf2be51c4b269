"""Principal directions as channels: what static WCC chooses from beside subbands.

A layer misses single channels badly that are alike, where it would not miss as many directions of
them. Where choosing among channels saves nothing that choosing among directions does not, layers
read directions:

1. A layer that alone reads what another, linear one writes: the writer yields directions, and those
   that are not read are not computed.
2. 1x1 convolutions that read one residual stream. What one of them leaves out the others read, so
   that it is computed all the same. All of them share one set of directions, as if the stream were
   kept in these.

With the second moments S of the channels and the metric M of their reader (what an error of a
channel costs, as in :mod:`.bottleneck`), these are the directions in which both are diagonal: the
first r lose least of all sets of r. Of a stream whose readers together make no more numbers of it
than it has channels, each reader has directions of its own, and loses nothing by reading as many as
it makes numbers; of others, S is that of all states of the stream, and M the sum over readers.

After the choice the directions are folded into the weights: of the writer (1), or of the readers
(2). All of it is exact. What a layer of a stream reads in this way is how much it depends on, and
not what its convolution, dense as before, reads: of that, the multiply-adds tell.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.graph_queries import layer_of
from waveedge.compression.reparameterize import (
    Shapes,
    drop,
    fresh_name,
    new_conv,
    only_user,
    source,
)
from waveedge.compression.shrink.bottleneck import principal, spread
from waveedge.compression.shrink.elimination import weighed
from waveedge.compression.shrink.metrics import observe_metrics
from waveedge.compression.shrink.moments import observe_moments
from waveedge.compression.shrink.pairs import Layer, by_input, dense_layer, set_weight
from waveedge.normalise.modules import set_module

__all__ = ["Directions"]

_RANK = 1e-5
"""Of the largest singular value: what counts as none, in weights of single precision."""
_CONDITION = 1e4
"""Of directions that are not orthogonal: beyond, rounding in single precision would show."""
_ADDITIONS = (operator.add, torch.add)


@dataclass(frozen=True)
class _Group:
    """Layers that share directions.

    Attributes:
        readers: their nodes.
        writer: of the one reader's input, if it shall yield the directions; else None.
    """

    readers: list[fx.Node]
    writer: fx.Node | None = None


@dataclass(frozen=True)
class _Basis:
    """The directions of a group: (directions, channels) float64, and what yields them for now."""

    group: _Group
    encode: Tensor
    nodes: list[fx.Node]


class Directions:
    """A network whose layers read principal directions, in place, until they are settled.

    Args:
        graph: the network in floating point.
        readers: nodes of the 1x1 convolutions that shall choose, each called once.
        images: (1, C, H, W) float32, that show what the directions carry.
        maps: the values that subbands are of, by the node that yields these.
        keep: names of layers that stay as they are.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        readers: Collection[fx.Node],
        images: Sequence[NDArray[np.float32]],
        maps: dict[fx.Node, fx.Node],
        keep: Collection[str] = (),
    ) -> None:
        self._graph = graph
        self._bases: list[_Basis] = []
        shapes = Shapes(graph, images[0].shape)
        groups = list(_groups(graph, readers, shapes, maps, keep))
        every = [node for group in groups for node in group.readers]
        if not every:
            return
        moments = observe_moments(graph, {source(node): 1 for node in every}, images)
        metrics = observe_metrics(graph, dict.fromkeys(every, 1), images)
        for group in groups:
            seen = [moments[source(node)].second for node in group.readers]
            rows = [
                weighed(by_input(self._conv(node)), metrics.get(node)).flatten(1)
                for node in group.readers
            ]
            if any(row.any() for row in rows):
                self._insert(group, *_directions(seen, rows))
        self._check()

    def settle(self) -> dict[str, str]:
        """Fold the directions into the layers, in place.

        Returns:
            by the name of a layer that reads directions, that of the one that yields them.
        """
        writers = {}
        for basis in self._bases:
            for node, reader in zip(basis.nodes, basis.group.readers, strict=True):
                if basis.group.writer is None:
                    _read(self._conv(reader), basis.encode.T)
                else:
                    self._write(basis.group.writer, reader, basis.encode)
                    writers[str(reader.target)] = str(basis.group.writer.target)
                drop(node, source(node))
            self._graph.delete_submodule(str(basis.nodes[0].target))
        self._check()
        return writers

    def _insert(self, group: _Group, encode: Tensor, decode: Tensor) -> None:
        graph, first = self._graph, group.readers[0]
        conv = new_conv(encode[..., None, None], None, graph)
        name = set_module(graph, fresh_name(graph, f"{first.target}_directions"), conv)
        nodes = []
        for reader in group.readers:
            value = source(reader)
            with graph.graph.inserting_before(reader):
                node = graph.graph.call_module(name, (value,))
            reader.replace_input_with(value, node)
            _read(self._conv(reader), decode.T)
            nodes.append(node)
        self._bases.append(_Basis(group, encode, nodes))

    def _write(self, node: fx.Node, reader: fx.Node, encode: Tensor) -> None:
        """Let a layer yield the directions that are read, turned until all carry about as much."""
        writer: Layer = layer_of(self._graph, node)  # type: ignore[assignment]
        conv = self._conv(reader)
        weight = by_input(conv)
        read = weight.flatten(1).any(1)
        read[0] |= not read.any()
        turn = spread(int(read.sum()))
        encode = turn @ encode[read]
        bias = None if writer.bias is None else encode @ writer.bias.detach().double()
        set_weight(writer, torch.einsum("rc,ict->irt", encode, by_input(writer)), bias)
        set_weight(conv, torch.einsum("rd,dot->rot", turn, weight[read]), conv.bias)

    def _conv(self, node: fx.Node) -> nn.Conv2d:
        conv = layer_of(self._graph, node)
        assert isinstance(conv, nn.Conv2d)
        return conv

    def _check(self) -> None:
        self._graph.graph.lint()
        self._graph.recompile()


def _directions(seen: Sequence[Tensor], rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Directions for some readers, and the way back.

    Args:
        seen: (C, C) second moments of what each reads.
        rows: (C, n) what it makes of it, so that errors of all n cost the same.

    Returns:
        (directions, channels) and its inverse.
    """
    if len(rows) > 1:
        own = [_own(*reader) for reader in zip(seen, rows, strict=True)]
        encode = torch.cat(own)
        if len(encode) <= len(seen[0]):
            beside = torch.linalg.svd(encode).Vh[len(encode) :]
            encode = torch.cat([encode, beside])
            if torch.linalg.cond(encode) < _CONDITION:
                return encode, torch.linalg.inv(encode)
    found = principal(torch.stack(list(seen)).mean(0), torch.cat(list(rows), 1))
    return found.encode, found.decode


def _own(second: Tensor, rows: Tensor) -> Tensor:
    """The directions that one reader reads, the first r of which span its best r; orthonormal."""
    rank = int(torch.linalg.matrix_rank(rows, rtol=_RANK))
    encode = principal(second, rows).encode[:rank]
    own: Tensor = torch.linalg.qr(encode.T).Q.T
    return own


def _groups(
    graph: fx.GraphModule,
    readers: Collection[fx.Node],
    shapes: Shapes,
    maps: dict[fx.Node, fx.Node],
    keep: Collection[str],
) -> Iterator[_Group]:
    """The layers that share directions."""
    streams: dict[tuple[frozenset[fx.Node], bool], list[fx.Node]] = {}
    for reader in readers:
        value = source(reader)
        if value not in maps and only_user(value) is reader and dense_layer(graph, value, keep):
            yield _Group([reader], value)
        elif terms := _stream(graph, maps.get(value, value), shapes, keep):
            streams.setdefault((terms, value in maps), []).append(reader)
    yield from (_Group(nodes) for nodes in streams.values() if len(nodes) > 1)


def _stream(
    graph: fx.GraphModule, value: fx.Node, shapes: Shapes, keep: Collection[str]
) -> frozenset[fx.Node]:
    """What is added up in the residual stream of a value; nothing where it is in none.

    All but one, which the stream may start from, are of linear layers: then the whole stream may be
    kept in other directions.
    """
    values = [value]
    for node in values:  # which grows
        near = node.all_input_nodes if _is_sum(node, shapes) else []
        near = [*near, *(user for user in node.users if _is_sum(user, shapes))]
        values += [other for other in near if other not in values]
    terms = [node for node in values if not _is_sum(node, shapes)]
    others = [node for node in terms if dense_layer(graph, node, keep) is None]
    return frozenset(terms if len(terms) > 1 and len(others) <= 1 else ())


def _is_sum(node: fx.Node, shapes: Shapes) -> bool:
    """Whether a node adds two maps."""
    if node.op != "call_function" or node.target not in _ADDITIONS or node.kwargs:
        return False
    terms = node.all_input_nodes
    return len(terms) == 2 and all(shapes[term] == shapes[node] for term in terms)


def _read(conv: nn.Conv2d, turn: Tensor) -> None:
    """Let a layer read ``turn`` times what it read: its inputs' weights are its product."""
    weight = torch.einsum("ij,jot->iot", turn, by_input(conv))
    set_weight(conv, weight, conv.bias)
