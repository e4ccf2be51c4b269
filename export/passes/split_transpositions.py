"""Pass for onnxruntime: transpositions of a few bytes at a time as a Split and a Concat.

Phases that become an image, and pixels that become channels, swap two axes in front of pixels of a
few bytes. onnxruntime's Transpose takes 5 ns a pixel for it, its Split and Concat 2.

1. Two neighbouring axes of a tensor of bytes, or of floats that are on one grid on both sides, are
   swapped; one of them has at most 4 entries.
2. What lies behind them is 64 bytes at most: longer runs a Transpose copies as fast.
3. There are at least 4096 such runs: fewer save less than the further operators take.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import array, constant, new_node, replace
from waveedge.export.passes.base import NodePass

__all__ = ["SplitTranspositions"]

_PARTS = 4
_BYTES = 64
_RUNS = 4096


class SplitTranspositions(NodePass):
    """Swaps of two axes in front of short runs of bytes are a Split and a Concat. Exact.

    To the bit. Runs on uint8 activations, with shapes inferred.
    """

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        axis = _swapped(node) if node.op_type == "Transpose" else None
        value = node.inputs[0] if axis is not None else None
        if axis is None or value is None or value.shape is None:
            return False
        sizes = [size for size in value.shape[axis:] if isinstance(size, int)]
        if len(sizes) != len(value.shape) - axis or min(sizes[:2]) > _PARTS:
            return False
        grid = None if value.dtype == ir.DataType.UINT8 else _grid(value)
        runs = prod(size for size in value.shape if isinstance(size, int)) // prod(sizes[2:])
        if runs < _RUNS or prod(sizes[2:]) > _BYTES:
            return False
        if grid is None and value.dtype != ir.DataType.UINT8:
            return False
        uint8, made = ir.DataType.UINT8, []
        if grid is not None:
            made.append(new_node(node, "QuantizeLinear", [value, *grid], dtype=uint8))
            value = made[-1].outputs[0]
        joined = _moved(graph, node, value, axis, sizes)
        made += joined
        if grid is not None:
            made.append(new_node(node, "DequantizeLinear", [made[-1].outputs[0], *grid]))
        replace(graph, node, made)
        return True


def _moved(
    graph: ir.Graph, node: ir.Node, value: ir.Value, axis: int, sizes: list[int]
) -> list[ir.Node]:
    """The swap of the axes ``axis`` and ``axis + 1`` of bytes, of these sizes from there on."""
    first, uint8 = (
        sizes[0] <= sizes[1],
        ir.DataType.UINT8,
    )  # which one is split; the other is joined
    parts, rest = (sizes[0], [sizes[1], 1]) if first else (sizes[1], [1, sizes[0]])
    shape = [0] * axis + rest + sizes[2:]
    split = ir.node(
        "Split",
        [value],
        {"axis": axis + (not first), "num_outputs": parts},
        num_outputs=parts,
        name=f"{node.name}/Split",
    )
    split.metadata_props.update(node.metadata_props)
    target = constant(graph, f"shape_{'_'.join(map(str, shape))}", np.array(shape, np.int64))
    views = []
    for number, part in enumerate(split.outputs):
        part.name, part.type = f"{split.name}_out_{number}", ir.TensorType(uint8)
        views.append(new_node(node, "Reshape", [part, target], suffix=f"_{number}", dtype=uint8))
    outputs = [view.outputs[0] for view in views]
    return [split, *views, new_node(node, "Concat", outputs, dtype=uint8, axis=axis + first)]


def _swapped(node: ir.Node) -> int | None:
    """The first of two neighbouring axes that a Transpose swaps, if it does nothing else."""
    attribute = node.attributes.get("perm")
    order = list(attribute.as_ints()) if attribute is not None else []
    moved = [axis for axis, source in enumerate(order) if axis != source]
    neighbours = len(moved) == 2 and moved[1] == moved[0] + 1
    return moved[0] if neighbours else None


def _grid(value: ir.Value) -> list[ir.Value | None] | None:
    """Scale and zero point of the grid that floats are on, if they are moved bytes."""
    node = value.producer()
    while node is not None and node.op_type in ("Reshape", "Transpose"):
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    if node is None or node.op_type != "DequantizeLinear" or len(node.inputs) != 3:
        return None
    scale, zero = (array(value) for value in node.inputs[1:])
    one = scale is not None and scale.size == 1 and zero is not None and zero.dtype == np.uint8
    return list(node.inputs[1:]) if one else None
