"""OpenVINO on CPUs: uint8 activations, float32 or bfloat16 around them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx_ir.passes import Sequential

from waveedge.export.layers import Layer
from waveedge.export.onnx_runner import Run
from waveedge.export.passes import openvino_kernels, uint8_encoding
from waveedge.export.target import Target
from waveedge.runtime.engine_builder import Build
from waveedge.runtime.machine import int8_saturates
from waveedge.runtime.manifest import OPENVINO
from waveedge.runtime.openvino import OpenVinoBackend, openvino_version

__all__ = ["TARGET"]


class OpenVino(Target):
    """The encoding of onnxruntime.

    OpenVINO (2026.4) loses the scale of int8 tensors with zero point 0 where they meet in a
    Concat; on uint8 it computes what it should. Its int8 products saturate on x86 without VNNI, as
    onnxruntime's do: there weights are uint8, and its kernels are those of floating point.
    """

    name = "openvino"
    precisions = tuple(OPENVINO.values())

    def require(self) -> None:
        openvino_version()

    def pipeline(self, precision: str) -> Sequential:
        return Sequential(uint8_encoding(), openvino_kernels(saturates=int8_saturates()))

    def provider(self, precision: str) -> str:
        return next(name for name, computes in OPENVINO.items() if computes == precision)

    @property
    def runtime(self) -> str:
        return f"OpenVINO {openvino_version()}, CPU"

    def runner(self, precision: str) -> Run:
        def run(
            graph: onnx.ModelProto, batches: Sequence[NDArray[np.float32]]
        ) -> list[list[NDArray[Any]]]:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                onnx.save(graph, path)
                backend = OpenVinoBackend(path, threads=1, precision=precision)
                return [backend.run(batch) for batch in batches]

        return run

    def executed(
        self, model: Path, layers: Sequence[Layer], build: Build | None, precision: str
    ) -> set[str]:
        computed = OpenVinoBackend(model, threads=1, precision=precision).executed()
        return {layer.node for layer in layers if computed.get(layer.node) == "i8"}


TARGET = OpenVino()
