"""TensorRT for the device, which builds the engines itself: ``waveedge build``, or a script."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from waveedge.export.device_script import SCRIPT, write_build_script
from waveedge.export.manifest import tensor_info
from waveedge.export.tensorrt import TensorRT, required
from waveedge.filetypes import ENGINE
from waveedge.runtime.engine import EngineBackend
from waveedge.runtime.engine_builder import Build, backend_version, build_engine
from waveedge.runtime.engine_layers import read_layers
from waveedge.runtime.sizes import SizeRange

__all__ = ["TARGET"]


class DeviceTensorRT(TensorRT):
    """Enterprise TensorRT, as a Jetson has it; TensorRT-RTX stands in for it as a proxy."""

    name = "trt"

    def build(self, folder: Path, graph: onnx.ModelProto, sizes: SizeRange | None) -> Build | None:
        info = tensor_info(graph.graph.input[0])
        write_build_script(folder, info["name"], info["shape"], sizes)
        if backend_version("tensorrt") is not None:
            # For what is executed, and whether it builds: the engine would fit this GPU alone.
            return _inspected(required(build_engine(graph.SerializeToString(), "tensorrt", sizes)))
        if backend_version("tensorrt_rtx") is not None:
            return build_engine(graph.SerializeToString(), "tensorrt_rtx", sizes)
        return None

    def notes(self, build: Build | None) -> list[str]:
        notes = []
        if build is None:
            notes.append(
                "no TensorRT is installed here: the graph was linted, not built, and executed bits "
                "are those of onnxruntime"
            )
        elif build.engine is None:
            notes.append(f"proxy: {build.backend} does not build this graph: {build.errors[0]}")
        elif build.proxy:
            int8 = sum(kernel.int8 for kernel in build.kernels)
            notes.append(
                f"proxy: {build.backend} builds this graph for SM {', '.join(build.targets)} "
                f"({len(build.engine)} bytes, {len(build.kernels)} kernels, {int8} of them on "
                "int8); executed bits are read from that engine, not from one for the device"
            )
        notes.append(f"build the engines on the device: waveedge build, or ./{SCRIPT}")
        return notes


def _inspected(build: Build) -> Build:
    """The same with its kernels as the engine inspector tells them, where it does."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / ENGINE
        file.write_bytes(build.engine or b"")
        return replace(
            build, kernels=read_layers(EngineBackend(file).information()) or build.kernels
        )


TARGET = DeviceTensorRT()
