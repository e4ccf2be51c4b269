"""Images moved to the middle of the signed grid, so that 8-bit pixels lie on it without error.

Pixels in 0 .. 1 use half of a symmetric 8-bit grid, and rounding them costs a network that makes
images as much as all of its layers. ``x - 128/255`` is exact on the grid of step 1/255. The shift
is an exact rewrite:

1. Convolutions that read the image read the shifted image, and their biases take the shift up:
   ``W (x - m) + (b + sum(W) m)``. Zeros that they padded the image with are now put around it
   before the shift; a convolution that reads a part of the image reads that part of the padded one.
2. The network's output is shifted back by a last addition, in floating point. The layer that
   makes the image yields it shifted: through operations that only move values, concatenations
   (all inputs) and additions (of the inputs the one that is larger for an even grey image).
   Every value on the way must have no other reader.

Both are for networks that make images out of images (super-resolution, restoration), with pixels
of one range in all channels, and each for an end that is an image indeed
(:mod:`~waveedge.compression.pixels`).
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from waveedge.compression.graph_queries import (
    concatenated_along,
    is_addition,
    is_pass_through,
    layer_of,
    sliced,
)
from waveedge.compression.pixels import End, pixel_grid
from waveedge.compression.reparameterize import Judge, judged
from waveedge.nn import Shift
from waveedge.spec import ModelSpec

__all__ = ["centre_images", "centred"]

_Slices = tuple[slice, slice]
"""Rows and columns of a part of the image; those at its end are counted from there."""


def centred(
    graph: fx.GraphModule,
    spec: ModelSpec,
    size: tuple[int, int],
    ends: Collection[End],
    judge: Judge,
) -> fx.GraphModule:
    """``graph`` with its images centred, if it then computes the same; else as it is."""
    return judged("centre", graph, lambda form: centre_images(form, spec, size, ends), judge)


def centre_images(
    graph: fx.GraphModule, spec: ModelSpec, size: tuple[int, int], ends: Collection[End]
) -> None:
    """Rewrite ``graph`` in place.

    What is done depends on the structure and on ``ends`` alone, apart from which input of an
    addition takes the shift up: that changes numbers, not the form.

    Args:
        graph: a network with one input.
        spec: its task, and the range of its pixels.
        size: (height, width) of the image in pixels.
        ends: which of the input and the output are images.
    """
    pixels = pixel_grid(spec)
    if pixels is None or not ends:
        return
    middle = float(torch.tensor(pixels.middle))  # as the graph will hold it
    if "output" in ends:
        grey = torch.full((1, spec.channels, *size), middle).to(next(graph.parameters()))
        _centre_output(graph, middle, pixels.step, grey)
    if "input" in ends:
        _centre_input(graph, middle, pixels.step, size)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()


@dataclass(frozen=True)
class _Reader:
    """A convolution that reads a part of the image, and the part with what it pads."""

    node: fx.Node
    part: _Slices
    padding: tuple[int, int]


def _centre_input(graph: fx.GraphModule, middle: float, step: float, size: tuple[int, int]) -> None:
    image = next(node for node in graph.graph.nodes if node.op == "placeholder")
    readers = list(_readers(graph, image, size))
    if not readers:
        return
    border = [max(reader.padding[dim] for reader in readers) for dim in (0, 1)]
    graph.add_submodule("image_centred", Shift(-middle, step))
    with graph.graph.inserting_after(image):
        source = image
        if any(border):
            sides = (border[1], border[1], border[0], border[0])
            source = graph.graph.call_function(F.pad, (image, sides))
    with graph.graph.inserting_after(source):
        centred = graph.graph.call_module("image_centred", (source,))
    parts: dict[Any, fx.Node] = {((0, None), (0, None)): centred}
    for reader in readers:
        part = tuple(map(_on_padded, reader.part, border, reader.padding))
        if part not in parts:
            slices = (slice(None), slice(None), *(slice(start, stop) for start, stop in part))
            with graph.graph.inserting_after(centred):
                parts[part] = graph.graph.call_function(operator.getitem, (centred, slices))
        conv = layer_of(graph, reader.node)
        assert isinstance(conv, nn.Conv2d)
        _shift_input(conv, middle)
        conv.padding, conv._reversed_padding_repeated_twice = (0, 0), [0, 0, 0, 0]
        reader.node.args = (parts[part],)


def _readers(graph: fx.GraphModule, image: fx.Node, size: tuple[int, int]) -> Iterator[_Reader]:
    whole: _Slices = (slice(None), slice(None))
    for user in image.users:
        if reader := _reader(graph, user, whole, size):
            yield reader
        elif (part := _part(user, size)) is not None:
            found = [_reader(graph, reader, part, size) for reader in user.users]
            yield from (reader for reader in found if reader)


def _reader(
    graph: fx.GraphModule, node: fx.Node, part: _Slices, size: tuple[int, int]
) -> _Reader | None:
    conv = layer_of(graph, node)
    if not isinstance(conv, nn.Conv2d) or conv.padding_mode != "zeros":
        return None
    if isinstance(conv.padding, str) or not _called_once(graph, node):
        return None
    for lines, extent, padding in zip(part, size, conv.padding, strict=True):
        if padding and lines.indices(extent) != (0, extent, 1):  # zeros where the image goes on
            return None
    vertical, horizontal = conv.padding
    return _Reader(node, part, (vertical, horizontal))


def _on_padded(part: slice, edge: int, padding: int) -> tuple[int, int | None]:
    """Where a part of an axis, with its own padding, lies on one that is padded by ``edge``."""
    start, stop = part.start or 0, part.stop or 0
    start += (edge if start >= 0 else -edge) - padding
    stop += (edge if stop > 0 else -edge) + padding
    return start, stop or None


def _part(node: fx.Node, size: tuple[int, int]) -> _Slices | None:
    """The part of the image that a slice takes, if it slices rows and columns alone."""
    part = sliced(node)
    if part is None:
        return None
    rows, columns = (
        slice(lines.start, None if (lines.stop or 0) >= extent else lines.stop)
        for lines, extent in zip(part, size, strict=True)
    )
    return rows, columns


def _centre_output(graph: fx.GraphModule, middle: float, step: float, grey: Tensor) -> None:
    output = next(node for node in graph.graph.nodes if node.op == "output")
    value = output.args[0]
    if not isinstance(value, fx.Node):
        return
    convs = _producers(graph, value, _Means(graph, grey))
    for node in convs:
        conv = layer_of(graph, node)
        assert isinstance(conv, nn.Conv2d)
        _add_to_bias(conv, torch.tensor(-middle, dtype=torch.float64))
    if convs:
        graph.add_submodule("image_restored", Shift(middle, step))
        with graph.graph.inserting_after(value):
            restored = graph.graph.call_module("image_restored", (value,))
        output.replace_input_with(value, restored)


class _Means(dict[fx.Node, float]):
    """Magnitude of the mean of every value that the network computes for one image."""

    def __init__(self, graph: fx.GraphModule, image: Tensor) -> None:
        super().__init__()
        self.graph = graph
        self.image = image

    def __missing__(self, wanted: fx.Node) -> float:
        means = self

        class Recorder(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                result = super().run_node(n)
                means[n] = float(result.mean().abs()) if isinstance(result, Tensor) else 0.0
                return result

        with torch.no_grad():
            Recorder(self.graph).run(self.image)
        return self[wanted]


def _producers(graph: fx.GraphModule, value: fx.Node, means: _Means) -> list[fx.Node]:
    """The convolutions whose biases shift ``value`` as a whole; none where that cannot be."""
    if len(value.users) != 1:
        return []
    if isinstance(layer_of(graph, value), nn.Conv2d):
        return [value] if _called_once(graph, value) else []
    if is_pass_through(graph, value):
        return _producers(graph, value.all_input_nodes[0], means)
    found = {source: _producers(graph, source, means) for source in value.all_input_nodes}
    if not found or not all(found.values()):
        return []
    if concatenated_along(value) is not None:
        return [conv for convs in found.values() for conv in convs]
    return found[max(found, key=means.__getitem__)] if is_addition(value) else []


def _called_once(graph: fx.GraphModule, node: fx.Node) -> bool:
    calls = [other for other in graph.graph.nodes if other.target == node.target]
    return len(calls) == 1


def _shift_input(conv: nn.Conv2d, middle: float) -> None:
    """Let a convolution that read x read x - middle."""
    _add_to_bias(conv, conv.weight.detach().double().sum(dim=(1, 2, 3)) * middle)


def _add_to_bias(conv: nn.Conv2d, change: Tensor) -> None:
    bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
    conv.bias = nn.Parameter((bias.double() + change).to(conv.weight.dtype))
