"""What the graph passes of this folder have in common: onnx-ir's contract, and what they keep."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import onnx_ir as ir

__all__ = ["NodePass"]


class NodePass(ir.passes.InPlacePass):
    """A pass that visits every node of the graph, in order, and rewrites where its rules hold.

    Attributes:
        exact: whether the rewritten graph computes the same function: equal outputs, but for the
            order of float additions. ``tests/export/test_exact_passes.py`` proves each one alone.
    """

    exact: ClassVar[bool]

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass on the main graph; ``modified`` tells whether any rule held."""
        modified = False
        for node in list(model.graph):
            if node.graph is not None:  # not removed along with an earlier one
                modified |= self.rewrite(model.graph, node)
        return ir.passes.PassResult(model, modified)

    @abstractmethod
    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Rewrites what begins at a node, if the rules hold; tells whether it did."""
