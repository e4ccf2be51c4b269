"""Passes for onnxruntime: paddings and crops beside a convolution become its own padding.

torch pads a convolution alike on both sides; whatever else a network needs (an odd map that a
wavelet transform extends by one row, the crop on the way back) stands as a Pad or Slice beside it,
and costs a pass over the map. ONNX allows a padding for each side.

1. ``FoldPadIntoConv``: ``Pad`` with zeros of height and width, read by convolutions alone: their
   padding. A quantizer in between reads the map without its padding, as zero is on every grid; one
   that repeats the grid of the map goes: what is on the grid stays there.
2. ``FoldCropIntoConvTranspose``: ``Slice`` of a transposed convolution's output that nothing else
   reads, in steps of one: negative growth, which is what padding means there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from waveedge.export.fake_quantize import activation_grid, grid_of
from waveedge.export.graph_editing import array, only_use, pads_of, producer, replace_value
from waveedge.export.passes.base import NodePass

__all__ = ["FoldCropIntoConvTranspose", "FoldPadIntoConv"]


class FoldPadIntoConv(NodePass):
    """Zeros around the maps of convolutions become their padding. Exact, to the bit.

    Runs while quantizers are FakeQuantize nodes.
    """

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        return node.op_type == "Pad" and _into_readers(graph, node)


class FoldCropIntoConvTranspose(NodePass):
    """The crop behind a transposed convolution becomes its padding. Exact, to the bit."""

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        return node.op_type == "Slice" and _into_transposed(graph, node)


def _into_readers(graph: ir.Graph, pad: ir.Node) -> bool:
    pads = _zero_padding(pad)
    output = pad.outputs[0]
    if pads is None or output.is_graph_output():
        return False
    quantizers = [use.node for use in output.uses() if grid_of(use.node) is not None]
    values = [output, *(quantizer.outputs[0] for quantizer in quantizers)]
    if any(value.is_graph_output() for value in values):
        return False
    uses = [use for value in values for use in value.uses() if use.node not in quantizers]
    if not uses or any(use.node.op_type != "Conv" or use.idx != 0 for use in uses):
        return False
    if any(pads_of(use.node) is None for use in uses):
        return False
    map_ = pad.inputs[0]
    assert map_ is not None
    for use in uses:
        _grow(use.node, pads)
    ir.convenience.replace_all_uses_with(output, map_)
    graph.remove(pad, safe=True)
    for quantizer in quantizers:
        value = quantizer.outputs[0]
        if _repeats(quantizer, map_):
            ir.convenience.replace_all_uses_with(value, map_)
            graph.remove(quantizer, safe=True)
        else:
            value.shape = map_.shape
    return True


def _repeats(quantizer: ir.Node, value: ir.Value | None) -> bool:
    """Whether ``value`` lies on the grid of a quantizer already."""
    own, grid = grid_of(quantizer), activation_grid(value)
    assert own is not None
    return (
        grid is not None
        and (own.qmin, own.qmax, own.axis) == (grid.qmin, grid.qmax, grid.axis)
        and np.array_equal(own.scale, grid.scale)
    )


def _zero_padding(pad: ir.Node) -> tuple[int, ...] | None:
    """(top, left, bottom, right) of a Pad of the last two of four dimensions with zeros."""
    mode = pad.attributes.get("mode")
    amounts, value, axes = (array(x) for x in (*pad.inputs[1:], None, None, None)[:3])
    constant = (mode is None or mode.as_string() == "constant") and (
        len(pad.inputs) < 3 or pad.inputs[2] is None or (value is not None and not value.any())
    )
    if not constant or amounts is None or (len(pad.inputs) > 3 and axes is None):
        return None
    dimensions = [int(axis) % 4 for axis in axes] if axes is not None else [0, 1, 2, 3]
    if len(amounts) != 2 * len(dimensions) or amounts.min() < 0:
        return None
    before = dict(zip(dimensions, map(int, amounts[: len(dimensions)]), strict=True))
    after = dict(zip(dimensions, map(int, amounts[len(dimensions) :]), strict=True))
    if any(before.get(dim) or after.get(dim) for dim in (0, 1)):
        return None
    return before.get(2, 0), before.get(3, 0), after.get(2, 0), after.get(3, 0)


def _into_transposed(graph: ir.Graph, crop: ir.Node) -> bool:
    map_ = crop.inputs[0]
    layer = producer(map_, "ConvTranspose")
    if map_ is None or layer is None:
        return False
    if only_use(map_) is None or pads_of(layer) is None or "output_shape" in layer.attributes:
        return False
    starts, ends, axes, steps = (array(x) for x in (*crop.inputs[1:], None, None)[:4])
    if starts is None or ends is None or axes is None or map_.shape is None:
        return False
    if (len(crop.inputs) > 4 and steps is None) or (steps is not None and (steps != 1).any()):
        return False
    grow = [0, 0, 0, 0]
    for start, end, axis in zip(starts, ends, axes, strict=True):
        size = map_.shape[int(axis)]
        if int(axis) not in (2, 3) or not isinstance(size, int):
            return False
        first, last, _ = slice(int(start), int(end)).indices(size)
        grow[int(axis) - 2], grow[int(axis)] = first, size - last
    _grow(layer, grow)
    replace_value(graph, crop, map_)
    return True


def _grow(layer: ir.Node, by: Sequence[int]) -> None:
    own = pads_of(layer)
    assert own is not None
    pads = [pad + more for pad, more in zip(own, by, strict=True)]
    layer.attributes["pads"] = ir.AttrInt64s("pads", pads)
