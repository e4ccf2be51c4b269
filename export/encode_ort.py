"""Pass: activations as uint8 with zero point 128, the encoding onnxruntime is fast with on x86.

The numbers are those of :mod:`~waveedge.export.encode_int8`: ``q + 128`` as uint8 stands for ``q``
as int8. What differs is where things stand, because onnxruntime fuses a layer to integers only if
QuantizeLinear follows it directly:

1. ``FakeQuantize(x)`` becomes ``QuantizeLinear -> Clip -> DequantizeLinear``: a narrow grid is cut
   on the integers, behind QuantizeLinear. Cutting before or after rounding gives the same, since
   rounding keeps the order of numbers.
2. For the same reason a Relu, or a Clip to constants, between a layer and its only consumer, a
   quantizer, moves behind QuantizeLinear too, and joins that Clip.
3. The bias of an integer layer becomes an int32 initializer, dequantized with ``s_x * s_w``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.biases import integer_biases
from waveedge.export.fake_quantize import DOMAIN, Grid, grid_of
from waveedge.export.graph import array, constant, new_node, only_use, replace

__all__ = ["encode_ort"]

_ZERO_POINT = 128


def encode_ort(model: ir.Model) -> None:
    """Runs the pass on a model in place."""
    graph = model.graph
    _integer_biases(model)
    for node in list(graph):
        if (grid := grid_of(node)) is not None:
            low, high = _absorb_activation(graph, node, grid)
            _encode(graph, node, low, high)
    model.opset_imports.pop(DOMAIN, None)


def _encode(graph: ir.Graph, node: ir.Node, low: int, high: int) -> None:  # rule 1
    x, scale = node.inputs
    assert x is not None
    zero = constant(graph, "zero_point", np.array(_ZERO_POINT, np.uint8))
    uint8 = ir.DataType.UINT8
    chain = [new_node(node, "QuantizeLinear", [x, scale, zero], dtype=uint8, shape=x.shape)]
    if (low, high) != (-128, 127):
        bounds = [
            constant(graph, f"q{q + _ZERO_POINT}", np.array(q + _ZERO_POINT, np.uint8))
            for q in (low, high)
        ]
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


def _integer_biases(model: ir.Model) -> None:  # rule 3
    graph = model.graph
    for bias in integer_biases(model):
        node = bias.node
        name = f"{node.name}/bias"
        zero = np.zeros(bias.integers.shape, np.int32)
        dequantize = new_node(
            node,
            "DequantizeLinear",
            [
                constant(graph, f"{name}_int32", bias.integers),
                constant(graph, f"{name}_scale", bias.steps),
                constant(graph, f"{name}_zero", zero),
            ],
            suffix="_bias",
            shape=ir.Shape(bias.integers.shape),
            axis=0,
        )
        graph.insert_before(node, dequantize)
        node.replace_input_with(2, dequantize.outputs[0])
