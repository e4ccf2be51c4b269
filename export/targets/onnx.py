"""Portable ONNX: int8 with zero point 0, for any runtime."""

from __future__ import annotations

from onnx_ir.passes import Sequential

from waveedge.export.passes import int8_encoding, plain
from waveedge.export.target import Target
from waveedge.runtime.engine_builder import Build

__all__ = ["TARGET"]


class Onnx(Target):
    """Quantized as the standard says, in operators that every runtime has."""

    name = "onnx"
    timed_here = True

    def pipeline(self, precision: str) -> Sequential:
        return Sequential(int8_encoding(), plain())

    def notes(self, build: Build | None) -> list[str]:
        return [
            "verified on onnxruntime alone; OpenVINO (2026.4) computes wrong numbers where int8 "
            "tensors with zero point 0 meet in a Concat: for OpenVINO, use --target openvino"
        ]


TARGET = Onnx()
