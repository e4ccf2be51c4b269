"""Pass: activations as uint8, the encoding onnxruntime is fast with on x86.

The numbers are those of :mod:`~waveedge.export.passes.int8_activations`: ``q + 128`` as uint8, with
zero point 128, stands for ``q`` as int8; a grid of 8 bits with a zero point of its own keeps that,
128 higher. What differs is where things stand, because onnxruntime fuses a layer to
integers only if QuantizeLinear follows it directly:

1. ``FakeQuantize(x)`` becomes ``QuantizeLinear -> Clip -> DequantizeLinear``: a narrow grid is cut
   on the integers, behind QuantizeLinear. Cutting before or after rounding gives the same, since
   rounding keeps the order of numbers.
2. For the same reason a Relu, or a Clip to constants, between a layer and its only consumer, a
   quantizer, moves behind QuantizeLinear too, and joins that Clip.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.fake_quantize import Grid, grid_of
from waveedge.export.graph_editing import array, constant, new_node, only_use, replace
from waveedge.export.passes.base import NodePass

__all__ = ["Uint8Activations"]

_SHIFT = 128


class Uint8Activations(NodePass):
    """Activation quantizers become QuantizeLinear and DequantizeLinear with uint8. Exact."""

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if (grid := grid_of(node)) is None:
            return False
        low, high = _absorb_activation(graph, node, grid)
        origin = grid.zero_point + _SHIFT
        _encode(graph, node, low + origin, high + origin, origin)
        return True


def _encode(graph: ir.Graph, node: ir.Node, low: int, high: int, origin: int) -> None:  # rule 1
    x, scale = node.inputs
    assert x is not None
    zero = constant(graph, f"zero_point_{origin}", np.array(origin, np.uint8))
    uint8 = ir.DataType.UINT8
    chain = [new_node(node, "QuantizeLinear", [x, scale, zero], dtype=uint8, shape=x.shape)]
    if (low, high) != (0, 255):
        bounds = [constant(graph, f"q{q}", np.array(q, np.uint8)) for q in (low, high)]
        clip = new_node(node, "Clip", [chain[-1].outputs[0], *bounds], dtype=uint8, shape=x.shape)
        chain.append(clip)
    restore = new_node(node, "DequantizeLinear", [chain[-1].outputs[0], scale, zero])
    replace(graph, node, [*chain, restore])


def _absorb_activation(graph: ir.Graph, node: ir.Node, grid: Grid) -> tuple[int, int]:  # rule 2
    """Takes a Relu or Clip out from before a quantizer; returns the integer range that is left."""
    low, high = grid.qmin, grid.qmax
    x = node.inputs[0]
    activation = x.producer() if x is not None else None
    if activation is None or only_use(activation.outputs[0]) is None:
        return low, high
    if activation.op_type == "Relu":
        lower, upper = 0.0, np.inf
    elif activation.op_type == "Clip":
        ends = [array(value) for value in (*activation.inputs[1:], None, None)[:2]]
        if any(end is None for end in ends):
            return low, high
        lower, upper = (float(end) for end in ends)  # type: ignore[arg-type]
    else:
        return low, high
    lower, upper = np.rint(np.array([lower, upper], np.float32) / grid.scale)
    low, high = int(np.clip(lower, low, high)), int(np.clip(upper, low, high))
    node.replace_input_with(0, activation.inputs[0])
    graph.remove(activation, safe=True)
    return low, high
