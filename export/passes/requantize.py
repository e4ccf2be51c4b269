"""Pass for onnxruntime: from one grid of bytes to another through a table.

A layer that asks for fewer bits than its input has reads it on a grid of its own. onnxruntime has
no operator for that: it makes floats of the bytes and bytes of the floats, in two passes over the
map. Where an activation stands in between, it looks each byte up in a table of 256. LeakyRelu with
a slope of 1 is the activation that changes nothing:

1. ``DequantizeLinear -> QuantizeLinear``, with one step each: a LeakyRelu of slope 1 in between.
   If both grids are the same, onnxruntime drops both by itself.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import array, new_node, producer
from waveedge.export.passes.base import NodePass

__all__ = ["Requantize"]


class Requantize(NodePass):
    """Values that change from one grid of bytes to another do so in onnxruntime's table. Exact.

    Runs on uint8 activations.
    """

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.op_type != "QuantizeLinear":
            return False
        value = node.inputs[0]
        before = producer(value, "DequantizeLinear")
        if before is None or not _regrids(before, node):
            return False
        assert value is not None
        same = new_node(node, "LeakyRelu", [value], shape=value.shape, alpha=1.0)
        graph.insert_before(node, same)
        node.replace_input_with(0, same.outputs[0])
        return True


def _regrids(before: ir.Node, after: ir.Node) -> bool:
    """Whether two nodes have one step each, and are not of the same grid."""
    steps = [array(node.inputs[1]) for node in (before, after)]
    if any(step is None or step.size != 1 for step in steps):
        return False
    return any(
        not np.array_equal(array(one), array(other))  # type: ignore[arg-type]
        for one, other in zip(before.inputs[1:], after.inputs[1:], strict=True)
    )
