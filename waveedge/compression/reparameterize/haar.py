"""Wavelet transforms shared between depths, and folded into the convolutions that read them."""

from __future__ import annotations

import copy
import operator
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from waveedge.nn import DWT2d
from waveedge.normalise.modules import set_module

from .emit import Builder
from .phases import SpaceToPhase
from .rewrite import (
    Applied,
    Rewrite,
    Shapes,
    called,
    calls,
    concatenated,
    fresh_name,
    macs,
    new_conv,
    numel,
    prune,
    source,
)

__all__ = ["Haar", "Pyramid"]


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
                before = sum(_macs(shapes[value], depth) for depth in depths)
                after = _macs(shapes[value], max(depths))
                _share(graph_module, value, members, max(depths))
                applied.append(Applied("pyramid.1", str(members[0][0].target), before, after))
        return applied


def _macs(shape: tuple[int, ...], levels: int) -> int:
    """Multiply-adds of a Haar transform: each level reads the low band of the one before."""
    return sum(4 * numel(shape) // 4**level for level in range(levels))


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


class Haar(Rewrite):
    """One Haar level of a map with even sides only mixes the four pixels of each 2x2 cell, and so
    does nothing that the 1x1 convolution behind it cannot do.

    Rules:

    1. A 1x1 convolution that reads a concatenation of a level's four bands and anything else, the
       details flattened or band by band, in any order, reads the four phases of the map (its pixels
       at even and odd rows and columns, as 4 C channels) instead, with the transform folded into
       its weights. The multiply-adds stay the same, the transform's own vanish.
    2. Where the low band is needed elsewhere (by the next level), it is a 1x1 convolution of the
       same phases with constant weights. All other readers of the level must fall under rule 1.

    Longer wavelets and odd sides are left alone: their bands reach beyond a cell.
    """

    name = "haar"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        for node in list(graph_module.graph.nodes):
            transform = called(node, graph_module)
            if not isinstance(transform, DWT2d) or node.target in self.keep:
                continue
            if transform.levels > 1 or transform.filters.shape[1] != 2:
                continue
            bands = bands_of(node, 1)
            if bands is None or any(side % 2 for side in shapes[source(node)][2:]):
                continue
            held = _held(bands)
            if held is None:
                continue
            readers = self._readers(graph_module, held)
            if readers:
                applied += _fold(graph_module, shapes, node, bands, held, readers)
        return applied

    def _readers(self, graph_module: fx.GraphModule, held: Held) -> list[fx.Node] | None:
        """The 1x1 convolutions that read all bands, or None if something else reads a detail."""
        details = [value for value, bands in held.items() if bands != _LOW]
        readers = dict.fromkeys(conv for value in details for conv in _through_joins(value))
        for conv in readers:
            layer = called(conv, graph_module)
            joined = concatenated(source(conv)) if isinstance(layer, nn.Conv2d) else []
            if (
                not isinstance(layer, nn.Conv2d)
                or (layer.kernel_size, layer.groups) != ((1, 1), 1)
                or (layer.stride, layer.padding) != ((1, 1), (0, 0))
                or conv.target in self.keep
                or sorted(band for value in joined for band in held.get(value, ())) != [0, 1, 2, 3]
            ):
                return None
        return list(readers)


Held = dict[fx.Node, tuple[int, ...]]
"""Values (N, C * bands, h, w) of one level, and which bands each channel of the map has there."""

_LOW: tuple[int, ...] = (0,)
_DETAILS: tuple[int, ...] = (1, 2, 3)


def _held(bands: Bands) -> Held | None:
    """The values in which one level is read; None if a detail is read in another way."""
    held: Held = dict.fromkeys(bands.low, _LOW)
    for value in [user for detail in bands.details[0] for user in detail.users]:
        band = _selected(value)
        if band is None and not _is_flattened(value):
            return None
        held[value] = _DETAILS if band is None else (band,)
    return held


def _selected(node: fx.Node) -> int | None:
    """The band (N, C, h, w) that a node takes out of details (N, C, 3, h, w)."""
    index = node.args[1] if node.target is operator.getitem else None
    if not isinstance(index, tuple) or len(index) < 3 or not isinstance(index[2], int):
        return None
    everything = all(part == slice(None) for part in (*index[:2], *index[3:]))
    return _DETAILS[index[2]] if everything else None


def _is_flattened(node: fx.Node) -> bool:
    """Whether a node makes (N, 3C, h, w) of details (N, C, 3, h, w)."""
    return node.target is torch.flatten and node.args[1:] == (1, 2)


def _through_joins(node: fx.Node) -> list[fx.Node]:
    """The readers of a value, looking through concatenations."""
    readers = []
    for user in node.users:
        readers += _through_joins(user) if concatenated(user) != [user] else [user]
    return readers


def _fold(
    graph_module: fx.GraphModule,
    shapes: Shapes,
    node: fx.Node,
    bands: Bands,
    held: Held,
    readers: list[fx.Node],
) -> list[Applied]:
    value, name = source(node), str(node.target)
    transform = called(node, graph_module)
    assert isinstance(transform, DWT2d)
    basis = _basis(transform)
    channels = shapes[bands.details[0][0]][1]
    build = Builder(graph_module, node)
    phases = build.module(fresh_name(graph_module, f"{name}_phases"), SpaceToPhase(), value)
    shapes[phases] = (1, 4 * channels, *shapes[bands.details[0][0]][3:])
    applied = []
    for conv in readers:
        layer = called(conv, graph_module)
        assert isinstance(layer, nn.Conv2d)
        cost = macs(layer, shapes[conv])
        _read_phases(graph_module, conv, layer, held, phases, basis, shapes)
        before = cost + _macs(shapes[value], 1)
        applied.append(Applied("haar.1", str(conv.target), before, cost))
    for low in bands.low:
        if set(_through_joins(low)) - set(readers):
            weight = torch.kron(basis[0][None], torch.eye(channels, dtype=torch.float64))
            conv_low = new_conv(weight[:, :, None, None], None, graph_module)
            result = build.module(fresh_name(graph_module, f"{name}_low"), conv_low, phases)
            shapes[result] = shapes[low]
            low.replace_all_uses_with(result)
            cost = macs(conv_low, shapes[low])
            applied.append(Applied("haar.2", name, _macs(shapes[value], 1), cost))
    for conv in readers:
        prune(conv)
    return applied


@torch.no_grad()
def _basis(transform: DWT2d) -> Tensor:
    """(4 bands, 4 phases) of one transform, read off its own filters."""
    cells = torch.eye(4, dtype=torch.float64).reshape(4, 1, 2, 2)
    low, details = copy.deepcopy(transform).double()(cells)
    return torch.cat([low.flatten(1), details[0].flatten(1)], 1).T


@torch.no_grad()
def _read_phases(
    graph_module: fx.GraphModule,
    conv: fx.Node,
    layer: nn.Conv2d,
    held: Held,
    phases: fx.Node,
    basis: Tensor,
    shapes: Shapes,
) -> None:
    """Let one 1x1 convolution read the phases where it read the bands."""
    weight = layer.weight.double()[:, :, 0, 0]
    joined = concatenated(source(conv))
    parts = torch.split(weight, [shapes[value][1] for value in joined], 1)
    others = [(value, part) for value, part in zip(joined, parts, strict=True) if value not in held]
    by_band = weight.new_empty(len(weight), shapes[phases][1] // 4, 4)
    for value, part in zip(joined, parts, strict=True):
        if value in held:
            by_band[:, :, held[value]] = part.reshape(len(weight), -1, len(held[value]))
    folded = torch.einsum("ocb,bp->opc", by_band, basis).flatten(1)
    folded = torch.cat([folded, *(part for _, part in others)], 1)[:, :, None, None]
    build = Builder(graph_module, conv)
    name = str(conv.target)
    if len(calls(conv.graph, name)) > 1:  # shared by levels, of which some may not fold
        name = fresh_name(graph_module, name)
    joined = [phases, *(value for value, _ in others)]
    result = build.module(name, new_conv(folded, layer.bias, layer), build.join(joined))
    shapes[result] = shapes[conv]
    conv.replace_all_uses_with(result)
