"""Pass for onnxruntime: a floating-point activation between integers is computed in tiles.

What has no integer form (a GELU with a BatchNorm behind it) stays in floating point between two
quantizers. As a whole, it writes the map twice at four bytes a value, which can be where an int8
network has its peak of memory. Rows in tiles give the same numbers, and floats for one tile at a
time, which stay in the processor's cache.

1. ``QuantizeLinear -> DequantizeLinear -> f -> QuantizeLinear``, f elementwise with one input, each
   value read by the next node alone. Between f and QuantizeLinear may stand products and sums with
   constants of shape (1, C, 1, 1).
2. The map has at least 2^18 values and 4 rows: it is computed in 4 tiles.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import array, constant, new_node, only_use, producer, replace
from waveedge.export.passes.base import NodePass

__all__ = ["TileActivations"]

_ELEMENTWISE = {"Elu", "Erf", "Gelu", "HardSwish", "Mish", "Softplus", "Tanh"}
_TILES = 4
_LEAST = 2**18
_ROWS = 2  # the axis of height in (N, C, H, W)


class TileActivations(NodePass):
    """A large floating-point activation between integers is computed in tiles of rows. Exact.

    To the bit. Runs on uint8 activations, with shapes inferred.
    """

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.op_type not in _ELEMENTWISE or len(node.inputs) != 1:
            return False
        return _divide(graph, node)


def _divide(graph: ir.Graph, node: ir.Node) -> bool:
    value = node.inputs[0]
    assert value is not None
    before, sizes = producer(value, "DequantizeLinear"), _rows(node.outputs[0])
    if before is None or only_use(value) is None:
        return False
    chain = _chain(node)
    if not sizes or not chain or chain[-1].op_type != "QuantizeLinear":
        return False
    integers = before.inputs[0]
    assert integers is not None
    rows = constant(graph, f"rows_{'_'.join(map(str, sizes))}", np.array(sizes, np.int64))
    split = ir.node("Split", [integers, rows], {"axis": _ROWS}, num_outputs=len(sizes))
    split.name = f"{node.name}/Split"
    made, tiles = [split], []
    for number, tile in enumerate(split.outputs):
        tile.name, tile.type = f"{split.name}_out_{number}", integers.type
        for link in (before, *chain):
            inputs = [tile, *link.inputs[1:]]
            copy = new_node(node, link.op_type, inputs, suffix=f"_{number}", dtype=_type(link))
            copy.attributes.update(link.attributes)
            made.append(copy)
            tile = copy.outputs[0]
        tiles.append(tile)
    joined = new_node(node, "Concat", tiles, dtype=ir.DataType.UINT8, axis=_ROWS)
    replace(graph, chain[-1], [*made, joined])
    graph.remove([*reversed(chain[:-1]), before], safe=True)
    return True


def _chain(node: ir.Node) -> list[ir.Node]:
    """A node and what reads it alone, up to the first that is no product or sum per channel."""
    chain = [node]
    while len(chain) == 1 or _is_per_channel(chain[-1]):
        use = only_use(chain[-1].outputs[0])
        if use is None or use[1] != 0:
            return []
        chain.append(use[0])
    return chain


def _is_per_channel(node: ir.Node) -> bool:
    if node.op_type not in {"Mul", "Add"}:
        return False
    constant_ = array(node.inputs[1])
    return constant_ is not None and constant_.ndim == 4 and constant_.shape[_ROWS:] == (1, 1)


def _type(node: ir.Node) -> ir.DataType:
    return ir.DataType.UINT8 if node.op_type == "QuantizeLinear" else ir.DataType.FLOAT


def _rows(value: ir.Value) -> list[int]:
    """How many rows each tile has; empty where a map stays whole."""
    dims = value.shape.dims if value.shape is not None else ()
    sides = [dim for dim in dims[1:] if isinstance(dim, int)]
    if len(dims) != 4 or len(sides) != 3:
        return []
    height = sides[_ROWS - 1]
    if math.prod(sides) < _LEAST or height < _TILES:
        return []
    return [height * (k + 1) // _TILES - height * k // _TILES for k in range(_TILES)]
