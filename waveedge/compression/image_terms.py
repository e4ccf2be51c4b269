"""The terms of a sum that convolutions of the image make, and where each reads the image.

Borders make several convolutions of one, which read parts of the image and whose outputs are
concatenated. In pixels of the whole image, output ``i`` of any of them reads from
``stride * i + offset`` on, with one stride for all, and an offset for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import fx, nn

from waveedge.compression.graph_queries import (
    concatenated_along,
    is_addition,
    is_pass_through,
    layer_of,
    sliced,
)
from waveedge.compression.reparameterize import Shapes

__all__ = ["ImageTerm", "Piece", "image_term", "sums"]

_AXES = (2, 3)


@dataclass(frozen=True)
class Piece:
    """A convolution that makes a part of a term.

    Attributes:
        conv: it.
        name: its name in the network.
        offset: the row and the column of the image where the kernel would stand for output
            (0, 0) of the whole term.
        part: the slices of the image that it reads.
        slack: rows and columns at the end of these that no kernel reaches.
        outputs: how many rows and columns it makes.
    """

    conv: nn.Conv2d
    name: str
    offset: tuple[int, int]
    part: tuple[slice, slice]
    slack: tuple[int, int]
    outputs: tuple[int, int]


@dataclass(frozen=True)
class ImageTerm:
    """A term of a sum that convolutions of the image make, each of which reads it alone.

    Attributes:
        node: what they make, (N, C, height, width).
        pieces: the convolutions.
        moves: operations that move its values before they are added, the first one first.
    """

    node: fx.Node
    pieces: tuple[Piece, ...]
    moves: tuple[fx.Node, ...]

    @property
    def stride(self) -> tuple[int, int]:
        """Of all its convolutions, in pixels."""
        vertical, horizontal = self.pieces[0].conv.stride
        return vertical, horizontal

    def window(self, axis: int) -> range:
        """Rows (0) or columns (1) of the image that every piece reads for output 0."""
        return range(
            max(piece.offset[axis] for piece in self.pieces),
            min(piece.offset[axis] + piece.conv.kernel_size[axis] for piece in self.pieces),
        )


def sums(graph: fx.GraphModule, value: fx.Node) -> Iterator[fx.Node]:
    """The last additions whose sums, moved only, are ``value``; all is read by nothing else."""
    if len(value.users) != 1:
        return
    if is_addition(value):
        yield value
    elif is_pass_through(graph, value) or concatenated_along(value) is not None:
        for source in value.all_input_nodes:
            yield from sums(graph, source)


def image_term(
    graph: fx.GraphModule, total: fx.Node, image: fx.Node, shapes: Shapes
) -> ImageTerm | None:
    """The term of a sum that convolutions of the image make, if one of its terms is such.

    Args:
        graph: the network.
        total: an addition in it.
        image: the value whose pixels are read.
        shapes: of all values.
    """
    if len(total.all_input_nodes) != 2 or total.kwargs:  # a value doubled, or times a number
        return None
    for node in total.all_input_nodes:
        if is_addition(node) and len(node.users) == 1:
            found = image_term(graph, node, image, shapes)
        else:
            found = _term(graph, node, image, shapes)
        # A term that has to be repeated to be added is not added pixel by pixel.
        if found and shapes[(found.node, *found.moves)[-1]] == shapes[total]:
            return found
    return None


def _term(graph: fx.GraphModule, node: fx.Node, image: fx.Node, shapes: Shapes) -> ImageTerm | None:
    pieces: list[Piece] = []
    moves: list[fx.Node] = []
    while _moves(graph, node) and len(node.users) == 1:
        moves.insert(0, node)
        node = node.all_input_nodes[0]
    waiting = [(node, [0, 0])]
    while waiting:
        value, start = waiting.pop()
        axis = concatenated_along(value)
        if len(value.users) != 1:
            return None
        if axis in _AXES:
            for part in value.args[0]:  # type: ignore[union-attr]
                assert isinstance(part, fx.Node)
                waiting.append((part, [*start]))
                start[_AXES.index(axis)] += shapes[part][axis]
            continue
        piece = _piece(graph, value, image, shapes, start)
        if piece is None:
            return None
        pieces.append(piece)
    strides = {piece.conv.stride for piece in pieces}
    return ImageTerm(node, tuple(pieces), tuple(moves)) if len(strides) == 1 else None


def _moves(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node moves values whatever they are, and so does to each term of a sum the same."""
    chooses = isinstance(layer_of(graph, node), nn.MaxPool2d) or node.target is F.max_pool2d
    return is_pass_through(graph, node) and not chooses


def _piece(
    graph: fx.GraphModule, node: fx.Node, image: fx.Node, shapes: Shapes, start: list[int]
) -> Piece | None:
    conv = layer_of(graph, node)
    # Of its own kind: what is split already, or has other weights than it shows, is left alone.
    if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.dilation != (1, 1):
        return None
    if conv.padding != (0, 0) or sum(n.target == node.target for n in graph.graph.nodes) != 1:
        return None
    part = _part(node.all_input_nodes[0], image)
    if part is None:
        return None
    reach = [range(shapes[image][axis])[lines] for axis, lines in zip(_AXES, part, strict=True)]
    outputs = shapes[node][2:]
    first, second = (
        lines[0] - stride * begin
        for lines, stride, begin in zip(reach, conv.stride, start, strict=True)
    )
    slack_rows, slack_columns = (
        (len(lines) - kernel) % stride
        for lines, kernel, stride in zip(reach, conv.kernel_size, conv.stride, strict=True)
    )
    return Piece(
        conv,
        str(node.target),
        (first, second),
        part,
        (slack_rows, slack_columns),
        (outputs[0], outputs[1]),
    )


def _part(value: fx.Node, image: fx.Node) -> tuple[slice, slice] | None:
    """The rows and columns of the image that a value is; None where it is something else."""
    if value is image:
        return slice(None), slice(None)
    return sliced(value) if value.all_input_nodes[:1] == [image] else None
