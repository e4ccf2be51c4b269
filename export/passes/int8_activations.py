"""Pass: activations as int8 with zero point 0, the only encoding TensorRT takes.

Grids of 8 bits with another zero point are int8's own already (``offsets``).

``FakeQuantize(x)`` becomes ``QuantizeLinear -> DequantizeLinear`` with int8 and zero point 0. A
grid narrower than int8 has a float Clip to ``qmin * scale .. qmax * scale`` in front: TensorRT has
no arithmetic on int8 tensors, and fuses a Clip into the layer before it like any activation.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.fake_quantize import grid_of
from waveedge.export.graph_editing import constant, new_node, replace
from waveedge.export.passes.base import NodePass

__all__ = ["Int8Activations"]


class Int8Activations(NodePass):
    """Activation quantizers become QuantizeLinear and DequantizeLinear with int8. Exact."""

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if (grid := grid_of(node)) is None:
            return False
        x, scale = node.inputs
        assert x is not None
        chain = []
        if (grid.qmin, grid.qmax) != (-128, 127):
            bounds = [
                constant(graph, f"{node.name}/{name}", np.float32(q) * grid.scale)
                for name, q in (("low", grid.qmin), ("high", grid.qmax))
            ]
            chain.append(new_node(node, "Clip", [x, *bounds], shape=x.shape))
            x = chain[-1].outputs[0]
        zero = constant(graph, "zero_point", np.zeros((), np.int8))
        quantize = new_node(
            node, "QuantizeLinear", [x, scale, zero], dtype=ir.DataType.INT8, shape=x.shape
        )
        restore = new_node(node, "DequantizeLinear", [quantize.outputs[0], scale, zero])
        replace(graph, node, [*chain, quantize, restore])
        return True
