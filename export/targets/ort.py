"""onnxruntime on CPUs: uint8 activations, and what its integer kernels want."""

from __future__ import annotations

from onnx_ir.passes import Sequential

from waveedge.export.passes import onnxruntime_kernels, uint8_encoding
from waveedge.export.target import Target
from waveedge.runtime.machine import int8_saturates

__all__ = ["TARGET"]


class Onnxruntime(Target):
    """The embedded default."""

    name = "ort"
    timed_here = True

    def pipeline(self, precision: str) -> Sequential:
        return Sequential(uint8_encoding(), onnxruntime_kernels(saturates=int8_saturates()))


TARGET = Onnxruntime()
