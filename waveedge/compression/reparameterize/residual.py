"""Read a residual stream without making it: readers see through the additions."""

from __future__ import annotations

import torch
from torch import fx, nn

from waveedge.macs import layer_macs

from .graph_builder import Builder
from .phases import SpaceToPhase
from .pooled import pooled_weight
from .residual_streams import Stream, describe, find_streams
from .rewrite import Applied, Rewrite, Shapes, called, prune, source
from .stream_plans import Way, cheapest

__all__ = ["Residual"]


class Residual(Rewrite):
    """A residual stream x_i = x_(i-1) + W_i f_i is a sum, and what reads it is linear: so
    ``R x_i = R x_m + sum over m < j <= i of (R W_j) f_j`` for every m.

    A WaveMix block reads the stream through a reduction to a quarter of its channels. R W_j then
    has a quarter of the outputs of W_j, a transposed convolution that takes most of the network's
    multiply-adds; and where the stream is never made, neither is the largest map of the network.
    Each reader repeats the work for every term, so this pays for the last few blocks: those behind
    which nothing wide reads the stream.

    Rules:

    1. The first m + 1 values of a stream are made as before. A reader of a later value becomes the
       sum above, each product R W_j contracted into one convolution. Terms whose convolutions have
       the same geometry are one convolution of their concatenated sources.
    2. A global mean (and the linear layers in front of it) reads each source through the means of
       the whole map and of its border, which is all that the mean of a zero-padded transposed
       convolution depends on.

    m, and how many of its layers each reader takes through the sum, are those of the least cost
    (stream_plans.py). A value that anything but linear layers reads has to be made.
    """

    name = "residual"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        for values in find_streams(graph_module.graph, shapes):
            if not set(values) <= set(graph_module.graph.nodes):
                continue  # a stream before it took over what it started from
            stream = describe(self, graph_module, shapes, values)
            made, ways = cheapest(stream, shapes, self.prices)
            if not ways:
                continue
            replaced = {layer for term in stream.terms[made + 1 :] for layer in term.layers}
            for way in ways:
                replaced.update(way.reader.layers[: way.depth])
            before = sum(
                layer_macs(called(layer, graph_module), shapes[layer]) for layer in replaced
            )
            after = sum(way.macs for way in ways)
            rule = 2 if any(way.frames for way in ways) else 1
            where = str((*ways[0].reader.layers, ways[0].reader.last)[0].target)
            applied.append(Applied(f"residual.{rule}", where, before, after))
            for way in ways:
                _replace(graph_module, stream, made, way)
            shapes.refresh(graph_module)
        return applied


def _replace(graph_module: fx.GraphModule, stream: Stream, made: int, way: Way) -> None:
    reader = way.reader
    old = reader.last if way.tail else reader.layers[way.depth - 1]
    first = reader.layers[0] if reader.layers else source(old)
    build = Builder(graph_module, old)
    base = None if made < 0 else stream.values[made]
    read = _mean if way.frames else _maps
    name = str(first.target if way.depth == 0 else reader.layers[way.depth - 1].target)
    old.replace_all_uses_with(read(build, stream, way, base, name, old))
    prune(old)


def _maps(
    build: Builder, stream: Stream, way: Way, base: fx.Node | None, name: str, old: fx.Node
) -> fx.Node:
    """The sum of all terms as the reader's tail wants it: as phases or as a map."""
    channels = way.reader.steps[way.depth - 1].out_channels
    in_phases = way.tail == "phases"
    results = []
    if base is not None:
        direct = base
        for layer in way.reader.layers[: way.depth]:
            direct = build.call(str(layer.target), direct)
        results.append(build.call(str(old.target), direct) if in_phases else direct)
    by_grid: dict[object, list[tuple[str, fx.Node, int]]] = {}
    for number, group in enumerate(way.groups):
        label = name if number == 0 and base is None else f"{name}_{number}"
        terms = [(stream.terms[term].origin, way.terms[term]) for term in group.terms]
        blocks = build.blocks(label, terms, group.layout)
        by_grid.setdefault(group.layout.grid, []).append((label, blocks, number))
    for members in by_grid.values():
        label, _, number = members[0]
        layout = way.groups[number].layout
        total = build.total([blocks for _, blocks, _ in members])
        if not in_phases:
            results.append(build.image(label, total, layout))
        elif layout.phases == 1:
            results.append(build.module(f"{label}_phases", SpaceToPhase(), total))
        else:
            results.append(build.aligned(total, channels, layout))
    return build.total(results)


def _mean(
    build: Builder, stream: Stream, way: Way, base: fx.Node | None, name: str, old: fx.Node
) -> fx.Node:
    """The mean of the sum of all terms, (N, C)."""
    means, weights, biases = [], [], []
    for number, steps in way.terms.items():
        origin, pool = stream.terms[number].origin, way.frames[number]
        # Sizes are those that the frame was planned for; the graph knows them by now.
        weight, bias = pooled_weight(steps, way.sizes[number], pool)
        means.append(build.module(f"{name}_frame{number}", pool, origin))
        weights.append(weight)
        biases.append(bias)
    weight = torch.cat(weights, 1)
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    dtype = next(build.graph_module.parameters()).dtype
    linear.weight = nn.Parameter(weight.to(dtype))
    linear.bias = nn.Parameter(torch.stack(biases).sum(0).to(dtype))
    result = build.module(f"{name}_mean", linear, build.join(means))
    if base is None:
        return result
    direct = base
    for layer in way.reader.layers:
        direct = build.call(str(layer.target), direct)
    pooled = build.call(str(source(old).target), direct)
    return build.total([build.copy(old, pooled), result])
