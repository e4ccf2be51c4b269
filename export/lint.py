"""What TensorRT, and Jetson in particular, refuses or runs slowly; read from the graph alone.

Some graphs parse and only then fail to build, some build on a workstation and not on a Jetson Orin
(SM 8.7, TensorRT 10.3 and later). Every rule has an id, a sentence and a mend; a finding names the
node that breaks it. The rules come from the operator tables of NVIDIA's ONNX parser and from
building small graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from waveedge.export.lint_graph import Graph
from waveedge.export.lint_rules import RULES, Level

__all__ = ["Finding", "lint"]


@dataclass(frozen=True)
class Finding:
    """One node that breaks one rule.

    Attributes:
        level: "error" if no engine comes of it, "warning" if the engine is slower than need be.
        rule: id of the rule.
        layer: name of the node; it starts with the path of its torch module.
        message: what the rule asks, and what was found.
        mend: what to do.
    """

    level: Level
    rule: str
    layer: str
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.message} [{self.rule}]. {self.mend}"


def lint(model: onnx.ModelProto) -> list[Finding]:
    """Checks a graph against all rules.

    Returns:
        the findings in the order of the rules; empty if the graph is fit for TensorRT.
    """
    graph = Graph(model)
    return [
        Finding(
            rule.level,
            rule.name,
            node.name or node.op_type,
            f"{rule.sentence}; found {found}",
            rule.mend,
        )
        for rule in RULES
        for node, found in rule.check(graph)
    ]
