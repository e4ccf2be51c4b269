"""Find residual streams: a map that layers write to by adding, and that others read."""

from __future__ import annotations

import itertools
import operator
from typing import Literal, NamedTuple

import torch
from torch import fx, nn

from .linear_steps import Step, step_of
from .phases import SpaceToPhase
from .rewrite import Rewrite, Shapes, called, numel, only_user, source

__all__ = ["Reader", "Stream", "Term", "describe", "find_streams"]

Tail = Literal["", "phases", "pool"]


class Term(NamedTuple):
    """What one addition contributes: linear ``layers`` (possibly none) applied to ``origin``.

    The origin is the narrowest value of the chain of layers that ends in the addition: every reader
    repeats what comes after it.
    """

    origin: fx.Node
    layers: tuple[fx.Node, ...]
    steps: tuple[Step, ...]


class Reader(NamedTuple):
    """Linear layers that read a value of the stream, and how they end.

    Attributes:
        layers: the layers, in order; the value after any of them can be had without the stream.
        steps: the same, as steps.
        tail: what follows the last layer: nothing of note, phases, or a global mean.
        last: the node that the tail yields; the last layer where there is no tail.
    """

    layers: tuple[fx.Node, ...]
    steps: tuple[Step, ...]
    tail: Tail
    last: fx.Node


class Stream(NamedTuple):
    """Values x_0, x_1, ... of a residual stream, x_i = x_(i-1) + term_i, with x_0 = term_0.

    Attributes:
        values: x_0 to x_D.
        terms: term_0 to term_D.
        readers: who reads x_i, apart from the next addition.
        opaque: the last i at which something that is not linear reads x_i; -1 if nothing does.
    """

    values: list[fx.Node]
    terms: list[Term]
    readers: list[list[Reader]]
    opaque: int


def find_streams(graph: fx.Graph, shapes: Shapes) -> list[list[fx.Node]]:
    """The values x_0, x_1, ... of all residual streams of maps in a graph."""
    chains: list[list[fx.Node]] = []
    for node in graph.nodes:
        written = _written(node, shapes)
        if written is None:
            continue
        before = next(value for value in node.args if value is not written)
        for values in chains:
            if values[-1] is before:
                values.append(node)
                break
        else:
            chains.append([before, node])
    return chains


def _written(node: fx.Node, shapes: Shapes) -> fx.Node | None:
    """The operand of an addition that is there for the addition alone, or None if neither is."""
    if node.op != "call_function" or node.target not in (operator.add, torch.add) or node.kwargs:
        return None
    operands = [value for value in node.args if isinstance(value, fx.Node)]
    if len(set(operands)) != 2 or any(
        len(shapes[value]) != 4 or shapes[value] != shapes[node] for value in operands
    ):
        return None
    alone = [value for value in operands if only_user(value) is node]
    # Where both are, the one computed last was written to the other.
    order = {value: place for place, value in enumerate(node.graph.nodes)}
    return max(alone, key=lambda value: order[value], default=None)


def describe(
    rewrite: Rewrite, graph_module: fx.GraphModule, shapes: Shapes, values: list[fx.Node]
) -> Stream:
    """The stream of ``values``: what is added to it, and who reads it."""
    terms = [_term(rewrite, graph_module, shapes, values[0])]
    for before, after in itertools.pairwise(values):
        written = next(value for value in after.all_input_nodes if value is not before)
        terms.append(_term(rewrite, graph_module, shapes, written))
    readers, opaque = [], -1
    for index, value in enumerate(values):
        found = [
            _reader(rewrite, graph_module, shapes, user)
            for user in value.users
            if user not in values[index + 1 : index + 2]
        ]
        readers.append([reader for reader in found if reader is not None])
        if None in found:
            opaque = index
    return Stream(values, terms, readers, opaque)


def _term(rewrite: Rewrite, graph_module: fx.GraphModule, shapes: Shapes, value: fx.Node) -> Term:
    layers: list[tuple[fx.Node, Step]] = []
    origin = value
    while rewrite.free(origin) and (not layers or only_user(origin) is layers[0][0]):
        step = step_of(called(origin, graph_module))
        if step is None:
            break
        layers.insert(0, (origin, step))
        origin = source(origin)
    values = [origin, *(node for node, _ in layers)]
    narrowest = min(range(len(values)), key=lambda place: numel(shapes[values[place]]))
    origin, layers = values[narrowest], layers[narrowest:]
    return Term(origin, tuple(n for n, _ in layers), tuple(s for _, s in layers))


def _reader(
    rewrite: Rewrite, graph_module: fx.GraphModule, shapes: Shapes, first: fx.Node
) -> Reader | None:
    """The linear layers from ``first`` on; None if the value is read by something else."""
    layers: list[tuple[fx.Node, Step]] = []
    tail: Tail = ""
    node: fx.Node | None = first
    last: fx.Node | None = None
    while node is not None:
        module = called(node, graph_module)
        step = step_of(module) if rewrite.free(node) else None
        pooled = only_user(node) if isinstance(module, nn.AdaptiveAvgPool2d) else None
        if step is not None:
            layers.append((node, step))
        elif isinstance(module, SpaceToPhase):
            tail, last = "phases", node
        elif pooled is not None and shapes[node][2:] == (1, 1) and len(shapes[pooled]) == 2:
            tail, last = "pool", pooled
        if step is None:
            break
        last, node = node, only_user(node)
    if last is None or (not layers and tail == "phases"):
        return None
    return Reader(tuple(n for n, _ in layers), tuple(s for _, s in layers), tail, last)
