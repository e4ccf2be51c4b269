"""Pass: 8-bit weights as uint8 with zero point 128, for x86 processors without VNNI.

There onnxruntime multiplies uint8 by int8 with an instruction that adds pairs of products in 16
bits and cuts off what does not fit: wrong sums, by several decibels. Products of uint8 and uint8
are widened first. The numbers are the same: ``q + 128`` with zero point 128 stands for ``q``.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["unsigned_weights"]

_ZERO_POINT = 128


def unsigned_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model in which every dequantized int8 initializer is uint8."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in result.graph.initializer}
    for node in result.graph.node:
        weight = stored.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if weight is None or weight.data_type != onnx.TensorProto.INT8:
            continue
        zero_name = f"{weight.name}_zero_point_128"
        scale = stored[node.input[1]]
        zeros = np.full(tuple(scale.dims), _ZERO_POINT, np.uint8)
        result.graph.initializer.append(numpy_helper.from_array(zeros, zero_name))
        values = numpy_helper.to_array(weight).astype(np.int16) + _ZERO_POINT
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.uint8), weight.name))
        del node.input[2:]
        node.input.append(zero_name)
    used = {name for node in result.graph.node for name in node.input}
    for tensor in [t for t in result.graph.initializer if t.name not in used]:
        result.graph.initializer.remove(tensor)
    return result
