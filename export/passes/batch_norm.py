"""Pass for onnxruntime: a BatchNormalization between quantizers becomes a product and a sum.

What stands behind a GELU cannot be folded into a convolution. onnxruntime's BatchNormalization
wants channels first, while all around it is computed with channels last: a product and a sum need
no transposition, and can be computed in tiles (:mod:`~waveedge.export.passes.tiling`).

1. The value is a map (N, C, H, W), and every reader quantizes it; scale, shift, mean and variance
   are constants.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from waveedge.export.fake_quantize import DOMAIN
from waveedge.export.graph_editing import array, constant, new_node, replace
from waveedge.export.passes.base import NodePass

__all__ = ["BatchNormToAffine"]

_EPSILON = 1e-5  # where the node gives none


class BatchNormToAffine(NodePass):
    """A BatchNormalization between quantizers becomes a product and a sum. Exact.

    Runs while quantizers are FakeQuantize nodes.
    """

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.op_type != "BatchNormalization" or not _is_quantized_map(node.outputs[0]):
            return False
        constants = [array(value) for value in node.inputs[1:]]
        if any(values is None for values in constants):
            return False
        weight, bias, mean, variance = (np.asarray(values, np.float64) for values in constants)
        given = node.attributes.get("epsilon")
        epsilon = given.as_float() if given is not None else _EPSILON
        scale = weight / np.sqrt(variance + epsilon)
        factor = _per_channel(graph, f"{node.name}.scale", scale)
        product = new_node(node, "Mul", [node.inputs[0], factor], shape=node.outputs[0].shape)
        summand = _per_channel(graph, f"{node.name}.shift", bias - mean * scale)
        replace(graph, node, [product, new_node(node, "Add", [product.outputs[0], summand])])
        return True


def _per_channel(graph: ir.Graph, name: str, values: NDArray[np.float64]) -> ir.Value:
    """A constant of shape (1, C, 1, 1)."""
    return constant(graph, name, values.astype(np.float32).reshape(1, -1, 1, 1))


def _is_quantized_map(value: ir.Value) -> bool:
    uses, is_map = list(value.uses()), value.shape is not None and len(value.shape) == 4
    return is_map and bool(uses) and all(use.node.domain == DOMAIN for use in uses)
