"""Remove layers that do nothing once a network is trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx, nn

from .rewrite import Applied, Rewrite, Shapes, called, drop, source

__all__ = ["Cleanup"]

_MODULES = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
_FUNCTIONS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, torch.dropout)
_METHODS = ("contiguous", "clone", "detach")


class Cleanup(Rewrite):
    """Rules:

    1. A dropout layer or ``nn.Identity`` is removed: in eval mode each returns its input.
    2. A call of a dropout function with ``training`` false is removed.
    3. ``contiguous``, ``clone`` and ``detach`` are removed: they change no value.
    """

    name = "cleanup"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        for node in list(graph_module.graph.nodes):
            if isinstance(called(node, graph_module), _MODULES):
                rule = 1
            elif node.op == "call_function" and node.target in _FUNCTIONS and _inactive(node):
                rule = 2
            elif node.op == "call_method" and node.target in _METHODS:
                rule = 3
            else:
                continue
            applied.append(Applied(f"cleanup.{rule}", str(node.target), 0, 0))
            drop(node, source(node))
        return applied


def _inactive(node: fx.Node) -> bool:
    position = 2  # dropout(input, p, training)
    training = node.kwargs.get("training", node.kwargs.get("train"))
    if training is None:
        training = node.args[position] if len(node.args) > position else True
    return training is False
