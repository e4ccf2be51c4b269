"""The one quantization node between torch and the target's encoding.

torch.onnx writes every quantizer as a node ``waveedge.FakeQuantize(x, scale)`` with attributes
``qmin``, ``qmax`` and ``axis`` (-1: one scale for the tensor): the meaning, without a choice of
integer type. No runtime knows that node. The passes of a target lower it: constant weights by
:mod:`~waveedge.export.passes.integer_weights`, activations by the encoding of the target. Passes in
between need not recognise a pattern of Clip, QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import array

__all__ = ["DOMAIN", "REARRANGING", "Grid", "activation_grid", "grid_of", "translation_table"]

DOMAIN = "waveedge"
_OP = "FakeQuantize"

REARRANGING = {
    "DepthToSpace",
    "Flatten",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
"""ONNX operators that move or pick elements and change none: they stay on the grid of the input.
What torch calls them is in ``waveedge/compression/graph_queries.py``."""


@dataclass(frozen=True)
class Grid:
    """The numbers ``scale * q`` with an integer ``qmin <= q <= qmax``.

    Attributes:
        scale: float32, scalar, or (channels,) along ``axis``.
        axis: dimension of the tensor with a scale each, -1 for none.
    """

    scale: np.ndarray[Any, Any]
    qmin: int
    qmax: int
    axis: int

    @property
    def bits(self) -> int:
        """Bits that the numbers need, whatever container they stand in."""
        return (self.qmax - self.qmin).bit_length()

    @property
    def zero_point(self) -> int:
        """Which number of int8 stands for 0: 0, where that holds the grid."""
        return 0 if self.qmin >= -128 and self.qmax <= 127 else -128 - self.qmin


def grid_of(node: ir.Node | None) -> Grid | None:
    """The grid of a FakeQuantize node; None for any other node."""
    if node is None or node.op_type != _OP or node.domain != DOMAIN:
        return None
    scale = array(node.inputs[1])
    assert scale is not None, "scales are parameters, so they are constants of the graph"
    qmin, qmax, axis = (node.attributes[name].as_int() for name in ("qmin", "qmax", "axis"))
    return Grid(scale, qmin, qmax, axis)


def activation_grid(value: ir.Value | None) -> Grid | None:
    """The grid on which a value lies, through operators that only move elements."""
    while value is not None and (node := value.producer()) is not None:
        if (grid := grid_of(node)) is not None:
            return grid
        if node.op_type not in REARRANGING:
            return None
        value = node.inputs[0]
    return None


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What ``torch.onnx.export`` needs to write the operator ``waveedge::fake_quantize``."""
    import onnx.defs
    import torch
    from onnxscript import values

    import waveedge.nn.quantizers  # noqa: F401  (registers the operator with torch)

    schema = onnx.defs.OpSchema
    operator = values.Op(
        values.Opset(DOMAIN, 1),
        _OP,
        schema(
            _OP,
            DOMAIN,
            1,
            inputs=[schema.FormalParameter("x", "T"), schema.FormalParameter("scale", "T")],
            outputs=[schema.FormalParameter("y", "T")],
            type_constraints=[("T", ["tensor(float)"], "")],
            attributes=[
                schema.Attribute(name, schema.AttrType.INT, "", required=True)
                for name in ("qmin", "qmax", "axis")
            ],
        ),
    )

    def translate(x: Any, scale: Any, qmin: int, qmax: int, axis: int) -> Any:
        return operator(x, scale, qmin=qmin, qmax=qmax, axis=axis)

    return {torch.ops.waveedge.fake_quantize.default: translate}
