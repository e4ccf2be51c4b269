"""Pass for onnxruntime: a strided convolution of an image reads neighbouring pixels as channels.

onnxruntime's integer convolution copies what each output reads, one row of the kernel at a time,
and then multiplies matrices. Of an image with three channels these are a few bytes at a time, and
the copies take as long as the product. With channels last, s neighbouring columns are one pixel of
s times the channels. These are the same bytes, so that seeing them so costs nothing; a kernel that
zeros fill up to whole pixels then moves by one of them instead of s.

1. A convolution in integers of 4 channels or fewer, in one group, without padding, with the same
   stride s of 2 or more in both directions and at least 1024 outputs a channel. It reads a
   quantized image or a part of it.
2. The columns, a multiple of s, become channels. With s = 2 so do the rows. These have to be moved,
   once for all convolutions of one image; with larger strides that costs what it saves.
3. Zeros make the kernel at most 1.5 times as large, or twice where another convolution has the
   image's pixels moved already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from waveedge.export.graph_editing import (
    array,
    constant,
    new_node,
    pads_of,
    producer,
    regridded,
    sizes_of,
    starts_of,
)
from waveedge.export.passes.base import NodePass

__all__ = ["SpaceToDepth"]

_CHANNELS = 4
_OUTPUTS = 1024
_GROWTH = 1.5
_GROWTH_IF_MOVED = 2.0
_Pair = tuple[int, int]


class _Stem(NamedTuple):
    """A convolution that rule 1 describes.

    Attributes:
        conv: the node.
        read, weight: the DequantizeLinear nodes of its inputs.
        image: the bytes that it reads, from row and column ``start`` on.
        stride: in both directions.
        outputs: rows and columns of the output.
    """

    conv: ir.Node
    read: ir.Node
    weight: ir.Node
    image: ir.Value
    start: _Pair
    stride: int
    outputs: _Pair

    @property
    def fold(self) -> _Pair:
        """How many rows, and columns, become channels (rule 2)."""
        return (2 if self.stride == 2 else 1), self.stride


class SpaceToDepth(NodePass):
    """Strided convolutions of an image read neighbouring pixels as channels. Exact.

    Runs on uint8 activations and int8 weights, with shapes inferred. What becomes unused stays.
    """

    exact = True

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        # Every image that convolutions read folded, to be folded once for all of them.
        self._folded: dict[tuple[ir.Value, _Pair], ir.Value | None] = {}
        for node in model.graph:
            stem = _stem(node) if node.op_type == "Conv" else None
            if stem is not None and _folded_kernel(stem, _GROWTH) is not None:
                self._folded[stem.image, stem.fold] = None
        return super().call(model)

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        stem = _stem(node) if node.op_type == "Conv" else None
        if stem is None or (stem.image, stem.fold) not in self._folded:
            return False
        kernel = _folded_kernel(stem, _GROWTH_IF_MOVED)
        if kernel is None:
            return False
        image = self._folded[stem.image, stem.fold] or _folded_image(graph, stem)
        self._folded[stem.image, stem.fold] = image
        _rewrite(graph, stem, image, kernel)
        return True


def _rewrite(graph: ir.Graph, stem: _Stem, image: ir.Value, kernel: NDArray[np.int8]) -> None:
    conv, extents = stem.conv, kernel.shape[2:]
    strides = [stem.stride // fold for fold in stem.fold]
    starts = [start // fold for start, fold in zip(stem.start, stem.fold, strict=True)]
    ends = [
        start + (count - 1) * stride + extent
        for start, count, stride, extent in zip(starts, stem.outputs, strides, extents, strict=True)
    ]
    part = new_node(
        conv,
        "Slice",
        [image, *(_numbers(graph, values) for values in (starts, ends, [2, 3]))],
        dtype=ir.DataType.UINT8,
    )
    read = new_node(conv, "DequantizeLinear", [part.outputs[0], *stem.read.inputs[1:]])
    integers = stem.weight.inputs[0]
    assert integers is not None
    folded = constant(graph, f"{integers.name}_folded", kernel)
    weight = new_node(
        conv, "DequantizeLinear", [folded, *stem.weight.inputs[1:]], suffix="_weight", axis=0
    )
    graph.insert_before(conv, [part, read, weight])
    conv.replace_input_with(0, read.outputs[0])
    conv.replace_input_with(1, weight.outputs[0])
    for name, values in (("kernel_shape", extents), ("strides", strides)):
        conv.attributes[name] = ir.AttrInt64s(name, list(values))


def _folded_kernel(stem: _Stem, growth: float) -> NDArray[np.int8] | None:
    """(O, C, h, w) as (O, fold * C, h', w'), with zeros around it; None if it grows by more."""
    integers = array(stem.weight.inputs[0])
    assert integers is not None
    out, channels, *extents = integers.shape
    pads = []
    for start, extent, fold in zip(stem.start, extents, stem.fold, strict=True):
        pads.append((start % fold, -(start % fold + extent) % fold))
    kernel = np.pad(integers, [(0, 0), (0, 0), *pads])
    if kernel.size > growth * integers.size:
        return None
    rows, columns = stem.fold
    height, width = kernel.shape[2] // rows, kernel.shape[3] // columns
    kernel = kernel.reshape(out, channels, height, rows, width, columns)
    return kernel.transpose(0, 3, 5, 1, 2, 4).reshape(out, -1, height, width)


def _folded_image(graph: ir.Graph, stem: _Stem) -> ir.Value:
    """(N, C, H, W) as (N, fold * C, H', W'), made with channels last."""
    channels, height, width = sizes_of(stem.image)
    rows, columns = stem.fold
    pixels = stem.image
    moved: list[ir.Node] = []

    def move(op_type: str, shape: Sequence[int] = (), **attributes: Any) -> None:
        nonlocal pixels
        inputs = [pixels, *([_numbers(graph, [0, *shape])] if shape else [])]
        suffix, uint8 = f"_fold{len(moved)}", ir.DataType.UINT8
        moved.append(new_node(stem.conv, op_type, inputs, suffix=suffix, dtype=uint8, **attributes))
        pixels = moved[-1].outputs[0]

    move("Transpose", perm=[0, 2, 3, 1])
    if rows > 1:
        move("Reshape", [height // rows, rows, width // columns, columns * channels])
        move("Transpose", perm=[0, 1, 3, 2, 4])
    move("Reshape", [height // rows, width // columns, rows * columns * channels])
    move("Transpose", perm=[0, 3, 1, 2])
    graph.insert_before(stem.conv, moved)
    return pixels


def _stem(conv: ir.Node) -> _Stem | None:
    read, weight = (producer(value, "DequantizeLinear") for value in conv.inputs[:2])
    if read is None or weight is None or array(weight.inputs[0]) is None:
        return None
    image, start = _image(read)
    if len(sizes := sizes_of(image)) != 3 or len(outputs := sizes_of(conv.outputs[0])) != 3:
        return None
    strides = _integers(conv, "strides", [1, 1])
    stem = _Stem(conv, read, weight, image, start, strides[0], (outputs[1], outputs[2]))
    unfit = sizes[0] > _CHANNELS or outputs[1] * outputs[2] < _OUTPUTS
    if unfit or strides[0] < 2 or strides[0] != strides[1] or pads_of(conv) != [0] * 4:
        return None
    if _integers(conv, "group", [1]) != [1] or _integers(conv, "dilations", [1, 1]) != [1, 1]:
        return None
    whole = all(size % fold == 0 for size, fold in zip(sizes[1:], stem.fold, strict=True))
    return stem if whole else None


def _image(read: ir.Node) -> tuple[ir.Value, _Pair]:
    """The bytes that a DequantizeLinear reads; of a part, the whole, and where the part begins."""
    own, source = read.inputs[0], regridded(read)
    assert own is not None
    crop = producer(source, "Slice")
    before = producer(crop.inputs[0] if crop is not None else source, "DequantizeLinear")
    start = _start(crop) if crop is not None else (0, 0)
    if before is None or start is None or before.inputs[1:] != read.inputs[1:]:
        return own, (0, 0)
    image, first = _image(before)
    return image, (first[0] + start[0], first[1] + start[1])


def _start(crop: ir.Node) -> _Pair | None:
    """First row and column of a Slice that takes nothing but rows and columns, in steps of one."""
    begin = starts_of(crop)
    before, after = sizes_of(crop.inputs[0]), sizes_of(crop.outputs[0])
    if begin is None or begin.get(0) or begin.get(1) or not after or before[:1] != after[:1]:
        return None
    return begin.get(2, 0), begin.get(3, 0)


def _integers(node: ir.Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    whole = attribute.type == ir.AttributeType.INT
    return [attribute.as_int()] if whole else list(attribute.as_ints())


def _numbers(graph: ir.Graph, values: Sequence[int]) -> ir.Value:
    return constant(graph, f"numbers_{'_'.join(map(str, values))}", np.array(values, np.int64))
