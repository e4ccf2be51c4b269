"""Pass for onnxruntime: the mean over a whole map becomes GlobalAveragePool.

onnxruntime has an integer kernel for that operator and none for ReduceMean, which torch writes.

1. ``ReduceMean`` over the last two of four dimensions, which are kept.
"""

from __future__ import annotations

import onnx_ir as ir

from waveedge.export.graph_editing import array, new_node, replace
from waveedge.export.passes.base import NodePass

__all__ = ["MeanToGlobalAveragePool"]


class MeanToGlobalAveragePool(NodePass):
    """The mean over a whole map becomes GlobalAveragePool. Exact."""

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.op_type != "ReduceMean" or not _is_global(node):
            return False
        replace(graph, node, [new_node(node, "GlobalAveragePool", node.inputs[:1])])
        return True


def _is_global(node: ir.Node) -> bool:
    value = node.inputs[0]
    axes = array(node.inputs[1]) if len(node.inputs) > 1 else None
    keeps = node.attributes["keepdims"].as_int() if "keepdims" in node.attributes else 1
    if value is None or value.shape is None or len(value.shape) != 4 or axes is None or not keeps:
        return False
    return {int(axis) % 4 for axis in axes} == {2, 3}
