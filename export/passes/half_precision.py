"""Pass for TensorRT: floating-point layers compute in float16, as the graph itself says.

Strongly typed networks take every type from the graph, and TensorRT 11 has no other kind, so that
no flag of a builder can ask for float16. Here

1. constants, and everything computed from the input, become float16, scales of quantizers too;
2. the input and the outputs stay float32, each behind a Cast;
3. what is beyond float16 becomes its largest number, and a scale below it the smallest one above 0;
4. inputs that ONNX knows in float32 alone (sizes of a Resize) stay as they are.

Sums inside a layer are the runtime's affair: TensorRT adds products of float16 in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from waveedge.export.graph_editing import array, constant, new_node

__all__ = ["HalfPrecision", "widened"]

_FLOAT_ALONE = {"Resize": (1, 2)}
_SCALE = {"QuantizeLinear": 1, "DequantizeLinear": 1}
_MOST = float(np.finfo(np.float16).max)
_LEAST = np.finfo(np.float16).smallest_subnormal
_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


class HalfPrecision(ir.passes.InPlacePass):
    """Everything between input and outputs in float16: the numbers change by its rounding.

    Constants are initializers. Types of all values are known.
    """

    exact = False

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        kept = _kept(graph)
        scales = {node.inputs[_SCALE[node.op_type]] for node in graph if node.op_type in _SCALE}
        for value in graph.initializers.values():
            if value.dtype == _FLOAT and value not in kept:
                data = _array(value)
                half = np.clip(data, -_MOST, _MOST).astype(np.float16)
                if value in scales:
                    half = np.where((half == 0) & (data > 0), _LEAST, half)
                _store(value, half)
        for node in graph:
            _retype(node, _FLOAT, _HALF)
        for value in graph.inputs:
            if value.dtype == _FLOAT:
                _cast_input(graph, value)
        for index, value in enumerate(list(graph.outputs)):
            if value.dtype == _HALF:
                _cast_output(graph, index, value)
        return ir.passes.PassResult(model, True)


def widened(model: ir.Model) -> ir.Model:
    """A float16 graph with its own numbers in float32: what a runtime without float16 computes."""
    wide = model.clone()
    for value in wide.graph.initializers.values():
        if value.dtype == _HALF:
            _store(value, _array(value).astype(np.float32))
    for node in wide.graph:
        _retype(node, _HALF, _FLOAT)
    return wide


def _kept(graph: ir.Graph) -> set[ir.Value]:
    """Constants of rule 4, each apart from what else reads the same number."""
    kept = set()
    for node in list(graph):
        for index in _FLOAT_ALONE.get(node.op_type, ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None and array(value) is not None:
                own = constant(graph, f"{node.name}/float32_{index}", _array(value))
                node.replace_input_with(index, own)
                kept.add(own)
    return kept


def _retype(node: ir.Node, before: ir.DataType, after: ir.DataType) -> None:
    to = node.attributes.get("to")
    if node.op_type == "Cast" and to is not None and to.as_int() == before:
        node.attributes["to"] = ir.AttrInt64("to", after)
    filled = node.attributes.get("value")
    if node.op_type == "ConstantOfShape" and filled is not None:
        data = filled.as_tensor().numpy()
        if ir.DataType.from_numpy(data.dtype) == before:
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(data.astype(after.numpy())))
    for value in node.outputs:
        if value.dtype == before:
            value.dtype = after


def _cast_input(graph: ir.Graph, value: ir.Value) -> None:
    readers = list(value.uses())
    if not readers:
        return
    cast = new_node(
        readers[0].node, "Cast", [value], suffix=f"_{value.name}", dtype=_HALF, to=_HALF
    )
    cast.outputs[0].shape = value.shape
    graph.insert_before(graph[0], [cast])
    for use in readers:
        use.node.replace_input_with(use.idx, cast.outputs[0])


def _cast_output(graph: ir.Graph, index: int, value: ir.Value) -> None:
    node = value.producer()
    if node is None:
        return
    cast = new_node(node, "Cast", [value], suffix=f"_{value.name}", dtype=_FLOAT, to=_FLOAT)
    output = cast.outputs[0]
    output.shape, output.name = value.shape, value.name
    value.name = f"{value.name}_float16"
    graph.append(cast)
    graph.outputs[index] = output


def _array(value: ir.Value) -> NDArray[Any]:
    data = array(value)
    assert data is not None
    return data


def _store(value: ir.Value, data: NDArray[Any]) -> None:
    value.const_value = ir.tensor(data, name=value.name)
    value.type = ir.TensorType(ir.DataType.from_numpy(data.dtype))
