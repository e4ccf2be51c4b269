"""TensorRT-RTX: an engine for desktop GPUs, built without one."""

from __future__ import annotations

from pathlib import Path

import onnx

from waveedge.export.tensorrt import TensorRT, built
from waveedge.runtime.engine_builder import Build, require_backend
from waveedge.runtime.sizes import SizeRange

__all__ = ["TARGET"]


class TensorRTRTX(TensorRT):
    """NVIDIA's TensorRT for RTX."""

    name = "trt-rtx"

    def require(self) -> None:
        require_backend("tensorrt_rtx")

    def refusal(self, graph: onnx.ModelProto, precision: str) -> str:
        transposed = any(node.op_type == "ConvTranspose" for node in graph.graph.node)
        if precision == "bfloat16" and transposed:
            return "TensorRT-RTX builds no transposed convolution in bfloat16"
        return ""

    def build(self, folder: Path, graph: onnx.ModelProto, sizes: SizeRange | None) -> Build | None:
        return built(folder, graph, "tensorrt_rtx", sizes)


TARGET = TensorRTRTX()
