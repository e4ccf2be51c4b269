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

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from waveedge.export.fake_quantize import activation_grid
from waveedge.export.graph_editing import array, constant, new_node
from waveedge.export.passes.base import NodePass

__all__ = ["Int32Biases", "RoundBiases"]


class _IntegerBias(NamedTuple):
    """The bias of one layer as integers, ``integers * steps``, per output channel."""

    integers: np.ndarray[Any, Any]
    steps: np.ndarray[Any, Any]


class RoundBiases(NodePass):
    """Rounds float biases to the grid of the accumulator. Not exact: by half a step at most."""

    exact = False

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        old, bias = _bias(node), _integer_bias(node)
        if old is None or bias is None or np.array_equal(_floats(bias), _numbers(old)):
            return False
        rounded = constant(graph, f"{old.name}@{node.name}", _floats(bias))
        node.replace_input_with(2, rounded)
        return True


class Int32Biases(NodePass):
    """Biases on the grid of the accumulator become dequantized int32. Exact, to the bit."""

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        old, bias = _bias(node), _integer_bias(node)
        if old is None or bias is None or not np.array_equal(_floats(bias), _numbers(old)):
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


def _integer_bias(node: ir.Node) -> _IntegerBias | None:
    """The bias of a layer on the grid of its accumulator; None where rules 1 and 2 forbid it."""
    bias = _bias(node)
    if bias is None:
        return None
    grid, steps = activation_grid(node.inputs[0]), _weight_steps(node.inputs[1])
    if grid is None or grid.axis >= 0 or steps is None:  # rule 1
        return None
    numbers = _numbers(bias)
    steps = np.broadcast_to(grid.scale * steps, numbers.shape).astype(np.float32)
    integers = np.rint(numbers.astype(np.float64) / steps)
    if np.abs(integers).max(initial=0) >= 2**31:  # rule 2
        return None
    return _IntegerBias(integers.astype(np.int32), steps)


def _floats(bias: _IntegerBias) -> np.ndarray[Any, Any]:
    numbers: np.ndarray[Any, Any] = bias.integers.astype(np.float32) * bias.steps
    return numbers


def _numbers(value: ir.Value) -> np.ndarray[Any, Any]:
    data = array(value)
    assert data is not None
    return data


def _weight_steps(weight: ir.Value | None) -> np.ndarray[Any, Any] | None:
    node = weight.producer() if weight is not None else None
    if node is None or node.op_type != "DequantizeLinear":
        return None
    return array(node.inputs[1])
