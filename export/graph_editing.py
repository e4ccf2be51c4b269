"""Reading and editing onnx-ir graphs: what every pass here needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = [
    "array",
    "constant",
    "new_node",
    "only_use",
    "pads_of",
    "producer",
    "regridded",
    "replace",
    "replace_value",
    "retype",
    "sizes_of",
    "starts_of",
    "store",
]


def array(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The constant that a value holds, or None if it is computed at run time."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def constant(graph: ir.Graph, name: str, data: np.ndarray[Any, Any]) -> ir.Value:
    """An initializer that holds ``data``: the one of that name where it does, else a new one."""
    while name in graph.initializers and not _holds(graph.initializers[name], data):
        name += "_"
    if name not in graph.initializers:
        data = np.ascontiguousarray(data).reshape(data.shape)
        graph.register_initializer(
            ir.Value(
                name=name,
                shape=ir.Shape(data.shape),
                type=ir.TensorType(ir.DataType.from_numpy(data.dtype)),
                const_value=ir.tensor(data, name=name),
            )
        )
    return graph.initializers[name]


def _holds(value: ir.Value, data: np.ndarray[Any, Any]) -> bool:
    stored = array(value)
    return stored is not None and stored.dtype == data.dtype and np.array_equal(stored, data)


def only_use(value: ir.Value) -> tuple[ir.Node, int] | None:
    """The node that reads a value, and at which input, if exactly one does and no output is."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    return uses[0].node, uses[0].idx


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that computes a value, if it is of that type."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None


def pads_of(node: ir.Node) -> list[int] | None:
    """The padding of a 2-D convolution; None where it is not written out."""
    auto = node.attributes.get("auto_pad")
    if auto is not None and auto.as_string() != "NOTSET":
        return None
    pads = node.attributes.get("pads")
    return list(pads.as_ints()) if pads is not None else [0, 0, 0, 0]


def regridded(read: ir.Node) -> ir.Value | None:
    """What a DequantizeLinear's pair on the same grid is given, if there is a pair."""
    written = producer(read.inputs[0], "QuantizeLinear")
    if written is None or list(written.inputs[1:]) != list(read.inputs[1:]):
        return None
    return written.inputs[0]


def sizes_of(value: ir.Value | None) -> list[int]:
    """Channels, height and width of a map; empty where one of them is not known."""
    shape = list(value.shape)[1:] if value is not None and value.shape is not None else []
    sizes = [size for size in shape if isinstance(size, int)]
    return sizes if len(sizes) == len(shape) else []


def starts_of(crop: ir.Node) -> dict[int, int] | None:
    """Where a Slice begins on each axis that it cuts; None unless known, from 0 on, by ones."""
    if len(crop.inputs) < 4:
        return None
    starts, _, axes, *steps = (array(value) for value in crop.inputs[1:])
    if starts is None or axes is None or any(step is None or (step != 1).any() for step in steps):
        return None
    begin = dict(zip(map(int, axes), map(int, starts), strict=True))
    return begin if min((*begin, *begin.values())) >= 0 else None


def new_node(
    like: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    *,
    suffix: str = "",
    dtype: ir.DataType = ir.DataType.FLOAT,
    shape: ir.Shape | None = None,
    **attributes: Any,
) -> ir.Node:
    """A node that is named after ``like`` and has its metadata: it comes from the same layer."""
    node = ir.node(op_type, inputs, attributes=attributes)
    node.name = f"{like.name}/{op_type}{suffix}"
    node.metadata_props.update(like.metadata_props)
    output = node.outputs[0]
    output.name = f"{node.name}_out"
    output.type = ir.TensorType(dtype)
    output.shape = shape
    return node


def replace(graph: ir.Graph, old: ir.Node, new: Sequence[ir.Node]) -> None:
    """Puts a chain of nodes in the place of one; the last gives the old node's output."""
    graph.insert_before(old, new)
    before, after = old.outputs[0], new[-1].outputs[0]
    after.type, after.shape = before.type, before.shape
    ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    name = before.name
    graph.remove(old, safe=True)
    after.name = name


def replace_value(graph: ir.Graph, old: ir.Node, value: ir.Value) -> None:
    """Lets everybody read ``value`` in the place of a node's output, and removes the node."""
    output = old.outputs[0]
    value.shape, name = output.shape, output.name
    is_output = output.is_graph_output()
    ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
    graph.remove(old, safe=True)
    if is_output:
        value.name = name


def retype(node: ir.Node, before: ir.DataType, after: ir.DataType) -> None:
    """Lets a node compute in one floating-point type what it did in another, inputs aside."""
    to = node.attributes.get("to")
    if node.op_type == "Cast" and to is not None and to.as_int() == before:
        node.attributes["to"] = ir.AttrInt64("to", after)
    filled = node.attributes.get("value")
    if node.op_type == "ConstantOfShape" and filled is not None:
        data = filled.as_tensor().numpy()
        if ir.DataType.from_numpy(data.dtype) == before:
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(data.astype(after.numpy())))
    for value in node.outputs:
        if value.dtype == before:
            value.dtype = after


def store(value: ir.Value, data: np.ndarray[Any, Any]) -> None:
    """Puts another constant, of whatever type, in the place of the one that a value holds."""
    value.const_value = ir.tensor(data, name=value.name)
    value.type = ir.TensorType(ir.DataType.from_numpy(data.dtype))
