"""Pass for onnxruntime: a convolution of shifted parts of one map reads the map itself.

The phases of a transposed convolution are channels of one map, each a pixel further right or down;
a convolution behind it reads them cropped and concatenated. With channels last a crop and a
concatenation copy a few bytes at a time, once a pixel and part, which takes longer than a small
convolution. A kernel that holds each part's weights where that part lies, and zeros elsewhere,
reads the map as it is.

1. A quantized convolution in one group, without padding or dilation and with stride 1, is all that
   reads a Concat of channels. Every input of it is a Slice of the same map: channels that no other
   one takes, from some row and column on, on one grid all the way.
2. Together the parts, each as far as the kernel goes, reach the ends of the map.
3. The zeros add no more multiply-adds to an output pixel than the copies of the parts cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from waveedge.export.graph_editing import (
    array,
    constant,
    new_node,
    only_use,
    pads_of,
    producer,
    regridded,
    sizes_of,
    starts_of,
)
from waveedge.export.passes.base import NodePass

__all__ = ["ReadShiftedParts"]

_PART = 1500
_PART_SATURATING = 500
"""Multiply-adds that take as long as a crop and a concatenation of one part at one pixel: 5.4 ns
on AMD EPYC, at 370 G/s with VNNI; about a third of that rate where products saturate."""


class _Part(NamedTuple):
    """Channels ``first`` to ``last`` of ``map``, cropped from ``row`` and ``column`` on."""

    map: ir.Node
    first: int
    last: int
    row: int
    column: int


class ReadShiftedParts(NodePass):
    """Convolutions of shifted parts of one map read the map through zeros. Exact, to the bit.

    Runs on uint8 activations and int8 weights, with shapes inferred. What becomes unused stays.

    Args:
        saturates: whether weights will be uint8, whose products are slower.
    """

    exact = True

    def __init__(self, *, saturates: bool = False) -> None:
        super().__init__()
        self._part = _PART_SATURATING if saturates else _PART

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.op_type != "Conv" or not _slides(node):
            return False
        read, weight = (producer(value, "DequantizeLinear") for value in node.inputs[:2])
        if read is None or weight is None:
            return False
        source = weight.inputs[0]
        parts, integers = _parts(read), array(source)
        if not parts or source is None or integers is None:
            return False
        kernel = _kernel(parts, integers)
        if kernel is None or kernel.size - integers.size > self._part * len(parts):
            return False
        # What a runtime executes is told by the beginning of a weight's name (export/layers.py).
        stored = constant(graph, f"{source.name}_apart", kernel)
        reads = new_node(node, "DequantizeLinear", [stored, *weight.inputs[1:]], axis=0)
        graph.insert_before(node, [reads])
        node.replace_input_with(0, parts[0].map.outputs[0])
        node.replace_input_with(1, reads.outputs[0])
        node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", kernel.shape[2:])
        return True


def _slides(conv: ir.Node) -> bool:
    """Whether a convolution is as rule 1 says, beside what it reads."""
    numbers = {
        name: list(attribute.as_ints())
        for name, attribute in conv.attributes.items()
        if attribute.type == ir.AttributeType.INTS
    }
    groups = conv.attributes.get("group")
    plain = all(set(numbers.get(name, [1])) == {1} for name in ("strides", "dilations"))
    return plain and pads_of(conv) == [0] * 4 and (groups is None or groups.as_int() == 1)


def _parts(read: ir.Node) -> list[_Part]:
    """What a convolution reads, of rules 1 and 2; nothing where it is something else."""
    concat = producer(regridded(read), "Concat")
    if concat is None or concat.attributes["axis"].as_int() != 1:
        return []
    if only_use(concat.outputs[0]) is None or only_use(read.outputs[0]) is None:
        return []
    parts = []
    for value in concat.inputs:
        own = producer(value, "DequantizeLinear")
        crop = producer(regridded(own), "Slice") if own is not None else None
        part = _part(crop) if crop is not None else None
        if own is None or part is None or list(own.inputs[1:]) != list(read.inputs[1:]):
            return []
        parts.append(part)
    whole, size = sizes_of(parts[0].map.outputs[0]), sizes_of(concat.outputs[0])
    ranges = sorted(part[1:3] for part in parts)
    apart = all(last <= first for (_, last), (first, _) in pairwise(ranges))
    one_map = all(part.map is parts[0].map for part in parts)
    one_grid = list(parts[0].map.inputs[1:]) == list(read.inputs[1:])
    if not (apart and one_map and one_grid and whole and size):
        return []
    ends = [size[1] + max(part.row for part in parts), size[2] + max(part.column for part in parts)]
    begins = [min(part.row for part in parts), min(part.column for part in parts)]
    return parts if ends == whole[1:] and begins == [0, 0] else []


def _part(crop: ir.Node) -> _Part | None:
    source = producer(crop.inputs[0], "DequantizeLinear")
    begin = starts_of(crop)
    before, after = sizes_of(crop.inputs[0]), sizes_of(crop.outputs[0])
    if source is None or begin is None or not before or not after or begin.get(0):
        return None
    first = begin.get(1, 0)
    return _Part(source, first, first + after[0], begin.get(2, 0), begin.get(3, 0))


def _kernel(parts: Sequence[_Part], integers: NDArray[Any]) -> NDArray[Any]:
    """(O, C of the parts, h, w) as (O, C of the map, h', w'), with zeros where no part lies."""
    out, _, height, width = integers.shape
    rows, columns = max(part.row for part in parts), max(part.column for part in parts)
    channels = sizes_of(parts[0].map.outputs[0])[0]
    kernel = np.zeros((out, channels, height + rows, width + columns), integers.dtype)
    begin = 0
    for part in parts:
        end = begin + part.last - part.first
        lies = slice(part.row, part.row + height), slice(part.column, part.column + width)
        kernel[(slice(None), slice(part.first, part.last), *lies)] = integers[:, begin:end]
        begin = end
    return kernel
