"""Pass for onnxruntime: a transposed convolution of many groups on a small map gets fewer groups.

onnxruntime computes one group after another, each by a matrix product of its own. On the deep
levels of a wavelet transform, maps of a few pixels and a group for each channel, preparing the
products takes longer than computing them. Four groups as one, with zeros between them, are four
times the multiply-adds and half the time; on maps larger than 8x8 it no longer pays.

1. The weight is a constant, or dequantized int8.
2. The number of groups is a multiple of four, the input map has at most 64 pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import array, constant
from waveedge.export.passes.base import NodePass

__all__ = ["MergeGroups"]

_MERGED = 4
_PIXELS = 64


class MergeGroups(NodePass):
    """A transposed convolution of many groups on a small map gets a quarter of them. Exact.

    Runs once weights are integers.
    """

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.op_type != "ConvTranspose" or not _is_small(node):
            return False
        groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
        weight = node.inputs[1]
        assert weight is not None
        dequantize = weight.producer()
        if groups % _MERGED or (array(weight) is None and not _is_dequantized(dequantize)):
            return False
        if dequantize is None:
            node.replace_input_with(1, _merged(graph, weight, groups))
        else:
            _merge_quantized(graph, dequantize, groups)
        node.attributes["group"] = ir.AttrInt64("group", groups // _MERGED)
        return True


def _is_small(node: ir.Node) -> bool:
    map_ = node.inputs[0]
    dims = map_.shape.dims[2:] if map_ is not None and map_.shape is not None else ()
    sides = [dim for dim in dims if isinstance(dim, int)]
    return len(sides) == 2 and math.prod(sides) <= _PIXELS


def _is_dequantized(node: ir.Node | None) -> bool:
    """Whether a node dequantizes a constant that only one layer reads."""
    return (
        node is not None
        and node.op_type == "DequantizeLinear"
        and all(array(value) is not None for value in node.inputs)
        and len(list(node.outputs[0].uses())) == 1
    )


def _merge_quantized(graph: ir.Graph, node: ir.Node, groups: int) -> None:
    """Integers keep their steps; those per channel of a group are repeated for each group."""
    integers, scale, zero = node.inputs
    assert integers is not None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    merged = _merged(graph, integers, groups)
    node.replace_input_with(0, merged)
    node.outputs[0].shape = merged.shape
    data = array(scale)
    assert data is not None
    if data.ndim == 1 and axis == 1:
        for index, value in ((1, scale), (2, zero)):
            assert value is not None
            repeated = np.tile(_data(value), _MERGED)
            node.replace_input_with(index, constant(graph, f"{value.name}_merged", repeated))


def _merged(graph: ir.Graph, weight: ir.Value, groups: int) -> ir.Value:
    """(I, O / groups, k, k) with zeros between groups: (I, _MERGED * O / groups, k, k)."""
    data = _data(weight)
    inputs, outputs = data.shape[:2]
    result = np.zeros((inputs, _MERGED, *data.shape[1:]), data.dtype)
    channel = np.arange(inputs)
    result[channel, channel // (inputs // groups) % _MERGED] = data
    # The name begins like the weight's: in what onnxruntime executes, names alone are left.
    shape = (inputs, _MERGED * outputs, *data.shape[2:])
    return constant(graph, f"{weight.name}_merged", result.reshape(shape))


def _data(value: ir.Value) -> np.ndarray[Any, Any]:
    data = array(value)
    assert data is not None
    return data
