"""Pass for TensorRT: floating-point layers compute in 16 bits, as the graph itself says.

Strongly typed networks take every type from the graph, and TensorRT 11 has no other kind, so that
no flag of a builder can ask for float16 or bfloat16. Here

1. constants, and everything computed from the input, become 16 bits wide, scales of quantizers too;
2. the input and the outputs stay float32, each behind a Cast;
3. what is beyond the type becomes its largest number, and a scale below it the smallest one above
   0;
4. inputs that ONNX knows in float32 alone (sizes of a Resize) stay as they are;
5. what ONNX knows in float16 and not in bfloat16 (a TopK) stays float32, between Casts.

A graph in bfloat16 has opset 22, the first in which ONNX knows a convolution of it; from 20 to 22
these operators gained types and changed nothing. TensorRT-RTX 1.7 builds either. NVIDIA's table for
TensorRT 10 has bfloat16 for every operator here, and ends at opset 20; but the source of the parser
(10.1) refuses no later one: it reads node by node what it knows. So the valid graph is written.

Sums inside a layer are the runtime's affair: TensorRT adds products of 16 bits in float32.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import array, constant, new_node, retype, store

__all__ = ["HalfPrecision"]

_FLOAT_ALONE = {"Resize": (1, 2)}
_SCALE = {"QuantizeLinear": 1, "DequantizeLinear": 1}
_FLOAT, _BFLOAT16 = ir.DataType.FLOAT, ir.DataType.BFLOAT16
_BOUNDS = {
    ir.DataType.FLOAT16: ((2 - 2.0**-10) * 2.0**15, 2.0**-24),
    _BFLOAT16: ((2 - 2.0**-7) * 2.0**127, 2.0**-133),
}
"""The largest number of a type, and the smallest above 0."""

_NOT_IN_BFLOAT16 = ("Einsum", "TopK")
_OPSET = 22


class HalfPrecision(ir.passes.InPlacePass):
    """Everything between input and outputs in 16 bits: the numbers change by their rounding.

    Constants are initializers. Types of all values are known.

    Args:
        dtype: FLOAT16 or BFLOAT16.
    """

    exact = False

    def __init__(self, dtype: ir.DataType) -> None:
        super().__init__()
        self._dtype = dtype

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, dtype = model.graph, self._dtype
        self._round_constants(graph)
        for node in graph:
            retype(node, _FLOAT, dtype)
        if dtype == _BFLOAT16:
            model.opset_imports[""] = _OPSET
            for node in [node for node in graph if node.op_type in _NOT_IN_BFLOAT16]:
                self._widen(graph, node)
        for value in graph.inputs:
            if value.dtype == _FLOAT:
                self._cast_input(graph, value)
        for index, value in enumerate(list(graph.outputs)):
            if value.dtype == dtype:
                self._cast_output(graph, index, value)
        return ir.passes.PassResult(model, True)

    def _round_constants(self, graph: ir.Graph) -> None:
        kept = _kept(graph)
        kind, (most, least) = self._dtype.numpy(), _BOUNDS[self._dtype]
        scales = {node.inputs[_SCALE[node.op_type]] for node in graph if node.op_type in _SCALE}
        for value in graph.initializers.values():
            data = array(value)
            if data is None or value.dtype != _FLOAT or value in kept:
                continue
            half = np.clip(data, -most, most).astype(kind)
            if value in scales:
                half = np.where((half == 0) & (data > 0), kind.type(least), half)
            store(value, half)

    def _widen(self, graph: ir.Graph, node: ir.Node) -> None:
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == self._dtype:
                cast = new_node(node, "Cast", [value], suffix=f"_{index}", to=_FLOAT)
                cast.outputs[0].shape = value.shape
                graph.insert_before(node, [cast])
                node.replace_input_with(index, cast.outputs[0])
        for index, value in enumerate(node.outputs):
            if value.dtype == self._dtype:
                value.dtype = _FLOAT
                self._cast_back(graph, value, f"_back_{index}")

    def _cast_back(self, graph: ir.Graph, value: ir.Value, suffix: str) -> None:
        node = value.producer()
        assert node is not None
        cast = new_node(node, "Cast", [value], suffix=suffix, dtype=self._dtype, to=self._dtype)
        cast.outputs[0].shape = value.shape
        ir.convenience.replace_all_uses_with(value, cast.outputs[0], replace_graph_outputs=True)
        cast.replace_input_with(0, value)
        graph.insert_after(node, [cast])

    def _cast_input(self, graph: ir.Graph, value: ir.Value) -> None:
        readers = list(value.uses())
        if not readers:
            return
        dtype = self._dtype
        cast = new_node(
            readers[0].node, "Cast", [value], suffix=f"_{value.name}", dtype=dtype, to=dtype
        )
        cast.outputs[0].shape = value.shape
        graph.insert_before(graph[0], [cast])
        for use in readers:
            use.node.replace_input_with(use.idx, cast.outputs[0])

    def _cast_output(self, graph: ir.Graph, index: int, value: ir.Value) -> None:
        node = value.producer()
        if node is None:
            return
        cast = new_node(node, "Cast", [value], suffix=f"_{value.name}", dtype=_FLOAT, to=_FLOAT)
        output = cast.outputs[0]
        output.shape, output.name = value.shape, value.name
        value.name = f"{value.name}_{self._dtype.name.lower()}"
        graph.append(cast)
        graph.outputs[index] = output


def _kept(graph: ir.Graph) -> set[ir.Value]:
    """Constants of rule 4, each apart from what else reads the same number."""
    kept = set()
    for node in list(graph):
        for index in _FLOAT_ALONE.get(node.op_type, ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            if (data := array(value)) is not None:
                own = constant(graph, f"{node.name}/float32_{index}", data)
                node.replace_input_with(index, own)
                kept.add(own)
    return kept
