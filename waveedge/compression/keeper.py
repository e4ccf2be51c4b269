"""A network run for the values inside it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from torch import Tensor, fx

__all__ = ["Keeper"]


class Keeper(fx.Interpreter):
    """Runs a network, and keeps some of its values, with their gradients where these are enabled.

    Args:
        graph: the network.
        nodes: whose values are kept.

    Attributes:
        kept: the values of the last run, by node.
    """

    def __init__(self, graph: fx.GraphModule, nodes: Container[fx.Node]) -> None:
        super().__init__(graph)
        self.kept: dict[fx.Node, Tensor] = {}
        self._nodes = nodes

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, as the interpreter asks."""
        result = super().run_node(n)
        if n in self._nodes:
            self.kept[n] = result
        return result
