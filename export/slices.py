"""Pass: slices of maps of known size count from the start.

Rewrites count what lies at the end of an axis from there, so that a network takes images of other
sizes. Where the sizes are known, the passes that follow, and every runtime, need not care.

1. A negative start or end of an axis whose size is known becomes the line that it means.
2. A slice that takes everything vanishes.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.graph import array, constant, replace_value

__all__ = ["count_from_start"]


def count_from_start(model: ir.Model) -> None:
    """Runs the pass on a model in place."""
    for node in list(model.graph):
        if node.op_type == "Slice":
            _resolve(model.graph, node)


def _resolve(graph: ir.Graph, node: ir.Node) -> None:
    value = node.inputs[0]
    starts, ends, axes, steps = (array(x) for x in (*node.inputs[1:], None, None)[:4])
    if value is None or value.shape is None or starts is None or ends is None or axes is None:
        return
    if (len(node.inputs) > 4 and steps is None) or (steps is not None and (steps != 1).any()):
        return
    sizes = [value.shape[int(axis)] for axis in axes]
    if not all(isinstance(size, int) for size in sizes):
        return
    bounds = [
        slice(int(start), int(end)).indices(size)[:2]  # type: ignore[arg-type]
        for start, end, size in zip(starts, ends, sizes, strict=True)
    ]
    if all(bound == (0, size) for bound, size in zip(bounds, sizes, strict=True)):
        if not node.outputs[0].is_graph_output():
            replace_value(graph, node, value)
        return
    for index, found in enumerate(zip(*bounds, strict=True), start=1):
        if (np.array(found) != array(node.inputs[index])).any():
            name = f"lines_{'_'.join(map(str, found))}"
            node.replace_input_with(index, constant(graph, name, np.array(found, np.int64)))
