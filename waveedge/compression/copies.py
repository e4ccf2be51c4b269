"""Pixels of the image that are copied to the output past every rounding, by an exact rewrite.

A network that enlarges or restores an image adds what its layers find to what a convolution makes
of the image: nearly an interpolation of it. That term has the range of a whole image, and 8 bits
for it cost the output as much as the rounding of all layers together. It is ``D + N``: ``N`` copies
a pixel to every output, and ``D`` is what the interpolation adds to that, a tenth as large.

1. A sum that becomes an output on the grid of pixels (:mod:`~waveedge.compression.centre`), with a
   term that convolutions of the image make, on the same grid. They yield D where 1 is taken from
   the weight of the pixel that is copied; ``N`` is added to the sum last. ``N`` lies on the grid
   of pixels, and so do the sum before it and the output: nothing is lost in between.
2. Of the pixels that all these convolutions read (those at the borders read fewer), the one of
   the largest weight is copied, if that leaves the channel less on the images looked at.
3. Where that divides the squared error of rounding the term by 4 (6 dB) or more.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from waveedge.compression.graph_queries import layer_of
from waveedge.compression.image_terms import ImageTerm, image_term, sums
from waveedge.compression.keeper import Keeper
from waveedge.compression.pixels import rounding_error
from waveedge.compression.reparameterize import Judge, Shapes, fresh_name, judged
from waveedge.nn import PixelCopy, Shift

__all__ = ["copied_last", "copy_pixels_last"]

_GAIN = 4.0
"""How much smaller the squared error of rounding the term must become."""


def copied_last(
    graph: fx.GraphModule,
    shape: tuple[int, ...],
    images: Sequence[NDArray[np.float32]],
    judge: Judge,
    keep: Collection[str] = (),
) -> fx.GraphModule:
    """``graph`` with copied pixels added last, if it then computes the same; else as it is."""

    def change(form: fx.GraphModule) -> list[str]:
        return copy_pixels_last(form, Shapes(form, shape), images, keep)

    return judged("copy", graph, change, judge)


@torch.no_grad()
def copy_pixels_last(
    graph: fx.GraphModule,
    shapes: Shapes,
    images: Sequence[NDArray[np.float32]],
    keep: Collection[str] = (),
) -> list[str]:
    """Rewrite a network whose images are centred, in place; see the module's head.

    Args:
        graph: the network in floating point.
        shapes: the shapes of its values.
        images: (1, C, H, W) float32, to see the term on.
        keep: names of layers that are not rounded, and so are left alone.

    Returns:
        the names of the convolutions that yield less than they did.
    """
    shifts = [node for node in graph.graph.nodes if isinstance(layer_of(graph, node), Shift)]
    if len(shifts) != 2:
        return []
    image, output = shifts
    step, other = (float(layer_of(graph, node).step) for node in shifts)  # type: ignore[union-attr, arg-type]
    if step != other:
        return []
    done: list[str] = []
    for total in list(sums(graph, output.all_input_nodes[0])):
        term = image_term(graph, total, image, shapes)
        if term is None or any(piece.name in keep for piece in term.pieces):
            continue
        if _split(graph, image, total, term, shapes, images, step):
            done += [piece.name for piece in term.pieces]
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return done


def _split(
    graph: fx.GraphModule,
    image: fx.Node,
    total: fx.Node,
    term: ImageTerm,
    shapes: Shapes,
    images: Sequence[NDArray[np.float32]],
    step: float,
) -> bool:
    """Split a term where that pays; return whether it did."""
    taps = _largest(term)
    if taps is None:
        return False
    copies = _insert(graph, image, total, term, shapes, taps, step)
    seen = _observed(graph, images, term.node, copies)
    whole, copied = ([values[position] for values in seen] for position in (0, 1))
    quieter = _power([a - n for a, n in zip(whole, copied, strict=True)]) < _power(whole)
    chosen = quieter.reshape(-1, 1, 1)
    rest = [a - n * chosen for a, n in zip(whole, copied, strict=True)]
    if rounding_error(rest) * _GAIN > rounding_error(whole):
        return False  # the copies have no reader, and go
    layer = layer_of(graph, copies)
    assert isinstance(layer, PixelCopy)
    layer.take(torch.where(quieter[:, None], taps - _corner(taps), -1))
    for output in quieter.nonzero().flatten().tolist():
        channel, row, column = taps[output].tolist()
        for piece in term.pieces:
            top, left = piece.offset
            piece.conv.weight[output, channel, row - top, column - left] -= 1
    moved = copies
    for move in term.moves:
        moved = _moved(graph, moved, like=move)
    with graph.graph.inserting_after(moved):
        last = graph.graph.call_function(operator.add, (total, moved))
    total.replace_all_uses_with(last, delete_user_cb=lambda user: user is not last)
    return True


def _largest(term: ImageTerm) -> Tensor | None:
    """Of every output channel the pixel with the largest weight that every piece reads.

    Returns:
        (outputs, 3) of integers: channel, and row and column of the image, for output (0, 0).
    """
    rows, columns = term.window(0), term.window(1)
    if not rows or not columns:
        return None
    piece = max(term.pieces, key=lambda piece: piece.outputs[0] * piece.outputs[1])
    top, left = piece.offset
    weight = piece.conv.weight[
        :, :, rows[0] - top : rows[-1] + 1 - top, columns[0] - left : columns[-1] + 1 - left
    ]
    place = weight.flatten(1).argmax(1)
    width, size = len(columns), len(rows) * len(columns)
    return torch.stack(
        [place // size, place % size // width + rows[0], place % width + columns[0]], 1
    )


def _corner(taps: Tensor) -> Tensor:
    """(0, row, column) of the upper left corner of the smallest kernel that holds all taps."""
    return taps.amin(0) * torch.tensor([0, 1, 1])


def _insert(
    graph: fx.GraphModule,
    image: fx.Node,
    total: fx.Node,
    term: ImageTerm,
    shapes: Shapes,
    taps: Tensor,
    step: float,
) -> fx.Node:
    """Put a layer that copies ``taps`` into the graph, after ``total``; nothing reads it yet."""
    first, last = _corner(taps)[1:].tolist(), taps[:, 1:].amax(0).tolist()
    kernel = (last[0] - first[0] + 1, last[1] - first[1] + 1)
    parts = [_lines(term, axis, first[axis], kernel[axis], shapes, image) for axis in (0, 1)]
    like = term.pieces[0].conv
    layer = PixelCopy(like.in_channels, like.out_channels, kernel, term.stride, step)
    layer.to(like.weight)
    layer.take(taps - _corner(taps))
    home, _, _ = term.pieces[0].name.rpartition(".")
    name = fresh_name(graph, f"{home}.copies" if home else "copies")
    graph.add_submodule(name, layer.eval())
    with graph.graph.inserting_after(total):
        source = image
        if parts != [slice(0, None)] * 2:
            slices = (slice(None), slice(None), *parts)
            source = graph.graph.call_function(operator.getitem, (image, slices))
    with graph.graph.inserting_after(total if source is image else source):
        return graph.graph.call_module(name, (source,))


def _moved(graph: fx.GraphModule, value: fx.Node, like: fx.Node) -> fx.Node:
    """``value`` by the same move as another."""
    with graph.graph.inserting_after(value):
        return graph.graph.node_copy(like, lambda _: value)


def _lines(
    term: ImageTerm, axis: int, first: int, kernel: int, shapes: Shapes, image: fx.Node
) -> slice:
    """The rows (0) or columns (1) of the image that the copies read, as many at any size."""
    extent, outputs = shapes[image][2 + axis], shapes[term.node][2 + axis]
    widest = max(term.pieces, key=lambda piece: piece.outputs[axis])
    end = first + term.stride[axis] * (outputs - 1) + kernel + widest.slack[axis]
    return slice(first, end - extent if end < extent else None)


def _observed(
    graph: fx.GraphModule, images: Sequence[NDArray[np.float32]], *nodes: fx.Node
) -> list[list[Tensor]]:
    """The values of some nodes, for every image."""
    found: list[list[Tensor]] = []
    like = next(graph.parameters())
    keeper = Keeper(graph, nodes)
    for image in images:
        keeper.run(torch.from_numpy(image).to(like))
        found.append([keeper.kept[node] for node in nodes])
    return found


def _power(values: Sequence[Tensor]) -> Tensor:
    """Mean square of every channel, (channels,)."""
    return torch.stack([value.square().mean((0, 2, 3)) for value in values]).mean(0)
