"""A pass for OpenVINO: strides that have nothing to skip become 1.

The border pieces of a strided convolution have one output across. There a stride is of no
meaning; OpenVINO (2026.4) with AMX, in bfloat16 and in int8, takes its kernel for wider maps all
the same, and reads beyond the input: of outputs one wide and more than two high, most are wrong.
"""

from __future__ import annotations

import onnx_ir as ir

from waveedge.export.graph_editing import pads_of
from waveedge.export.passes.base import NodePass

__all__ = ["UnitStrides"]


class UnitStrides(NodePass):
    """Where a convolution has one output across or down, and reads all input, its stride is 1.

    Exact, to the bit.
    """

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.op_type != "Conv" or "strides" not in node.attributes:
            return False
        pads = pads_of(node)
        values = (*node.inputs[:2], node.outputs[0])
        shapes = [value.shape if value is not None else None for value in values]
        if pads is None or any(shape is None or len(shape) != 4 for shape in shapes):
            return False
        strides = list(node.attributes["strides"].as_ints())
        dilations = node.attributes.get("dilations")
        spread = list(dilations.as_ints()) if dilations is not None else [1, 1]
        given, kernel, found = ([*shape][2:] for shape in shapes if shape is not None)
        before = list(strides)
        for axis in (0, 1):
            size, taps = given[axis], kernel[axis]
            if found[axis] != 1 or not (isinstance(size, int) and isinstance(taps, int)):
                continue
            if size + pads[axis] + pads[axis + 2] == spread[axis] * (taps - 1) + 1:
                strides[axis] = 1
        node.attributes["strides"] = ir.AttrInt64s("strides", strides)
        return strides != before
