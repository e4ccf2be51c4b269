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

from waveedge.export.graph import array, constant

__all__ = ["merge_groups"]

_MERGED = 4
_PIXELS = 64


def merge_groups(model: ir.Model) -> None:
    """Runs the pass on a model in place, once weights are integers."""
    for node in model.graph:
        if node.op_type != "ConvTranspose" or not _is_small(node):
            continue
        groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
        weight = node.inputs[1]
        assert weight is not None
        dequantize = weight.producer()
        if groups % _MERGED or (array(weight) is None and not _is_dequantized(dequantize)):
            continue
        if dequantize is None:
            node.replace_input_with(1, _merged(model.graph, weight, groups))
        else:
            _merge_quantized(model.graph, dequantize, groups)
        node.attributes["group"] = ir.AttrInt64("group", groups // _MERGED)


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
    name = f"{weight.name}_merged"  # begins like the weight's: executed bits are found by that
    if name in graph.initializers:
        return graph.initializers[name]
    data = _data(weight)
    inputs, outputs = data.shape[:2]
    result = np.zeros((inputs, _MERGED, *data.shape[1:]), data.dtype)
    channel = np.arange(inputs)
    result[channel, channel // (inputs // groups) % _MERGED] = data
    return constant(graph, name, result.reshape(inputs, _MERGED * outputs, *data.shape[2:]))


def _data(value: ir.Value) -> np.ndarray[Any, Any]:
    data = array(value)
    assert data is not None
    return data
