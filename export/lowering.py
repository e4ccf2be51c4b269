"""A traced network -> the files of a target: one trip through the passes, and serialized."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir

from waveedge.errors import ExportError
from waveedge.export.targets import TARGETS

__all__ = ["Lowered", "lower"]


@dataclass(frozen=True)
class Lowered:
    """A network in the encoding of a target.

    Attributes:
        encoded: with torch's layers and quantizers, and their origins as metadata, so that
            verification can cut it.
        shipped: the same network for the kernels of the target's runtime.
    """

    encoded: onnx.ModelProto
    shipped: onnx.ModelProto


def lower(traced: ir.Model, target: str, precision: str | None = None) -> Lowered:
    """Runs a target's pipeline on what :func:`to_onnx` gave; ``traced`` is not changed.

    Args:
        traced: the network.
        target: a name of ``TARGETS``.
        precision: of floating-point layers, such as a form of the target has; the default of
            what it ships where None.

    Raises:
        ExportError: the graph breaks the ONNX standard.
    """
    place = TARGETS[target]
    encode, specialize = place.pipeline(precision or place.precision(None)).passes
    try:
        model = encode(traced.clone()).model
        encoded = ir.to_proto(model)
        shipped = ir.to_proto(specialize(model).model)
    except ir.passes.PassError as error:
        cause = error.__cause__
        if isinstance(cause, onnx.checker.ValidationError | onnx.shape_inference.InferenceError):
            raise ExportError(
                f"the exported graph breaks the ONNX standard: {cause}",
                hint="Please report it with the network's configuration.",
            ) from error
        raise
    return Lowered(encoded, shipped)
