"""Fold a constant factor per channel into the layer before it."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from waveedge.macs import layer_macs
from waveedge.nn import ChannelScale

from .batchnorm import scale_outputs
from .rewrite import Applied, Rewrite, Shapes, called, drop, only_user

__all__ = ["Scales"]


class Scales(Rewrite):
    """A layer scale (the gamma of a ConvNeXt block) multiplies channels by learnt constants.

    Rules:

    1. A product of a Linear's or convolution's output, read by nothing else, and a parameter or
       buffer with one value, or one per output channel: the layer's weight and bias take it.
    2. A ChannelScale behind such a layer: the same.
    """

    name = "scales"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        for node in list(graph_module.graph.nodes):
            found = _product(graph_module, node)
            if found is None:
                continue
            value, factor, rule = found
            layer = called(value, graph_module)
            alone = only_user(value) is node and self.free(value)
            if not isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)) or not alone:
                continue
            vector = _per_channel(factor, layer, len(shapes[value]))
            if vector is not None:
                scale_outputs(layer, vector)
                cost = layer_macs(layer, shapes[value])
                applied.append(Applied(f"scales.{rule}", str(value.target), cost, cost))
                drop(node, value)
        return applied


def _product(graph_module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, Tensor, int] | None:
    """(value, constant factor, rule) if ``node`` multiplies a value by a constant."""
    module = called(node, graph_module)
    if isinstance(module, ChannelScale):
        value = node.args[0]
        return (value, module.weight.detach(), 2) if isinstance(value, fx.Node) else None
    if node.op != "call_function" or node.target not in (operator.mul, torch.mul):
        return None
    for value, factor in (node.args, node.args[::-1]):
        constant = _constant(graph_module, factor)
        if isinstance(value, fx.Node) and constant is not None:
            return value, constant, 1
    return None


def _constant(graph_module: fx.GraphModule, node: Any) -> Tensor | None:
    """The tensor that a node stands for, if it is a parameter or buffer."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    owner, _, name = str(node.target).rpartition(".")
    tensor = getattr(graph_module.get_submodule(owner), name)
    return tensor.detach() if isinstance(tensor, Tensor) else None


def _per_channel(factor: Tensor, layer: nn.Module, dimensions: int) -> Tensor | None:
    """``factor`` as one float64 value per output channel of ``layer``, if it is that."""
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    assert isinstance(channels, int)
    axis = dimensions - 1 if isinstance(layer, nn.Linear) else 1
    shape = (1,) * (dimensions - factor.dim()) + tuple(factor.shape)
    if factor.dim() > dimensions or any(n != 1 for i, n in enumerate(shape) if i != axis):
        return None
    return factor.double().reshape(-1).expand(channels)
