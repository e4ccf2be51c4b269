"""Pass: a quantized linear layer on a map becomes Reshape, Gemm, Reshape.

torch writes ``nn.Linear`` on a tensor of more than two dimensions as MatMul and Add. onnxruntime
then computes the product in int8 but adds the bias, and everything after it, in float; with a
dynamic batch always, with a static one unless it finds the Gemm by itself. A Gemm with a quantized
bias becomes one QGemm in every case, and TensorRT runs both forms in int8. Run this pass after
:mod:`~waveedge.export.passes.integer_weights`.

1. The product has a quantized activation on the left and a dequantized 2-D weight on the right.
2. A following Add with a constant vector becomes the Gemm's bias.
3. All dimensions but the first are static.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from waveedge.export.fake_quantize import activation_grid
from waveedge.export.graph_editing import array, constant, new_node, only_use, replace
from waveedge.export.passes.base import NodePass

__all__ = ["MatMulToGemm"]


class MatMulToGemm(NodePass):
    """A quantized linear layer on a map becomes Reshape, Gemm, Reshape. Exact."""

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.op_type != "MatMul" or not _is_quantized_linear(*node.inputs):  # rule 1
            return False
        x = node.inputs[0]
        shape = x.shape.dims if x is not None and x.shape is not None else ()
        if len(shape) < 3 or not all(isinstance(dim, int) for dim in shape[1:]):  # rule 3
            return False
        last, bias = node, None
        use = only_use(node.outputs[0])
        if use is not None and use[0].op_type == "Add":  # rule 2
            addition, side = use
            candidate = addition.inputs[1 - side]
            data = array(candidate)
            if data is not None and data.ndim == 1:
                last, bias = addition, candidate
        _rewrite(graph, node, last, bias)
        return True


def _is_quantized_linear(x: ir.Value | None, weight: ir.Value | None) -> bool:
    if weight is None or (node := weight.producer()) is None:
        return False
    if node.op_type != "DequantizeLinear" or (data := array(node.inputs[0])) is None:
        return False
    return data.ndim == 2 and activation_grid(x) is not None


def _rewrite(graph: ir.Graph, product: ir.Node, last: ir.Node, bias: ir.Value | None) -> None:
    x, weight = product.inputs
    out = last.outputs[0]
    assert x is not None
    assert x.shape is not None
    assert out.shape is not None
    inner = [int(dim) for dim in x.shape.dims[1:]]  # type: ignore[arg-type]
    outer = [*inner[:-1], int(out.shape.dims[-1])]  # type: ignore[arg-type]
    batch = x.shape.dims[0]
    rows = batch * math.prod(inner[:-1]) if isinstance(batch, int) else None

    def shape_input(name: str, dims: list[int]) -> ir.Value:
        return constant(graph, f"{product.name}/{name}", np.array(dims, np.int64))

    flat = new_node(
        product,
        "Reshape",
        [x, shape_input("rows", [-1, inner[-1]])],
        shape=ir.Shape([rows, inner[-1]]),
    )
    gemm = new_node(
        product,
        "Gemm",
        [flat.outputs[0], weight, bias] if bias is not None else [flat.outputs[0], weight],
        shape=ir.Shape([rows, outer[-1]]),
    )
    # The layer's product keeps its name: runtimes report about it by that name.
    gemm.name, product.name = product.name, f"{product.name}/MatMul"
    back = new_node(
        product, "Reshape", [gemm.outputs[0], shape_input("map", [-1, *outer])], suffix="_back"
    )
    replace(graph, last, [flat, gemm, back])
    if last is not product:
        graph.remove(product, safe=True)
