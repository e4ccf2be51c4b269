"""OpenVINO on the CPU: the backend of bundles that were exported for it."""

from __future__ import annotations

from copy import copy
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from waveedge.errors import ArtifactError, InputError, MissingDependencyError
from waveedge.extras import install_line
from waveedge.runtime.backend import Array, TensorInfo
from waveedge.runtime.schema import shown

__all__ = ["OpenVinoBackend", "openvino_version", "runs_bfloat16"]

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
"""What floating-point layers compute in; quantized ones compute in int8 either way."""

_WEIGHTED = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
"""What OpenVINO calls layers with weights."""


class OpenVinoBackend:
    """A network as OpenVINO compiles it for this machine's CPU.

    Args:
        path: an ``.onnx`` file.
        threads: of the compiled network.
        precision: of floating-point layers, float32 or bfloat16.
        streams: runs that may be under way at once.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        InputError: this CPU does not compute in that precision.
        ArtifactError: OpenVINO cannot load the file.
    """

    parallel = "infer requests of one network, compiled for as many streams (NUM_STREAMS)"

    def __init__(
        self, path: Path, *, threads: int, precision: str = "float32", streams: int = 1
    ) -> None:
        library = _import()
        core = library.Core()
        if precision == "bfloat16" and not runs_bfloat16():
            raise InputError(
                f"{path} is made for bfloat16, which this CPU does not compute in",
                hint="Export it again with --precision float32, or run it on a CPU with "
                "AVX512_BF16 or AMX.",
            )
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        }
        try:
            self._compiled = core.compile_model(core.read_model(path), "CPU", settings)
        except RuntimeError as error:
            raise ArtifactError(
                f"OpenVINO {library.__version__} cannot load {path}: {_reason(error)}",
                hint="The file is damaged, or holds operators that OpenVINO does not have.",
            ) from error
        self._request = self._compiled.create_infer_request()
        self._wider = partial(OpenVinoBackend, path, precision=precision)
        self._threads = threads
        self.name = f"OpenVINO {openvino_version()} (CPU, {precision})"
        self.inputs = [_tensor_info(port) for port in self._compiled.inputs]
        self.outputs = [port.get_any_name() for port in self._compiled.outputs]

    def run(self, *arrays: Array) -> list[Array]:
        """Run the network; the arrays returned are the caller's own."""
        try:
            found = self._request.infer(list(arrays), share_inputs=True)
        except RuntimeError as error:
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise InputError(
                f"the network cannot run on an input of shape {shapes}: {_reason(error)}",
                hint="Height and width may have to be multiples of a power of two.",
            ) from error
        return [np.array(found[port]) for port in self._compiled.outputs]

    def streams(self, count: int) -> list[OpenVinoBackend]:
        """Requests of one network that is compiled for so many: its threads are not in each other's
        way, as those of several networks may be, pinned to the same cores."""
        first = self._wider(threads=self._threads * count, streams=count)
        others = [copy(first) for _ in range(count - 1)]
        for other in others:
            other._request = first._compiled.create_infer_request()
        return [first, *others]

    def executed(self) -> dict[str, str]:
        """Names of the nodes of the file -> what the kernel that computes them multiplies: i8, f32.

        As the compiled network tells; of kernels with weights, and of what is fused into these.
        """
        found = {}
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            facts = node.get_rt_info()
            if facts["layerType"].astype(str) in _WEIGHTED:
                kernel = facts["primitiveType"].astype(str)  # such as jit_avx2_1x1_I8
                names = facts["originalLayersNames"].astype(str).split(",")
                found.update(dict.fromkeys(names, kernel.rsplit("_", 1)[-1].lower()))
        return found


def openvino_version() -> str:
    """Version of OpenVINO.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return str(_import().__version__).split("-")[0]


def runs_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this CPU."""
    capabilities = _import().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities


def _import() -> ModuleType:
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            f"running on OpenVINO needs it: {error}", hint=install_line("openvino")
        ) from error
    found: ModuleType = openvino
    return found


def _tensor_info(port: Any) -> TensorInfo:
    shape = tuple(
        dimension.get_length() if dimension.is_static else f"axis{axis}"
        for axis, dimension in enumerate(port.partial_shape)
    )
    return TensorInfo(port.get_any_name(), shape, np.dtype(port.element_type.to_dtype()))


def _reason(error: RuntimeError) -> str:
    """The last line of OpenVINO's message says what was wrong; those above, where in its code."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return shown(lines[-1] if lines else "no message", 300)
