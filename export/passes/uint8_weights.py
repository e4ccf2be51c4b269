"""Pass: 8-bit weights as uint8 with zero point 128, for x86 processors without VNNI.

There onnxruntime multiplies uint8 by int8 with an instruction that adds pairs of products in 16
bits and cuts off what does not fit: wrong sums, by several decibels. Products of uint8 and uint8
are widened first. The numbers are the same: ``q + 128`` with zero point 128 stands for ``q``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import array, constant
from waveedge.export.passes.base import NodePass

__all__ = ["Uint8Weights"]

_ZERO_POINT = 128


class Uint8Weights(NodePass):
    """Dequantized int8 initializers become uint8. Exact, to the bit. The int8 ones stay, unused."""

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        weight = node.inputs[0] if node.op_type == "DequantizeLinear" else None
        integers = array(weight)
        steps = array(node.inputs[1]) if weight is not None else None
        if weight is None or integers is None or steps is None or integers.dtype != np.int8:
            return False
        # Names begin like the weight's: in what onnxruntime executes, names alone are left.
        shifted = (integers.astype(np.int16) + _ZERO_POINT).astype(np.uint8)
        zeros = np.full(steps.shape, _ZERO_POINT, np.uint8)
        node.replace_input_with(0, constant(graph, f"{weight.name}_uint8", shifted))
        node.replace_input_with(2, constant(graph, f"{weight.name}_zero_point_128", zeros))
        return True
