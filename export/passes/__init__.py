"""Graph passes on onnx-ir models, one file each, and the stages that targets make of them.

Each pass keeps onnx-ir's own contract (``onnx_ir.passes.PassBase``), says what it does and whether
it is exact. What onnx-ir has already (dead code, shapes, unused opsets, checks) is taken from
there.
"""

from __future__ import annotations

from waveedge.export.passes.base import NodePass
from waveedge.export.passes.stages import (
    half_precision,
    int8_encoding,
    onnxruntime_kernels,
    openvino_kernels,
    plain,
    uint8_encoding,
)

__all__ = [
    "NodePass",
    "half_precision",
    "int8_encoding",
    "onnxruntime_kernels",
    "openvino_kernels",
    "plain",
    "uint8_encoding",
]
