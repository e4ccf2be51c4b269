"""Pass: slices of maps of known size count from the start.

Rewrites count what lies at the end of an axis from there, so that a network takes images of other
sizes. Where the sizes are known, the passes that follow, and every runtime, need not care.

1. A negative start or end of an axis whose size is known becomes the line that it means.
2. A slice that takes everything vanishes.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import array, constant, replace_value
from waveedge.export.passes.base import NodePass

__all__ = ["ResolveSliceBounds"]


class ResolveSliceBounds(NodePass):
    """Slices of axes of known size get bounds that count from the start. Exact, to the bit."""

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        return node.op_type == "Slice" and _resolve(graph, node)


def _resolve(graph: ir.Graph, node: ir.Node) -> bool:
    value = node.inputs[0]
    starts, ends, axes, steps = (array(x) for x in (*node.inputs[1:], None, None)[:4])
    if value is None or value.shape is None or starts is None or ends is None or axes is None:
        return False
    if (len(node.inputs) > 4 and steps is None) or (steps is not None and (steps != 1).any()):
        return False
    sizes = [value.shape[int(axis)] for axis in axes]
    if not all(isinstance(size, int) for size in sizes):
        return False
    bounds = [
        slice(int(start), int(end)).indices(size)[:2]  # type: ignore[arg-type]
        for start, end, size in zip(starts, ends, sizes, strict=True)
    ]
    if all(bound == (0, size) for bound, size in zip(bounds, sizes, strict=True)):
        if node.outputs[0].is_graph_output():
            return False
        replace_value(graph, node, value)
        return True
    modified = False
    for index, found in enumerate(zip(*bounds, strict=True), start=1):
        if (np.array(found) != array(node.inputs[index])).any():
            name = f"bounds_{'_'.join(map(str, found))}"
            node.replace_input_with(index, constant(graph, name, np.array(found, np.int64)))
            modified = True
    return modified
