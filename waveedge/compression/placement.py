"""Where quantizers go on a traced network.

A value is quantized where integers will read or write it, and nowhere else:

1. A convolution or linear layer reads its input on the layer's grid (the recipe's bits; the first
   and the last layers of a network, those that see its input or make its output with no other
   layer between, never get fewer than 8).
2. A convolution writes its output on an 8-bit grid when no rule asks for another, so that a runtime
   can keep the whole convolution in integers. A linear layer writes floats: what follows it
   (GELU, a residual sum before a LayerNorm) is floating point in every runtime.
3. A sum, concatenation or average of values that are all quantized is itself quantized, to 8 bits.
   A residual stream may begin with a float operation (the GELU of a stem) that is quantized for
   another reader. A sum stays in floating point if a layer that does so reads it, or if nothing but
   LayerNorms and such sums do.
4. Values on one grid are moved, not computed: operations that only move values (reshape, pixel
   shuffle, zero padding) share the quantizer of their input, and a concatenation shares its
   quantizer with its inputs, where that costs no other reader of an input its own, finer grid.
5. The channels of a bottleneck (:mod:`waveedge.compression.shrink.bottleneck`) carry what many did:
   they are read in 8 bits.
6. A reader that asks for fewer bits than the value has gets a narrower quantizer of its own; a
   reader of floats (GELU, LayerNorm, a transform) of a value that rules 1-3 do not touch reads
   the value as it is.
7. An 8-bit image that lies on the grid of its pixels, copies of these, and what copies are added to
   have that grid's step, whatever calibration sees.

WCC layers carry their own quantizer, on the gathered coefficients. A GELU that stands between two
quantizers is computed in integers afterwards (:mod:`~waveedge.compression.gelus`).
"""

from __future__ import annotations

from collections.abc import Collection

import torch.nn.functional as F
from torch import fx, nn

from waveedge.compression.graph_queries import (
    concatenated_along,
    has_weights,
    is_addition,
    is_clamp,
    is_join,
    is_pass_through,
    is_zero_padding,
    layer_of,
)
from waveedge.compression.recipe import CONTAINER_BITS
from waveedge.compression.reparameterize import FramePool, Shapes
from waveedge.nn import ActivationQuantizer, PixelCopy, Shift

__all__ = ["Placement"]


class Placement:
    """Decides the bits of every value, then inserts the quantizers.

    Args:
        graph: a network whose layers are quantized already.
        shapes: of its values.
        bits: of the inputs of layers with weights, by the name of their node; 0 for floats.
        wide: names of layers whose output is read in 8 bits where the recipe says fewer.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        shapes: Shapes,
        bits: dict[str, int],
        wide: Collection[str],
    ) -> None:
        self.graph = graph
        self.bits = bits
        self.wide = wide
        # Values are tensors; what returns several (a transform) yields values through getitem.
        self.values: list[fx.Node] = [
            node
            for node in graph.graph.nodes
            if isinstance(shapes[node], tuple) and node.op != "output"
        ]
        values = set(self.values)
        # Nodes that only move values, and nodes that a runtime computes in integers.
        self.moving = {
            node
            for node in self.values
            if (is_pass_through(graph, node) or is_zero_padding(node))
            and node.all_input_nodes[0] in values
        }
        self.integer: set[fx.Node] = set()
        for node in self.values:
            if self._writes_integers(node) or self._starts_a_stream(node):
                self.integer.add(node)
        for node in reversed(self.values):
            if is_addition(node) and self._belongs_to_floats(node):
                self.integer.discard(node)
        for node in self.values:
            follows = is_join(graph, node) or is_zero_padding(node)
            if follows and not self._writes_integers(node):
                self.integer.discard(node)
        self.order = {node: position for position, node in enumerate(self.values)}
        self.grids: dict[fx.Node, fx.Node] = {node: node for node in self.values}
        self.shared: dict[fx.Node, list[fx.Node]] = {}
        for node in self.values:
            self.shared[node] = self._on_its_grid(node)
            for value in self.shared[node]:
                self._join_grids(value, node)

    def insert(self) -> None:
        """Give every grid that somebody reads a quantizer, and every value on it a call of it."""
        members: dict[fx.Node, list[fx.Node]] = {}
        for node in self.values:
            members.setdefault(self._grid(node), []).append(node)
        # Told before the first quantizer stands between a sum and what is added.
        steps = {first: self._pixel_step(grid) for first, grid in members.items()}
        for first, grid in members.items():
            bits = max(
                (self._wanted(value, user) for value in grid for user in value.users), default=0
            )
            if bits:
                quantizer = self._add(f"quantizer_{first.name}", bits, steps[first])
                for value in grid:
                    self._apply(value, quantizer, bits)

    def _writes_integers(self, node: fx.Node) -> bool:
        """Whether a runtime computes ``node`` in integers (rules 2 to 4)."""
        if isinstance(layer_of(self.graph, node), nn.Conv2d):
            return bool(self.bits.get(node.name))
        if node in self.moving or is_clamp(self.graph, node):
            return node.all_input_nodes[0] in self.integer
        if is_join(self.graph, node):
            return all(value in self.integer for value in node.all_input_nodes)
        return False

    def _starts_a_stream(self, node: fx.Node) -> bool:
        """Whether floats that a layer reads in integers are also what blocks add to (rule 3)."""
        return any(self.bits.get(user.name) for user in node.users) and self._is_added_to(node)

    def _is_added_to(self, node: fx.Node) -> bool:
        return any(
            is_addition(user)
            or (
                (user in self.moving or concatenated_along(user) is not None)
                and self._is_added_to(user)
            )
            for user in node.users
        )

    def _belongs_to_floats(self, join: fx.Node) -> bool:
        """Whether a sum is better left in floating point, for the sake of those who read it."""
        return any(self._is_float_layer(user) for user in join.users) or all(
            self._reads_floats(user) for user in join.users
        )

    def _is_float_layer(self, user: fx.Node) -> bool:
        return has_weights(self.graph, user) and not self.bits.get(user.name)

    def _reads_floats(self, user: fx.Node) -> bool:
        if user in self.moving:
            return all(self._reads_floats(reader) for reader in user.users)
        if is_join(self.graph, user):
            return user not in self.integer
        normalises = isinstance(layer_of(self.graph, user), nn.LayerNorm)
        return normalises or user.target is F.layer_norm or self._is_float_layer(user)

    def _on_its_grid(self, node: fx.Node) -> list[fx.Node]:
        """The inputs of ``node`` that share its grid (rule 4)."""
        if node in self.moving:
            return node.all_input_nodes[:1]
        along = concatenated_along(node)
        if along is None or node not in self.integer:
            return []
        inputs = node.all_input_nodes
        if along != 1 or len({self._grid(value) for value in inputs}) == 1:
            # Pieces of one map, or parts of one value.
            return inputs
        return [value for value in inputs if self._read_alone(value)]

    def _pixel_step(self, grid: list[fx.Node]) -> float | None:
        """The distance of two pixels on a grid that holds them (rule 7)."""
        users = {user for value in grid for user in value.users}
        beside = [other for user in users if is_addition(user) for other in user.all_input_nodes]
        for node in [*grid, *users]:
            if isinstance(shift := layer_of(self.graph, node), Shift):
                return shift.step
        for node in map(self._writer, [*grid, *beside]):
            if isinstance(copies := layer_of(self.graph, node), PixelCopy):
                return copies.step
        return None

    def _shares(self, value: fx.Node, user: fx.Node) -> bool:
        return value in self.shared.get(user, ())

    def _read_alone(self, value: fx.Node) -> bool:
        """Whether a value, and what it was moved from, has one reader."""
        while len(value.users) == 1:
            if value not in self.moving:
                return True
            value = value.all_input_nodes[0]
        return False

    def _grid(self, value: fx.Node) -> fx.Node:
        """The first value on the grid that ``value`` lies on."""
        while self.grids[value] is not value:
            value = self.grids[value]
        return value

    def _join_grids(self, one: fx.Node, other: fx.Node) -> None:
        first, second = sorted((self._grid(one), self._grid(other)), key=self.order.__getitem__)
        self.grids[second] = first

    def _fuses(self, value: fx.Node, user: fx.Node) -> bool:
        """Whether ``user`` is the activation that runtimes compute inside ``value``'s layer."""
        return len(value.users) == 1 and value.name in self.bits and is_clamp(self.graph, user)

    def _wanted(self, value: fx.Node, user: fx.Node) -> int:
        """Bits at which ``user`` reads ``value``; 0 when it reads floats."""
        if user.name in self.bits:
            least = CONTAINER_BITS if self._writer(value).target in self.wide else 0
            return max(self.bits[user.name], least) if self.bits[user.name] else 0
        if self._shares(value, user):
            return max((self._wanted(user, reader) for reader in user.users), default=0)
        if self._fuses(value, user):
            return 0
        if isinstance(layer_of(self.graph, user), FramePool) and value.users.keys() != {user}:
            # The mean is taken last: read in integers, the map in floats need not wait for it.
            quantized = any(
                self.bits.get(other.name) or self._shares(value, other) for other in value.users
            )
            return CONTAINER_BITS if quantized or value in self.integer else 0
        return CONTAINER_BITS if value in self.integer else 0

    def _writer(self, value: fx.Node) -> fx.Node:
        """The node that computed a value that may have been moved since."""
        while value in self.moving:
            value = value.all_input_nodes[0]
        return value

    def _apply(self, value: fx.Node, quantizer: str, bits: int) -> None:
        """Let the users of ``value`` read it through ``quantizer``, or through a narrower one."""
        wanted_by = {user: self._wanted(value, user) for user in value.users}
        if not any(wanted_by.values()):
            return
        with self.graph.graph.inserting_after(value):
            quantized = self.graph.graph.call_module(quantizer, (value,))
        narrower: dict[int, fx.Node] = {}
        for user, wanted in wanted_by.items():
            # A value that is moved keeps its grid: quantizing it again changes nothing, and tells
            # a runtime that the move itself can be done on integers.
            if wanted == bits or (wanted and self._shares(value, user)):
                user.replace_input_with(value, quantized)
            elif wanted:
                if wanted not in narrower:
                    name = self._add(f"{quantizer}_to{wanted}_{value.name}", wanted)
                    with self.graph.graph.inserting_after(quantized):
                        narrower[wanted] = self.graph.graph.call_module(name, (quantized,))
                user.replace_input_with(value, narrower[wanted])

    def _add(self, name: str, bits: int, pixel_step: float | None = None) -> str:
        quantizer = ActivationQuantizer(bits)
        quantizer.pixel_step = pixel_step
        self.graph.add_submodule(name, quantizer)
        return name
