"""Passes: biases of integer layers are put on the grid that an int32 accumulator has.

An integer convolution or Gemm adds its bias to the sum of products of integers, so the bias must
be a multiple of ``s_x * s_w[c]``. onnxruntime needs it so; TensorRT adds a float. Rounding here,
for both, is what makes both encodings compute the same numbers. A bias that lies
on this grid already is left as it is, so that the graph is torch's network to the bit.

1. The layer is Conv or Gemm, its input lies on a per-tensor grid, its weight is dequantized int8.
2. Every rounded bias fits int32. A channel of nearly zero weights can break this; then the layer
   keeps its float bias and is not fused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from waveedge.export.fake_quantize import activation_grid
from waveedge.export.graph_editing import array, constant, new_node
from waveedge.export.passes.base import NodePass
from waveedge.integer_bias import IntegerBias, integer_bias

__all__ = ["Int32Biases", "RoundBiases"]


class RoundBiases(NodePass):
    """Rounds float biases to the grid of the accumulator. Not exact: by half a step at most."""

    exact = False

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        old, bias = _bias(node), _integer_bias(node)
        if old is None or bias is None or np.array_equal(bias.floats, _numbers(old)):
            return False
        rounded = constant(graph, f"{old.name}@{node.name}", bias.floats)
        node.replace_input_with(2, rounded)
        return True


class Int32Biases(NodePass):
    """Biases on the grid of the accumulator become dequantized int32. Exact, to the bit."""

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        old, bias = _bias(node), _integer_bias(node)
        if old is None or bias is None or not np.array_equal(bias.floats, _numbers(old)):
            return False
        name = f"{node.name}/bias"
        constants = {
            "int32": bias.integers,
            "scale": bias.steps,
            "zero": np.zeros(bias.integers.shape, np.int32),
        }
        dequantize = new_node(
            node,
            "DequantizeLinear",
            [constant(graph, f"{name}_{key}", data) for key, data in constants.items()],
            suffix="_bias",
            shape=ir.Shape(bias.integers.shape),
            axis=0,
        )
        graph.insert_before(node, dequantize)
        node.replace_input_with(2, dequantize.outputs[0])
        return True


def _bias(node: ir.Node) -> ir.Value | None:
    """The constant bias of a layer."""
    if node.op_type not in ("Conv", "Gemm") or len(node.inputs) < 3:
        return None
    return node.inputs[2] if array(node.inputs[2]) is not None else None


def _integer_bias(node: ir.Node) -> IntegerBias | None:
    """The bias of a layer on the grid of its accumulator; None where rules 1 and 2 forbid it."""
    bias = _bias(node)
    if bias is None:
        return None
    grid, steps = activation_grid(node.inputs[0]), _weight_steps(node.inputs[1])
    if grid is None or grid.axis >= 0 or steps is None:  # rule 1
        return None
    return integer_bias(_numbers(bias), (grid.scale * steps).astype(np.float32))  # rule 2


def _numbers(value: ir.Value) -> np.ndarray[Any, Any]:
    data = array(value)
    assert data is not None
    return data


def _weight_steps(weight: ir.Value | None) -> np.ndarray[Any, Any] | None:
    node = weight.producer() if weight is not None else None
    if node is None or node.op_type != "DequantizeLinear":
        return None
    return array(node.inputs[1])
