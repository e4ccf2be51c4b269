"""Pass for onnxruntime: a shift by whole steps beside a quantizer is another zero point.

uint8 activations are centred: an image of 0 to 1 is shifted by -128/255 in front of its quantizer,
a sigmoid's output likewise, and back behind it. In bytes nothing has moved:

1. ``Add(c) -> QuantizeLinear(scale, zero)``, with c a whole number of steps, writes the bytes of
   ``QuantizeLinear(scale, zero + c/scale)``.
2. ``DequantizeLinear(scale, zero) -> Add(c)`` reads those of zero point ``zero - c/scale``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import array, constant, only_use, replace_value
from waveedge.export.passes.base import NodePass

__all__ = ["ShiftZeroPoints"]


class ShiftZeroPoints(NodePass):
    """Shifts by whole steps become part of the quantizer's zero point. Exact.

    Runs on uint8 activations.
    """

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return False
        scale, zero = (array(value) for value in (*node.inputs, None, None)[1:3])
        if scale is None or zero is None or scale.size != 1 or zero.dtype != np.uint8:
            return False
        writes = node.op_type == "QuantizeLinear"
        value = node.inputs[0] if writes else None
        shift = value.producer() if value is not None else _reader(node)
        if shift is None or (writes and only_use(shift.outputs[0]) is None):
            return False
        found = _shifted(shift)
        if found is None:
            return False
        value, amount = found
        steps = round(amount / float(scale.item()))
        moved = int(zero.item()) + (steps if writes else -steps)
        exact = np.isclose(steps * float(scale.item()), amount, rtol=1e-6, atol=0)
        if not exact or not 0 <= moved <= 255:
            return False
        origin = constant(graph, f"zero_point_{moved}", np.full(zero.shape, moved, np.uint8))
        node.replace_input_with(2, origin)
        if writes:
            node.replace_input_with(0, value)
            graph.remove(shift, safe=True)
        else:
            replace_value(graph, shift, node.outputs[0])
        return True


def _reader(node: ir.Node) -> ir.Node | None:
    use = only_use(node.outputs[0])
    return use[0] if use is not None else None


def _shifted(node: ir.Node) -> tuple[ir.Value, float] | None:
    """The value that a sum or difference with one number shifts, and by how much."""
    if node.op_type not in ("Add", "Sub"):
        return None
    for index, value in enumerate(node.inputs):
        number = array(node.inputs[1 - index])
        if value is None or number is None or number.size != 1:
            continue
        if value.shape is None or number.ndim > len(value.shape):
            continue  # the sum may have more dimensions
        if node.op_type == "Add":
            return value, float(number.item())
        if index == 0:
            return value, -float(number.item())
    return None
