"""Where a node came from, as metadata of the node: it outlives renamings and every pass.

``to_onnx`` notes it, nodes that a pass makes inherit it
(:func:`~waveedge.export.graph_editing.new_node`), verification reads it, and it is cleared from the
file that ships.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir

__all__ = ["Call", "call_of", "layer_of", "note_offset", "note_origin", "offset_of"]

Call = tuple[str, int]
"""Path of a torch module, and which of its calls is meant, counted from 0."""

_LAYER = "waveedge.layer"
_OPERATOR = "waveedge.operator"
_CALL = "waveedge.call"
_OFFSET = "waveedge.offset"


def note_origin(node: ir.Node, layer: str, call: int) -> None:
    """Notes that a node is the ``call``-th of its operator that a torch module gave.

    Args:
        layer: path of the module, "" for the network itself.
        call: counted from 0.
    """
    node.metadata_props.update({_LAYER: layer, _OPERATOR: node.op_type, _CALL: str(call)})


def layer_of(node: ir.Node) -> str:
    """Path of the torch module that a node came from, for example ``blocks.0.conv``."""
    return node.metadata_props.get(_LAYER, "")


def call_of(node: onnx.NodeProto, operator: str) -> Call | None:
    """The module call that a node came from; None unless torch's operator was ``operator``."""
    notes: Mapping[str, str] = {entry.key: entry.value for entry in node.metadata_props}
    if notes.get(_OPERATOR) != operator or not notes.get(_LAYER):
        return None
    return notes[_LAYER], int(notes[_CALL])


def note_offset(node: ir.Node, steps: int) -> None:
    """Notes that a quantizer's integers stand for so many steps less than torch's do."""
    node.metadata_props[_OFFSET] = str(steps)


def offset_of(node: onnx.NodeProto) -> int:
    """How many steps less than torch's the integers of a quantizer stand for."""
    return next((int(entry.value) for entry in node.metadata_props if entry.key == _OFFSET), 0)
