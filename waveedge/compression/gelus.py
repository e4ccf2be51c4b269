"""GELU between two quantizers is computed in integers, as x times a sigmoid.

In floating point such a GELU is read from integers and written to integers again, value by value;
onnxruntime takes 1.1 to 1.4 times as long for a feed-forward. On the trained networks in
``examples/`` neither form is measurably the better one (docs/speed.md).

1. The input is quantized, every reader quantizes the output, and no pattern of the recipe
   excludes the layer. What stands between GELU and a quantizer (a BatchNorm) keeps it in floats.
2. The slope of the sigmoid is fitted to the grid of the input, once calibration has set it.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import fx, nn

from waveedge.compression.graph_queries import layer_of, layers
from waveedge.compression.recipe import Recipe
from waveedge.nn import ActivationQuantizer, SigmoidGELU

__all__ = ["fit_gelus", "place_gelus", "separate_gelus"]


def separate_gelus(graph: fx.GraphModule) -> None:
    """Give every call of GELU a module of its own, in place: each will read another grid.

    A rewrite may call one GELU once for each phase of a map.
    """
    called = Counter(node.target for node in graph.graph.nodes)
    for node in graph.graph.nodes:
        gelu = layer_of(graph, node)
        if isinstance(gelu, nn.GELU) and called[node.target] > 1:
            node.target = f"activation_{node.name}"
            graph.add_submodule(node.target, copy.deepcopy(gelu))
    graph.delete_all_unused_submodules()
    graph.recompile()


def place_gelus(graph: fx.GraphModule, recipe: Recipe) -> None:
    """Put :class:`SigmoidGELU` in the place of every GELU that rule 1 names, in place."""
    for node, module in layers(graph):
        if isinstance(module, nn.GELU) and _is_between_quantizers(graph, node):
            name = str(node.target)
            if recipe.excluded(name) is None:
                graph.set_submodule(name, SigmoidGELU())


def fit_gelus(graph: fx.GraphModule) -> None:
    """Fit the slopes to the grids that calibration chose (rule 2), in place."""
    for node, gelu in layers(graph):
        if isinstance(gelu, SigmoidGELU):
            grid = layer_of(graph, node.all_input_nodes[0])
            assert isinstance(grid, ActivationQuantizer)
            gelu.fit(torch.arange(grid.qmin, grid.qmax + 1) * grid.scale)


def _is_between_quantizers(graph: fx.GraphModule, node: fx.Node) -> bool:
    ends = [*node.all_input_nodes, *node.users]
    return all(isinstance(layer_of(graph, end), ActivationQuantizer) for end in ends)
