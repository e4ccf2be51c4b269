"""Pass: biases of integer layers are put on the grid that an int32 accumulator has.

An integer convolution or Gemm adds its bias to the sum of products of integers, so the bias must
be a multiple of ``s_x * s_w[c]``. onnxruntime needs it so; TensorRT adds a float. Rounding here,
for both, is what makes both encodings compute the same numbers. A bias that lies
on this grid already is left as it is, so that the graph is torch's network to the bit.

1. The layer is Conv or Gemm, its input lies on a per-tensor grid, its weight is dequantized int8.
2. Every rounded bias fits int32. A channel of nearly zero weights can break this; then the layer
   keeps its float bias and is not fused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from waveedge.export.fake_quantize import activation_grid
from waveedge.export.graph import array, constant

__all__ = ["IntegerBias", "integer_biases", "round_biases"]


@dataclass(frozen=True)
class IntegerBias:
    """The bias of one layer as integers, ``integers * steps``, per output channel."""

    node: ir.Node
    integers: np.ndarray[Any, Any]
    steps: np.ndarray[Any, Any]


def integer_biases(model: ir.Model) -> list[IntegerBias]:
    """The integer biases of all layers that rules 1 and 2 allow."""
    found = []
    for node in model.graph:
        if node.op_type not in ("Conv", "Gemm") or len(node.inputs) < 3:
            continue
        bias, grid = array(node.inputs[2]), activation_grid(node.inputs[0])
        steps = _weight_steps(node.inputs[1])
        if bias is None or grid is None or grid.axis >= 0 or steps is None:  # rule 1
            continue
        steps = np.broadcast_to(grid.scale * steps, bias.shape).astype(np.float32)
        integers = np.rint(bias.astype(np.float64) / steps)
        if np.abs(integers).max(initial=0) >= 2**31:  # rule 2
            continue
        found.append(IntegerBias(node, integers.astype(np.int32), steps))
    return found


def round_biases(model: ir.Model) -> None:
    """Rounds the float biases of a model in place."""
    for bias in integer_biases(model):
        old = bias.node.inputs[2]
        assert old is not None
        rounded = bias.integers.astype(np.float32) * bias.steps
        name = f"{old.name}@{bias.node.name}"
        bias.node.replace_input_with(2, constant(model.graph, name, rounded))


def _weight_steps(weight: ir.Value | None) -> np.ndarray[Any, Any] | None:
    node = weight.producer() if weight is not None else None
    if node is None or node.op_type != "DequantizeLinear":
        return None
    return array(node.inputs[1])
