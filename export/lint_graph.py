"""An ONNX graph with the look-ups that lint rules need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

__all__ = ["Graph"]


class Graph:
    """An ONNX graph with the look-ups that rules need."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producers = {name: node for node in self.nodes for name in node.output}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].HasField("t"):
                self.constants[node.output[0]] = node.attribute[0].t
        try:
            inferred = onnx.shape_inference.infer_shapes(model).graph
        except onnx.shape_inference.InferenceError:  # an operator that onnx does not know
            inferred = model.graph
        self.types = {
            info.name: info.type.tensor_type.elem_type
            for info in (*inferred.value_info, *inferred.input, *inferred.output)
        }
        self.types |= {name: tensor.data_type for name, tensor in self.constants.items()}

    def all_of(self, *op_types: str) -> Iterator[onnx.NodeProto]:
        return (node for node in self.nodes if node.op_type in op_types)

    def constant(self, node: onnx.NodeProto, index: int) -> np.ndarray[Any, Any] | None:
        """The constant at an input of a node; None if absent or computed."""
        if index >= len(node.input) or node.input[index] not in self.constants:
            return None
        return numpy_helper.to_array(self.constants[node.input[index]])

    def type_of(self, node: onnx.NodeProto, index: int) -> int:
        if index >= len(node.input):
            return int(TensorProto.UNDEFINED)
        return int(self.types.get(node.input[index], TensorProto.UNDEFINED))

    def quantized_type(self, value: str) -> int:
        """Element type in front of the DequantizeLinear that gives a value, or UNDEFINED."""
        node = self.producers.get(value)
        if node is None or node.op_type != "DequantizeLinear":
            return int(TensorProto.UNDEFINED)
        return self.type_of(node, 0)

    def weight_shape(self, node: onnx.NodeProto) -> tuple[int, ...]:
        """Shape of the weight of a layer, dequantized or not; () if it is computed."""
        name = node.input[1]
        if name not in self.constants and name in self.producers:
            name = self.producers[name].input[0]
        return tuple(self.constants[name].dims) if name in self.constants else ()
