"""Pass for onnxruntime: a floating-point activation between integers is computed in pieces.

GELU has no int8 form in onnxruntime that is exact, so it stays in floating point between two
quantizers. As a whole, it writes the map twice at four bytes a value, which is where most int8
networks have their peak of memory. Rows in pieces give the same numbers, and floats for one piece
at a time, which stay in the processor's cache.

1. ``QuantizeLinear -> DequantizeLinear -> f -> QuantizeLinear``, f elementwise with one input, each
   value read by the next node alone.
2. The map has at least 2^18 values, and rows to divide: into 4 or 8, of 2^16 values or more.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir

from waveedge.export.graph import constant, new_node, only_use, replace

__all__ = ["in_pieces"]

_ELEMENTWISE = {"Elu", "Erf", "Gelu", "HardSwish", "Mish", "Sigmoid", "Softplus", "Tanh"}
_PIECE = 2**16
_PIECES = (8, 4)
_ROWS = 2  # the axis of height in (N, C, H, W)


def in_pieces(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Runs the pass on a finished graph of uint8 activations; returns another one."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(graph))
    for node in list(model.graph):
        if node.op_type in _ELEMENTWISE and len(node.inputs) == 1:
            _divide(model.graph, node)
    return ir.to_proto(model)


def _divide(graph: ir.Graph, node: ir.Node) -> None:
    value = node.inputs[0]
    assert value is not None
    before, use = value.producer(), only_use(node.outputs[0])
    if before is None or use is None or only_use(value) is None:
        return
    after = use[0]
    sizes = _rows(node.outputs[0])
    if before.op_type != "DequantizeLinear" or after.op_type != "QuantizeLinear" or not sizes:
        return
    integers = before.inputs[0]
    assert integers is not None
    rows = constant(graph, f"rows_{'_'.join(map(str, sizes))}", np.array(sizes, np.int64))
    split = ir.node("Split", [integers, rows], {"axis": _ROWS}, num_outputs=len(sizes))
    split.name = f"{node.name}/Split"
    made, pieces = [split], []
    for number, piece in enumerate(split.outputs):
        piece.name, piece.type = f"{split.name}_out_{number}", integers.type
        chain = [
            new_node(node, "DequantizeLinear", [piece, *before.inputs[1:]], suffix=f"_{number}")
        ]
        activation = new_node(node, node.op_type, chain[-1].outputs, suffix=f"_{number}")
        activation.attributes.update(node.attributes)
        chain.append(activation)
        quantize = [activation.outputs[0], *after.inputs[1:]]
        chain.append(
            new_node(node, "QuantizeLinear", quantize, suffix=f"_{number}", dtype=ir.DataType.UINT8)
        )
        made += chain
        pieces.append(chain[-1].outputs[0])
    joined = new_node(node, "Concat", pieces, dtype=ir.DataType.UINT8, axis=_ROWS)
    replace(graph, after, [*made, joined])
    graph.remove([node, before], safe=True)


def _rows(value: ir.Value) -> list[int]:
    """How many rows each piece has; empty where a map stays whole."""
    dims = value.shape.dims if value.shape is not None else ()
    sides = [dim for dim in dims[1:] if isinstance(dim, int)]
    if len(dims) != 4 or len(sides) != 3:
        return []
    size, height = math.prod(sides), sides[_ROWS - 1]
    fitting = (count for count in _PIECES if count * _PIECE <= size and count <= height)
    pieces = next(fitting, 0)
    return [height * (k + 1) // pieces - height * k // pieces for k in range(pieces)]
