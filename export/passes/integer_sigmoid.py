"""Pass for onnxruntime: the sigmoid of an integer GELU is computed by its integer kernel.

QLinearSigmoid reads and writes bytes through a table. onnxruntime finds it where a Sigmoid stands
alone between DequantizeLinear and QuantizeLinear. The slope that stands in between is part of the
grid: ``DequantizeLinear(scale) -> Mul(slope) -> Sigmoid`` reads the same bytes with
``scale * slope``. What shifts the output is part of its zero point (``zero_points``).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from waveedge.export.graph_editing import array, constant, new_node, only_use, producer, replace
from waveedge.export.passes.base import NodePass

__all__ = ["IntegerSigmoid"]


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
    if product is None or reads is None or only_use(product.outputs[0]) is None:
        return False
    before, slope = reads
    integers, scale, zero = before.inputs
    factor = constant(graph, f"{node.name}/scale", slope * _constant(scale))
    replace(graph, product, [new_node(product, "DequantizeLinear", [integers, factor, zero])])
    return True


def _dequantized(product: ir.Node) -> tuple[ir.Node, NDArray[np.float32]] | None:
    """The DequantizeLinear that a product with one number reads, and the number."""
    one, other = product.inputs
    for value, factor in ((one, other), (other, one)):
        node = producer(value, "DequantizeLinear")
        if node is not None and array(factor) is not None and _constant(factor).size == 1:
            return node, _constant(factor).reshape(())
    return None


def _constant(value: ir.Value | None) -> NDArray[np.float32]:
    """The numbers of a value that is known to be constant."""
    data = array(value)
    assert data is not None
    return data
