"""Maps that are concatenated brought to one range, by an exact rewrite.

A layer reads a concatenation on one grid. Where one of its parts is ten times as large as another,
that one loses 20 dB. So it is where shrinking has replaced the channels of one block by principal
directions, which are scaled as they please, and left those of the next as they were.

1. The parts are outputs of convolutions. All that reads these, cropped, padded, pooled or
   concatenated along the channels, are convolutions in one group or linear layers, called once
   each. What else is concatenated with them stays as it is.
2. Parts that meet in one concatenation, or in several that have a part in common, are brought to
   the range of the largest, by powers of two: not a bit of the float network's output changes.
3. Where that divides the expected rounding error of a layer that reads one of the concatenations
   by 4 (6 dB) or more, and increases that of none but for what rounding to powers of two does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from waveedge.compression.equalize import GAIN, Channels, observe, reading_error
from waveedge.compression.graph_queries import (
    concatenated_along,
    is_zero_padding,
    layer_of,
    sliced,
)
from waveedge.compression.reparameterize import FramePool, Judge, Shapes, judged, scale_outputs

__all__ = ["level", "levelled"]


_LOSS = 0.9
"""What the expected rounding error of a reader may be divided by at least."""

_Reader: TypeAlias = nn.Conv2d | nn.Linear


@dataclass
class _Part:
    """A value that is concatenated with others, and who reads it.

    Attributes:
        writer: its node.
        free: whether it may be scaled.
        readers: nodes of layers, each with the first of the inputs that are these channels.
        joins: concatenations that it is in.
    """

    writer: fx.Node
    free: bool
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
            part.writer: 2.0 ** round(np.log2(largest / peak)) if part.free and peak > 0 else 1.0
            for part, peak in zip(group, peaks.values(), strict=True)
        }
        if _pays(graph, group, seen, factors):
            for part in group:
                if part.free:
                    _scale(graph, part, factors[part.writer])
            scaled += [str(part.writer.target) for part in group if factors[part.writer] != 1]
    return scaled


def _part(graph: fx.GraphModule, node: fx.Node, shapes: Shapes) -> _Part | None:
    """What a node writes, if rule 1 holds of it, or if it stays as it is."""
    if not isinstance(shapes[node], tuple) or len(shapes[node]) != 4 or _passes(graph, node):
        return None
    part = _Part(node, free=isinstance(_reader(graph, node), nn.Conv2d))
    waiting = [(node, [0])]
    while waiting:
        value, firsts = waiting.pop()
        for user in value.users:
            module, layer = layer_of(graph, user), _reader(graph, user)
            if layer is not None and getattr(layer, "groups", 1) == 1:
                part.readers += [(user, first) for first in firsts]
            elif sliced(user) is not None or is_zero_padding(user):
                waiting.append((user, firsts))
            elif isinstance(module, FramePool):
                channels = shapes[value][1]
                waiting.append(
                    (user, [n * channels + f for n in range(module.parts) for f in firsts])
                )
            elif concatenated_along(user) == 1 and user.args[0].count(value) == 1:  # type: ignore[union-attr, arg-type]
                inputs: Sequence[fx.Node] = user.args[0]  # type: ignore[assignment]
                before = sum(shapes[other][1] for other in inputs[: inputs.index(value)])
                part.joins.append(user)
                waiting.append((user, [first + before for first in firsts]))
            elif part.free:
                return None
    return part


def _passes(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node only moves or pools what others write."""
    moves = sliced(node) is not None or is_zero_padding(node)
    return moves or concatenated_along(node) == 1 or isinstance(layer_of(graph, node), FramePool)


def _reader(graph: fx.GraphModule, node: fx.Node) -> _Reader | None:
    layer = layer_of(graph, node)
    if not isinstance(layer, _Reader):
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
    return [group for group in groups if len(group) > 1 and any(part.free for part in group)]


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
        layer = _known(graph, reader)
        inputs = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
        channels = Channels(*(torch.zeros(inputs, dtype=torch.float64) for _ in "pq"))
        by = torch.ones(inputs, dtype=torch.float64)
        for first, writer in found:
            own = slice(first, first + len(seen[writer].peak))
            channels.peak[own], channels.power[own] = seen[writer].peak, seen[writer].power
            by[own] = factors[writer]
        gains.append(
            reading_error(layer, channels) / max(reading_error(layer, channels, by), 1e-300)
        )
    return bool(gains) and max(gains) >= GAIN and min(gains) >= _LOSS


def _scale(graph: fx.GraphModule, part: _Part, factor: float) -> None:
    writer = _known(graph, part.writer)
    assert isinstance(writer, nn.Conv2d)
    scale_outputs(writer, torch.full((writer.out_channels,), factor, dtype=torch.float64))
    for reader, first in part.readers:
        layer = _known(graph, reader)
        layer.weight[:, first : first + writer.out_channels] /= factor


def _known(graph: fx.GraphModule, node: fx.Node) -> _Reader:
    layer = layer_of(graph, node)
    assert isinstance(layer, _Reader)
    return layer
