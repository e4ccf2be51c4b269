"""Maps that are concatenated brought to one range, by an exact rewrite.

A layer reads a concatenation on one grid. Where one of its parts is ten times as large as another,
that one loses 20 dB. So it is where shrinking has replaced the channels of one block by principal
directions, which are scaled as they please, and left those of the next as they were.

1. The parts are outputs of convolutions. All that reads these, cropped, padded or concatenated
   along the channels, are convolutions in one group, each called once.
2. Parts that meet in one concatenation, or in several that have a part in common, are brought to
   the range of the largest, by powers of two: not a bit of the float network's output changes.
3. Where that divides the expected rounding error of a layer that reads one of the concatenations
   by 4 (6 dB) or more, and increases that of none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.equalize import GAIN, Channels, by_input, observe, reading_error
from waveedge.compression.graph_queries import (
    concatenated_along,
    is_zero_padding,
    layer_of,
    sliced,
)
from waveedge.compression.reparameterize import Judge, Shapes, judged, scale_outputs

__all__ = ["level", "levelled"]


@dataclass
class _Part:
    """What a convolution writes, and who reads it.

    Attributes:
        writer: its node.
        readers: nodes of convolutions, each with the first of the input channels that are these.
        joins: concatenations that it is in.
    """

    writer: fx.Node
    readers: list[tuple[fx.Node, int]] = field(default_factory=list)
    joins: list[fx.Node] = field(default_factory=list)


def levelled(
    graph: fx.GraphModule,
    shape: tuple[int, ...],
    images: Sequence[NDArray[np.float32]],
    judge: Judge,
) -> fx.GraphModule:
    """``graph`` with concatenated maps in one range, if it computes the same; else as it is."""

    def change(form: fx.GraphModule) -> list[str]:
        return level(form, Shapes(form, shape), images)

    return judged("level", graph, change, judge)


@torch.no_grad()
def level(
    graph: fx.GraphModule, shapes: Shapes, images: Sequence[NDArray[np.float32]]
) -> list[str]:
    """Bring concatenated maps to one range, in place; see the module's head.

    Args:
        graph: the network in floating point.
        shapes: the shapes of its values.
        images: (1, C, H, W) float32, to see ranges on.

    Returns:
        the names of the layers whose outputs were scaled.
    """
    found = (_part(graph, node, shapes) for node in graph.graph.nodes)
    parts = [part for part in found if part is not None and part.joins]
    # Once for all: what reads a part that is scaled computes what it did.
    seen = observe(graph, {part.writer: 1 for part in parts}, images)
    scaled: list[str] = []
    for group in _groups(parts):
        peaks = {part.writer: float(seen[part.writer].peak.max()) for part in group}
        largest = max(peaks.values())
        factors = {
            writer: 2.0 ** round(np.log2(largest / peak)) if peak > 0 else 1.0
            for writer, peak in peaks.items()
        }
        if _pays(graph, group, seen, factors):
            for part in group:
                _scale(graph, part, factors[part.writer])
            scaled += [str(part.writer.target) for part in group if factors[part.writer] != 1]
    return scaled


def _part(graph: fx.GraphModule, node: fx.Node, shapes: Shapes) -> _Part | None:
    """What a convolution writes, if rule 1 holds of it."""
    if _convolution(graph, node) is None:
        return None
    part = _Part(node)
    waiting = [(node, 0)]
    while waiting:
        value, first = waiting.pop()
        for user in value.users:
            layer = _convolution(graph, user)
            if layer is not None and layer.groups == 1:
                part.readers.append((user, first))
            elif sliced(user) is not None or is_zero_padding(user):
                waiting.append((user, first))
            elif concatenated_along(user) == 1 and user.args[0].count(value) == 1:  # type: ignore[union-attr, arg-type]
                inputs: Sequence[fx.Node] = user.args[0]  # type: ignore[assignment]
                before = sum(shapes[other][1] for other in inputs[: inputs.index(value)])
                part.joins.append(user)
                waiting.append((user, first + before))
            else:
                return None
    return part


def _convolution(graph: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    layer = layer_of(graph, node)
    if not isinstance(layer, nn.Conv2d):
        return None
    once = sum(other.target == node.target for other in graph.graph.nodes) == 1
    return layer if once else None


def _groups(parts: Sequence[_Part]) -> list[list[_Part]]:
    """Parts that meet, several at a time (rule 2)."""
    groups: list[list[_Part]] = []
    for part in parts:
        joins = set(part.joins)
        meeting = [g for g in groups if any(joins & set(other.joins) for other in g)]
        groups = [g for g in groups if g not in meeting]
        groups.append([part, *(other for g in meeting for other in g)])
    return [group for group in groups if len(group) > 1]


def _pays(
    graph: fx.GraphModule,
    group: Iterable[_Part],
    seen: dict[fx.Node, Channels],
    factors: dict[fx.Node, float],
) -> bool:
    """Rule 3; of readers that also read what is no part, as far as these parts go."""
    pieces: dict[fx.Node, list[tuple[int, fx.Node]]] = {}
    for part in group:
        for reader, first in part.readers:
            pieces.setdefault(reader, []).append((first, part.writer))
    gains = []
    for reader, found in pieces.items():
        if len(found) < 2:
            continue
        layer = layer_of(graph, reader)
        assert isinstance(layer, nn.Conv2d)
        channels = Channels(*(torch.zeros(layer.in_channels, dtype=torch.float64) for _ in "pq"))
        by = torch.ones(layer.in_channels, dtype=torch.float64)
        for first, writer in found:
            own = slice(first, first + len(seen[writer].peak))
            channels.peak[own], channels.power[own] = seen[writer].peak, seen[writer].power
            by[own] = factors[writer]
        gains.append(
            reading_error(layer, channels) / max(reading_error(layer, channels, by), 1e-300)
        )
    return bool(gains) and max(gains) >= GAIN and min(gains) >= 1


def _scale(graph: fx.GraphModule, part: _Part, factor: float) -> None:
    writer = layer_of(graph, part.writer)
    assert isinstance(writer, nn.Conv2d)
    scale_outputs(writer, torch.full((writer.out_channels,), factor, dtype=torch.float64))
    for reader, first in part.readers:
        layer = layer_of(graph, reader)
        assert isinstance(layer, nn.Conv2d)
        by: Tensor = torch.ones(layer.in_channels, dtype=torch.float64)
        by[first : first + writer.out_channels] = 1 / factor
        layer.weight.copy_(by_input(layer, by))
