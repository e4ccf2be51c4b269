"""Put biases where an integer accumulator can hold them.

An integer convolution adds its bias to a sum of products of integers, so the bias must be a
multiple of the step ``scale of the input x scale of the weight`` of its channel. Export rounds
every bias to that grid (:mod:`~waveedge.integer_bias`). Rounded here already, as part of what is
measured and saved, torch computes what the runtime will.
"""

from __future__ import annotations

import torch
from torch import fx

from waveedge.compression.graph_queries import is_pass_through, layer_of, layers
from waveedge.integer_bias import integer_bias
from waveedge.nn import ActivationQuantizer, QuantizedConv2d, QuantizedLinear, WeightQuantizer

__all__ = ["round_biases"]


@torch.no_grad()
def round_biases(graph: fx.GraphModule) -> None:
    """Round the bias of every layer that computes in integers, in place; call it last."""
    for node, layer in layers(graph):
        if not isinstance(layer, QuantizedConv2d | QuantizedLinear) or layer.bias is None:
            continue
        quantizer = _quantizer_of(graph, node.all_input_nodes[0])
        if quantizer is None or not isinstance(layer.weight_quantizer, WeightQuantizer):
            continue
        steps = quantizer.scale * layer.weight_quantizer.scale
        rounded = integer_bias(layer.bias.numpy(force=True), steps.numpy(force=True))
        if rounded is not None:
            layer.bias.copy_(torch.from_numpy(rounded.floats))


def _quantizer_of(graph: fx.GraphModule, value: fx.Node) -> ActivationQuantizer | None:
    """The quantizer on whose grid a value lies, through nodes that only move values."""
    while True:
        module = layer_of(graph, value)
        if isinstance(module, ActivationQuantizer):
            return module
        if not is_pass_through(graph, value):
            return None
        value = value.all_input_nodes[0]
