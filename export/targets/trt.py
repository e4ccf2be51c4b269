"""TensorRT for the device: an engine where it is installed, else the script that builds one."""

from __future__ import annotations

from pathlib import Path

import onnx

from waveedge.export.device_script import SCRIPT, write_build_script
from waveedge.export.manifest import tensor_info
from waveedge.export.tensorrt import TensorRT, built
from waveedge.runtime.engine_builder import Build, backend_version, build_engine
from waveedge.runtime.sizes import SizeRange

__all__ = ["TARGET"]


class DeviceTensorRT(TensorRT):
    """Enterprise TensorRT, as a Jetson has it; TensorRT-RTX stands in for it as a proxy."""

    name = "trt"

    def build(self, folder: Path, graph: onnx.ModelProto, sizes: SizeRange | None) -> Build | None:
        info = tensor_info(graph.graph.input[0])
        write_build_script(folder, info["name"], info["shape"], sizes)
        if backend_version("tensorrt") is not None:
            return built(folder, graph, "tensorrt", sizes)
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
        if build is None or build.proxy:
            notes.append(f"build the engine on the device with ./{SCRIPT}")
        return notes


TARGET = DeviceTensorRT()
