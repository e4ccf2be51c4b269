"""Wavelet transforms of one value shared between depths."""

from __future__ import annotations

import copy
import operator
from typing import NamedTuple

from torch import fx

from waveedge.nn import DWT2d
from waveedge.nn.coefficients import transform_multiply_adds
from waveedge.normalise.modules import set_module

from .graph_builder import Builder
from .rewrite import Applied, Rewrite, Shapes, source

__all__ = ["Bands", "Pyramid", "bands_of", "transform_macs"]


class Bands(NamedTuple):
    """The readers of one transform: nodes that are its low band, and its details by level."""

    low: list[fx.Node]
    details: list[list[fx.Node]]


def bands_of(node: fx.Node, levels: int) -> Bands | None:
    """Who reads what of the pair (low, details) that a transform yields; None if unclear."""
    found = Bands([], [[] for _ in range(levels)])
    for user in node.users:
        if user.target is not operator.getitem or user.args[1] not in (0, 1):
            return None
        if user.args[1] == 0:
            found.low.append(user)
            continue
        for item in user.users:
            index = item.args[1] if item.target is operator.getitem else None
            if not isinstance(index, int):
                return None
            found.details[index].append(item)
    return found


class Pyramid(Rewrite):
    """Depth l + 1 of a transform continues from the low band of depth l.

    Rules:

    1. Transforms of one value with the same wavelet and border mode, of any depths (a WaveMix
       block starts over for each), become one chain of single-level transforms.
    """

    name = "pyramid"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        groups: dict[tuple[fx.Node, str, str], list[tuple[fx.Node, DWT2d, Bands]]] = {}
        for node, transform in self.modules(graph_module, DWT2d):
            bands = bands_of(node, transform.levels)
            if bands is not None:
                key = (source(node), transform.wavelet, transform.mode)
                groups.setdefault(key, []).append((node, transform, bands))
        applied = []
        for (value, _, _), members in groups.items():
            depths = [transform.levels for _, transform, _ in members]
            if max(depths) > 1:
                before = sum(transform_macs(shapes[value], depth) for depth in depths)
                after = transform_macs(shapes[value], max(depths))
                _share(graph_module, value, members, max(depths))
                applied.append(Applied("pyramid.1", str(members[0][0].target), before, after))
        return applied


def transform_macs(shape: tuple[int, ...], levels: int) -> int:
    """Multiply-adds of a Haar transform of a map (1, C, h, w)."""
    return transform_multiply_adds(shape[1], (shape[2], shape[3]), levels=levels, taps=2)


def _share(
    graph_module: fx.GraphModule,
    value: fx.Node,
    members: list[tuple[fx.Node, DWT2d, Bands]],
    depth: int,
) -> None:
    first, transform, _ = members[0]
    single = copy.deepcopy(transform)
    single.levels = 1
    name = set_module(graph_module, str(first.target), single)
    build = Builder(graph_module, first)
    lows, details = [value], []
    for _ in range(depth):
        pair = build.call(name, lows[-1])
        lows.append(build.function(operator.getitem, pair, 0))
        details.append(
            build.function(operator.getitem, build.function(operator.getitem, pair, 1), 0)
        )
    for _, member, bands in members:
        for low in bands.low:
            low.replace_all_uses_with(lows[member.levels])
        for level, readers in enumerate(bands.details):
            for reader in readers:
                reader.replace_all_uses_with(details[level])
