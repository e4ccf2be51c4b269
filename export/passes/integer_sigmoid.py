"""Pass for onnxruntime: the sigmoid of an integer GELU is computed by its integer kernel.

QLinearSigmoid reads and writes bytes through a table. onnxruntime finds it where a Sigmoid stands
alone between DequantizeLinear and QuantizeLinear; what stands between them here is part of the
two grids:

1. ``DequantizeLinear(scale) -> Mul(slope) -> Sigmoid`` reads the same bytes with ``scale * slope``.
2. ``Sub(128/255) -> QuantizeLinear -> DequantizeLinear -> Add(128/255)`` with steps of 1/255 and
   zero point 128 are the same bytes with zero point 0.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from waveedge.export.graph_editing import array, constant, new_node, only_use, producer, replace
from waveedge.export.passes.base import NodePass

__all__ = ["IntegerSigmoid"]

_CHAIN = ("Sub", "QuantizeLinear", "DequantizeLinear", "Add")


class IntegerSigmoid(NodePass):
    """The sigmoid of an integer GELU reads and writes bytes. Exact.

    Runs on uint8 activations.
    """

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        return node.op_type == "Sigmoid" and _rewrite(graph, node)


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    product = producer(node.inputs[0], "Mul")
    reads = _dequantized(product) if product is not None else None
    chain = _chain(node)
    if product is None or reads is None or not chain:
        return False
    before, slope = reads
    integers, scale, zero = before.inputs
    step = chain[_CHAIN.index("QuantizeLinear")].inputs[1]
    factor = constant(graph, f"{node.name}/scale", slope * _constant(scale))
    origin = constant(graph, "zero_point_0", np.array(0, np.uint8))
    read = new_node(product, "DequantizeLinear", [integers, factor, zero])
    sigmoid = new_node(node, "Sigmoid", read.outputs, suffix="_of_integers")
    uint8 = ir.DataType.UINT8
    write = new_node(node, "QuantizeLinear", [sigmoid.outputs[0], step, origin], dtype=uint8)
    restore = new_node(node, "DequantizeLinear", [write.outputs[0], step, origin])
    replace(graph, chain[-1], [read, sigmoid, write, restore])
    graph.remove([*reversed(chain[:-1]), node], safe=True)
    if not list(product.outputs[0].uses()):
        graph.remove(product, safe=True)
    return True


def _dequantized(product: ir.Node) -> tuple[ir.Node, NDArray[np.float32]] | None:
    """The DequantizeLinear that a product with one number reads, and the number."""
    one, other = product.inputs
    for value, factor in ((one, other), (other, one)):
        node = producer(value, "DequantizeLinear")
        if node is not None and array(factor) is not None and _constant(factor).size == 1:
            return node, _constant(factor).reshape(())
    return None


def _chain(node: ir.Node) -> list[ir.Node]:
    """The nodes of rule 2 behind a Sigmoid; none where they are others."""
    chain = [node]
    for op_type in _CHAIN:
        use = only_use(chain[-1].outputs[0])
        if use is None or use[0].op_type != op_type:
            return []
        chain.append(use[0])
    _, before, quantize, _, after = chain
    scale, zero = (_constant(value) for value in quantize.inputs[1:])
    shifts = [array(value) for value in (*before.inputs[1:], *after.inputs)]
    known = [shift for shift in shifts if shift is not None]
    exact = [np.allclose(shift, scale * np.float32(zero), rtol=1e-6, atol=0) for shift in known]
    return chain[1:] if len(exact) == 2 and all(exact) else []


def _constant(value: ir.Value | None) -> NDArray[np.float32]:
    """The numbers of a value that is known to be constant."""
    data = array(value)
    assert data is not None
    return data
