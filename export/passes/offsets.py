"""Pass: grids with a zero point for runtimes that take none: tensors are stored shifted.

A grid ``scale * {qmin .. qmax}`` of 8 bits that is not int8's holds ``x``; ``x - offset`` lies on
int8's own, with ``offset`` = ``scale * (qmin + 128)``. Whoever reads the tensor adds the offset
again, and most add it for nothing:

1. Conv and Gemm with a constant bias and weight, without padding: ``offset * (sum of the weights)``
   becomes part of the bias. Such a layer in front of the quantizer, read by nothing else, takes
   ``-offset`` into its bias.
2. A Conv that pads with zeros: these are ``-offset`` of the stored tensor. It is padded with that
   in front of a quantizer of its own, and the Conv pads nothing. -128 stands for it, or another
   point of the grid: nothing is lost.
3. Operators that only move elements move the stored ones; a Concat of tensors with one offset, too.
4. A sum has the sum of offsets.
5. Everybody else reads ``Add(offset)``.

The numbers are those of the grid with the zero point, but for the order of float additions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from waveedge.export.fake_quantize import REARRANGING, Grid, grid_of
from waveedge.export.graph_editing import array, constant, new_node, only_use, pads_of, producer
from waveedge.export.origins import note_offset

__all__ = ["Offsets"]


class Offsets(ir.passes.InPlacePass):
    """Activation grids of 8 bits get int8's zero point 0. Exact.

    Runs on quantized weights, while activation quantizers are FakeQuantize nodes.
    """

    exact = True

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Visits the nodes in order, and knows of every value what it is short of."""
        self._graph = model.graph
        self._offsets: dict[ir.Value, float] = {}
        self._whole: dict[ir.Value, ir.Value] = {}
        for node in list(model.graph):
            self._visit(node)
        for index, value in enumerate(list(model.graph.outputs)):
            if self._offset(value):
                name, whole = value.name, self._restored(value)
                model.graph.outputs[index] = whole
                value.name, whole.name = f"{name}_stored", name
        return ir.passes.PassResult(model, bool(self._offsets))

    def _offset(self, value: ir.Value | None) -> float:
        return self._offsets.get(value, 0.0) if value is not None else 0.0

    def _visit(self, node: ir.Node) -> None:
        grid = grid_of(node)
        if grid is not None and grid.axis < 0 and array(node.inputs[0]) is None:
            self._quantizer(node, grid)
            return
        own = [self._offset(value) for value in node.inputs]
        if not any(own):
            return
        moves = node.op_type in REARRANGING and not any(own[1:])
        if moves or (node.op_type == "Concat" and len(set(own)) == 1):
            self._offsets[node.outputs[0]] = own[0]
        elif node.op_type == "Add" and _as_large(node):
            self._offsets[node.outputs[0]] = sum(own)
        elif not (own[0] and self._into_bias(node, own[0])):
            for index, value in enumerate(node.inputs):
                if value is not None and self._offset(value):
                    node.replace_input_with(index, self._restored(value))

    def _quantizer(self, node: ir.Node, grid: Grid) -> None:
        x = node.inputs[0]
        steps = -grid.zero_point
        offset = float(grid.scale) * steps
        if steps:
            for name, end in (("qmin", grid.qmin), ("qmax", grid.qmax)):
                node.attributes[name] = ir.AttrInt64(name, end - steps)
            note_offset(node, steps)
            self._offsets[node.outputs[0]] = offset
        change = self._offset(x) - offset
        if change and x is not None:
            layer = x.producer()
            bias = _bias_of(layer) if layer is not None and only_use(x) is not None else None
            if layer is not None and bias is not None:
                self._rebias(layer, bias + change)
                return
            node.replace_input_with(0, self._added(node, x, change))

    def _into_bias(self, node: ir.Node, offset: float) -> bool:
        """Rules 1 and 2."""
        bias, sums = _bias_of(node), _sums_of_weights(node)
        if bias is None or sums is None:
            return False
        if node.op_type == "Conv" and any(pads_of(node) or [1]) and not self._pad(node, offset):
            return False
        self._rebias(node, bias + offset * sums)
        return True

    def _pad(self, conv: ir.Node, offset: float) -> bool:
        """Let a convolution read a quantizer of its own that is padded in front."""
        pads, x = pads_of(conv), conv.inputs[0]
        quantizer = x.producer() if x is not None else None
        if pads is None or quantizer is None or grid_of(quantizer) is None:
            return False
        source = quantizer.inputs[0]
        numbers: dict[str, NDArray[Any]] = {
            "pads": np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64),
            "value": np.array(-offset, np.float32),
        }
        inputs = [
            constant(self._graph, f"{conv.name}/{key}", data) for key, data in numbers.items()
        ]
        pad = new_node(conv, "Pad", [source, *inputs], mode="constant")
        again = ir.node(
            quantizer.op_type,
            [pad.outputs[0], quantizer.inputs[1]],
            attributes=quantizer.attributes,
            domain=quantizer.domain,
        )
        again.name = f"{conv.name}/{quantizer.op_type}"
        again.outputs[0].name = f"{again.name}_out"
        again.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        self._graph.insert_before(conv, [pad, again])
        conv.replace_input_with(0, again.outputs[0])
        conv.attributes["pads"] = ir.AttrInt64s("pads", [0] * len(pads))
        return True

    def _rebias(self, layer: ir.Node, bias: NDArray[np.float64]) -> None:
        value = constant(self._graph, f"{layer.name}/bias", bias.astype(np.float32))
        if len(layer.inputs) < 3:
            layer.resize_inputs(3)
        layer.replace_input_with(2, value)

    def _restored(self, value: ir.Value) -> ir.Value:
        """A stored tensor with its offset, for whoever needs it whole."""
        if value not in self._whole:
            node = value.producer()
            assert node is not None
            self._whole[value] = self._added(node, value, self._offset(value), behind=True)
        return self._whole[value]

    def _added(
        self, like: ir.Node, value: ir.Value, number: float, *, behind: bool = False
    ) -> ir.Value:
        amount = constant(self._graph, f"{like.name}/offset", np.array(number, np.float32))
        add = new_node(
            like, "Add", [value, amount], suffix="_behind" if behind else "", shape=value.shape
        )
        insert = self._graph.insert_after if behind else self._graph.insert_before
        insert(like, [add])
        return add.outputs[0]


def _as_large(node: ir.Node) -> bool:
    """Whether a sum's first or second input has all its elements: the other only repeats."""
    shape = node.outputs[0].shape
    return shape is not None and any(v is not None and v.shape == shape for v in node.inputs)


def _bias_of(node: ir.Node) -> NDArray[np.float64] | None:
    """The bias of a layer that can have a constant one, zeros where it has none; (outputs,)."""
    sums = _sums_of_weights(node)
    if sums is None:
        return None
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros_like(sums)
    bias = array(node.inputs[2])
    return bias.astype(np.float64) if bias is not None and bias.shape == sums.shape else None


def _sums_of_weights(node: ir.Node) -> NDArray[np.float64] | None:
    """What every output of a layer gets of an input of ones; (outputs,)."""
    weight = producer(node.inputs[1], "DequantizeLinear") if len(node.inputs) > 1 else None
    integers, scale = map(array, weight.inputs[:2]) if weight is not None else (None, None)
    if integers is None or scale is None:
        return None
    if node.op_type == "Conv":
        axes = tuple(range(1, integers.ndim))
    elif node.op_type == "Gemm" and all(
        node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta")
    ):
        if node.attributes.get_int("transA", 0):
            return None
        axes = (node.attributes.get_int("transB", 0),)
    else:
        return None
    sums = integers.astype(np.int64).sum(axis=axes) * scale.astype(np.float64)
    return np.asarray(sums)
