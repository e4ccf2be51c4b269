"""Graphs of 16 bits in float32: what a runtime without kernels of 16 bits computes.

onnxruntime on a CPU runs float16 by widening, and bfloat16 not at all. :func:`rounded` gives a
float32 twin of a bfloat16 graph, in which what that graph rounds is rounded at the same place, by a
Cast to bfloat16 and back: onnxruntime has these two, to the nearest and ties to even.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import array, new_node, retype, store

__all__ = ["rounded", "widened"]

_FLOAT, _BFLOAT16 = ir.DataType.FLOAT, ir.DataType.BFLOAT16
_OPSET = 20  # of all other files: onnxruntime has its fast kernels there

_MOVES = frozenset(
    {
        *("Clip", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements"),
        *("Identity", "MaxPool", "Pad", "Relu", "Reshape", "ScatterElements", "ScatterND", "Slice"),
        *("SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)
"""What moves or picks numbers and makes no new ones: these are rounded already."""


def widened(model: ir.Model) -> ir.Model:
    """A graph of 16 bits with its own numbers in float32, rounded nowhere."""
    wide = model.clone()
    for value in wide.graph.initializers.values():
        data = array(value)
        if data is not None and value.dtype in (ir.DataType.FLOAT16, _BFLOAT16):
            store(value, data.astype(np.float32))
    for node in wide.graph:
        for half in (ir.DataType.FLOAT16, _BFLOAT16):
            retype(node, half, _FLOAT)
    wide.opset_imports[""] = _OPSET
    return wide


def rounded(model: ir.Model) -> ir.Model:
    """The float32 twin of a bfloat16 graph, rounded where that one rounds."""
    names = {
        value.name
        for node in model.graph
        if node.op_type not in _MOVES
        for value in node.outputs
        if value.dtype == _BFLOAT16
    }
    twin = widened(model)
    graph = twin.graph
    for node in list(graph):
        for value in node.outputs:
            if value.name in names:
                readers = list(value.uses())
                there, back = (f"_{value.name}_{way}" for way in ("there", "back"))
                cast = new_node(node, "Cast", [value], suffix=there, dtype=_BFLOAT16, to=_BFLOAT16)
                again = new_node(node, "Cast", [cast.outputs[0]], suffix=back, to=_FLOAT)
                graph.insert_after(node, [cast, again])
                for use in readers:
                    use.node.replace_input_with(use.idx, again.outputs[0])
    return twin
