"""Dense layers at every position of a map, as 1x1 convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from waveedge.macs import layer_macs

from .graph_builder import Builder
from .phases import ELEMENTWISE
from .rewrite import Applied, Rewrite, Shapes, called, new_conv, only_user, prune, source

__all__ = ["Pointwise"]

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


class Pointwise(Rewrite):
    """ConvNeXt writes the dense layers of a block as Linear on (N, H, W, C), and then moves the
    channels back. A 1x1 convolution does the same on (N, C, H, W); runtimes block its channels for
    the processor, which is faster than their general matrix product, and adjoining convolutions
    and sums stay in that form.

    Rules, from a permutation to channels first upwards:

    1. Linear, read by nothing else: a 1x1 convolution, behind the permutation.
    2. An elementwise layer: itself, behind the permutation.
    3. A permutation to channels last cancels out.
    """

    name = "pointwise"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        for node in list(graph_module.graph.nodes):
            if _order(node) != _TO_FIRST:
                continue
            chain = self._chain(source(node), graph_module)
            if not any(isinstance(called(value, graph_module), nn.Linear) for value in chain):
                continue
            build = Builder(graph_module, node)
            start = source(chain[0])
            map_ = (
                source(start)
                if _order(start) == _TO_LAST  # rule 3
                else build.method("permute", start, *_TO_FIRST)
            )
            for value in chain:
                name, layer = str(value.target), called(value, graph_module)
                if isinstance(layer, nn.Linear):
                    cost = layer_macs(layer, shapes[value])
                    applied.append(Applied("pointwise.1", name, cost, cost))
                    conv = new_conv(layer.weight[:, :, None, None], layer.bias, layer)
                    map_ = build.module(name, conv, map_)
                else:
                    map_ = build.call(name, map_)
            node.replace_all_uses_with(map_)
            prune(node)
        return applied

    def _chain(self, value: fx.Node, graph_module: fx.GraphModule) -> list[fx.Node]:
        """Layers that can go behind the permutation of ``value``, in the order of the graph."""
        chain: list[fx.Node] = []
        while (
            self.free(value)
            and only_user(value) is not None
            and isinstance(called(value, graph_module), (nn.Linear, *ELEMENTWISE))
        ):
            chain.insert(0, value)
            value = source(value)
        return chain


def _order(node: fx.Node) -> tuple[Any, ...] | None:
    """The order of axes that ``node`` makes, if it is a permutation."""
    if (node.op, node.target) not in (("call_method", "permute"), ("call_function", torch.permute)):
        return None
    order = node.args[1:]
    return tuple(order[0]) if len(order) == 1 and isinstance(order[0], (tuple, list)) else order
