"""Which grids may have a zero point other than 0, so that a tensor of one sign fills them.

Behind a GELU or a ReLU, half of a grid that is symmetric is empty: one bit is lost. Below 8 bits
any zero point fits the container of 8 bits, and costs nothing anywhere. At 8 bits it costs nothing
on onnxruntime; TensorRT takes none. There the tensor is stored shifted, and its readers make up for
it (:mod:`waveedge.export.passes.offsets`):

1. Convolutions and linear layers on integers that pad nothing take the shift into their biases;
   sums, other quantizers, and whatever computes in floating point add a number.
2. A convolution that pads with zeros, and reads the grid itself, needs the tensor padded before it
   is rounded: one more pass over it, for which the zero point must halve the squared error.
3. What moves the tensor hands this down to its readers.
4. A concatenation whose inputs and output lie on one grid moves them, too.
5. Other concatenations, paddings, averages, transposed convolutions and selections on integers
   would have to read floats: no zero point. Nor has a grid that an image dictates.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import fx, nn

from waveedge.compression.graph_queries import (
    concatenated_along,
    is_addition,
    is_join,
    is_pass_through,
    is_zero_padding,
    layer_of,
    layers,
)
from waveedge.compression.recipe import CONTAINER_BITS
from waveedge.compression.reparameterize import FramePool
from waveedge.nn import ActivationQuantizer, Selection, WeightQuantizer

__all__ = ["zero_points"]

_FREE, _PADDED, _NEVER = 0.95, 0.5, 0.0
"""Shares of the squared error that a zero point may leave at most."""


def zero_points(graph: fx.GraphModule, keep: Collection[str] = ()) -> dict[str, float]:
    """Find the quantizers that may have any zero point.

    Args:
        graph: a network with quantizers in it.
        keep: names of quantizers that may not.

    Returns:
        by name, the share of the squared error that the zero point may leave at most.
    """
    found: dict[str, float] = {}
    for node, layer in layers(graph):
        if isinstance(layer, ActivationQuantizer) and node.target not in keep:
            name = str(node.target)
            share = _share(graph, node, layer)
            found[name] = min(share, found.get(name, share))
    return {name: share for name, share in found.items() if share}


def _share(graph: fx.GraphModule, node: fx.Node, quantizer: ActivationQuantizer) -> float:
    if quantizer.pixel_step is not None or not quantizer.zero_is_open:
        return _NEVER
    if quantizer.bits < CONTAINER_BITS:
        return _FREE
    source = node.all_input_nodes[0]
    if concatenated_along(source) is not None and not _on_one_grid(graph, source):
        return _NEVER  # where the grids become one, bytes are copied (grids.py)
    return _readers(graph, node, moved=False)


def _readers(graph: fx.GraphModule, value: fx.Node, *, moved: bool) -> float:
    return min((_reader(graph, user, moved=moved) for user in value.users), default=_NEVER)


def _reader(graph: fx.GraphModule, user: fx.Node, *, moved: bool) -> float:
    layer = layer_of(graph, user)
    if concatenated_along(user) is not None:
        return _FREE if _on_one_grid(graph, user) else _NEVER
    if isinstance(getattr(layer, "weight_quantizer", None), WeightQuantizer):
        if isinstance(layer, nn.Linear):
            return _FREE
        if not isinstance(layer, nn.Conv2d) or isinstance(layer.padding, str):
            return _NEVER
        if any(layer.padding):
            return _NEVER if moved else _PADDED
        return _FREE
    if is_pass_through(graph, user):
        return _readers(graph, user, moved=True)
    if is_zero_padding(user) or isinstance(layer, Selection | FramePool):
        return _NEVER
    if is_join(graph, user) and not is_addition(user):
        return _NEVER
    return _FREE


def _on_one_grid(graph: fx.GraphModule, concatenation: fx.Node) -> bool:
    """Whether one quantizer is all that gives to a concatenation, and all that reads it."""
    around = {*concatenation.all_input_nodes, *concatenation.users}
    quantizers = {layer_of(graph, node) for node in around}
    return len(quantizers) == 1 and isinstance(quantizers.pop(), ActivationQuantizer)
