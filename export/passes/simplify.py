"""Pass: onnxsim, which folds constants and removes what no output needs."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

__all__ = ["Simplify"]


class Simplify(ir.passes.FunctionalPass):
    """Simplifies a graph of standard operators. Exact.

    onnxsim works on serialized models and drops metadata: nodes that keep their names get theirs
    back, and what onnxsim notes about itself in the model goes.
    """

    exact: ClassVar[bool] = True

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        import onnxsim

        notes = {node.name: dict(node.metadata_props) for node in model.graph}
        proto, _ = onnxsim.simplify(ir.to_proto(model))
        result: ir.Model = ir.from_proto(proto)
        result.metadata_props.clear()
        result.metadata_props.update(model.metadata_props)
        for node in result.graph:
            node.metadata_props.update(notes.get(node.name, {}))
        kept = [node.name for node in result.graph]
        return ir.passes.PassResult(result, kept != list(notes))
