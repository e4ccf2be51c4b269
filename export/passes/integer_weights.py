"""Pass: quantized weights become int8 numbers in the file.

1. ``FakeQuantize(w)`` of a constant weight becomes ``DequantizeLinear(q)`` with the integers q as
   an int8 initializer, one scale per output channel, zero points 0. The numbers are the torch
   quantizer's own: round(w / scale), halves to even, cut to qmin .. qmax.
2. A Transpose of such a weight (torch writes a linear layer so) is done on the integers, so that
   the product reads DequantizeLinear directly, the only place where runtimes look for it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.fake_quantize import grid_of
from waveedge.export.graph_editing import array, constant, new_node, only_use, replace
from waveedge.export.passes.base import NodePass

__all__ = ["INT8", "Int8Weights"]

INT8 = "_int8"
"""What the name of an integer weight adds to that of the torch parameter, and a runtime keeps."""


class Int8Weights(NodePass):
    """Quantized constant weights become dequantized int8 numbers. Exact, to the bit."""

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        grid = grid_of(node)
        weight = array(node.inputs[0]) if grid is not None else None
        if grid is None or weight is None:
            return False
        axis = grid.axis
        steps = grid.scale
        if axis >= 0:
            steps = steps.reshape([-1 if dim == axis else 1 for dim in range(weight.ndim)])
        integers = np.clip(np.rint(weight / steps), grid.qmin, grid.qmax).astype(np.int8)

        target = node
        use = only_use(node.outputs[0])
        if use is not None and use[0].op_type == "Transpose":  # rule 2
            target = use[0]
            order = list(target.attributes["perm"].as_ints())
            integers = integers.transpose(order)
            axis = order.index(axis) if axis >= 0 else axis

        source, scale = node.inputs[0], node.inputs[1]
        assert source is not None
        name = f"{source.name}{INT8}"
        zero = constant(graph, f"{name}_zero", np.zeros(grid.scale.shape, np.int8))
        dequantize = new_node(
            node, "DequantizeLinear", [constant(graph, name, integers), scale, zero]
        )
        if axis >= 0:
            dequantize.attributes.add(ir.AttrInt64("axis", axis))
        replace(graph, target, [dequantize])
        if target is not node:
            graph.remove(node, safe=True)
        return True
