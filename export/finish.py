"""The last steps before a graph is a file: simplify it and hold it against the standard."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from waveedge.errors import ExportError
from waveedge.export.fake_quantize import DOMAIN

__all__ = ["finish"]


def finish(model: ir.Model) -> onnx.ModelProto:
    """Simplifies a graph of standard operators (onnxsim) and checks it (onnx.checker, in full).

    Raises:
        ExportError: the graph breaks the ONNX standard.
    """
    import onnxsim

    simplified: onnx.ModelProto
    model.opset_imports.pop(DOMAIN, None)
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    simplified, _ = onnxsim.simplify(ir.to_proto(model))
    try:
        onnx.checker.check_model(simplified, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the exported graph breaks the ONNX standard: {error}",
            hint="Please report it with the network's configuration.",
        ) from error
    return simplified
