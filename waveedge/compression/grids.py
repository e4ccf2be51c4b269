"""Nearly equal grids that are concatenated become one.

onnxruntime copies bytes where the inputs and the output of a concatenation lie on one grid, and
looks each byte up in a table where they do not, which takes three times as long. Calibration gives
a map and the concatenation that it goes into grids a few percent apart, when another layer reads
that map too.

1. Grids of 8 bits that a concatenation along the channels reads or writes, none of an image.
2. The nearest are joined first. The largest step of a group is at most 1.25 of the smallest
   (2 dB more noise at most, on the readers of that one map), and becomes the step of all: nothing
   is clipped that was not before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx, nn

from waveedge.compression.graph_queries import concatenated_along, layer_of
from waveedge.nn import ActivationQuantizer

__all__ = ["align_grids", "tie_grids", "untie_grids"]

_BITS = 8
_CHANNELS = 1
_RATIO = 1.25


def align_grids(graph: fx.GraphModule) -> None:
    """Give concatenated values on nearly equal grids the same scale, in place."""
    with torch.no_grad():
        for group in _groups(graph):
            for quantizer in group:
                quantizer.scale.fill_(max(_steps(group)))


def tie_grids(graph: fx.GraphModule) -> None:
    """Let grids that were aligned have one parameter, in place: they are then trained as one."""
    for group in _groups(graph):
        if _ratio(group) == 1:
            for quantizer in group:
                quantizer.scale = group[0].scale


def untie_grids(graph: fx.GraphModule) -> None:
    """Give every grid a parameter of its own again, in place."""
    for module in graph.modules():
        if isinstance(module, ActivationQuantizer):
            module.scale = nn.Parameter(module.scale.detach().clone())


def _groups(graph: fx.GraphModule) -> list[list[ActivationQuantizer]]:
    """The grids that become one (rule 2)."""
    groups: dict[ActivationQuantizer, list[ActivationQuantizer]] = {}
    pairs = [pair for node in graph.graph.nodes for pair in _pairs(graph, node)]
    for one, other in sorted(pairs, key=_ratio):
        group, joined = groups.setdefault(one, [one]), groups.setdefault(other, [other])
        if group is not joined and _ratio([*group, *joined]) <= _RATIO:
            group += joined
            groups.update(dict.fromkeys(joined, group))
    return list({id(group): group for group in groups.values()}.values())


def _pairs(
    graph: fx.GraphModule, node: fx.Node
) -> list[tuple[ActivationQuantizer, ActivationQuantizer]]:
    """The quantizers of each input of a concatenation, with that of its output."""
    if concatenated_along(node) != _CHANNELS:
        return []
    outputs = [_quantizer(graph, user) for user in node.users]
    inputs = [_quantizer(graph, value) for value in node.all_input_nodes]
    return [(a, b) for b in outputs if b for a in inputs if a and a is not b]


def _quantizer(graph: fx.GraphModule, node: fx.Node) -> ActivationQuantizer | None:
    layer = layer_of(graph, node)
    if not isinstance(layer, ActivationQuantizer) or layer.bits != _BITS:
        return None
    return layer if layer.pixel_step is None else None


def _ratio(group: Sequence[ActivationQuantizer]) -> float:
    return max(_steps(group)) / min(_steps(group))


def _steps(group: Sequence[ActivationQuantizer]) -> list[float]:
    return [float(quantizer.scale.detach()) for quantizer in group]
