"""TensorRT engines, through enterprise TensorRT (a Jetson's) or TensorRT-RTX."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from waveedge.errors import ArtifactError, InputError, MissingDependencyError, WaveedgeError
from waveedge.extras import install_line
from waveedge.runtime.backend import Array, DeviceTimes, TensorInfo
from waveedge.runtime.cuda import Cuda, gpu_count
from waveedge.runtime.cuda_graph import CudaGraph
from waveedge.runtime.engine_builder import require_version
from waveedge.runtime.engine_manifest import dla_core as manifest_core

__all__ = ["EngineBackend", "can_run_engines"]

_LIBRARIES = ("tensorrt", "tensorrt_rtx")
_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


def can_run_engines() -> bool:
    """Say whether a TensorRT library and a GPU are present."""
    return gpu_count() > 0 and next(_installed(), None) is not None


class EngineBackend:
    """A TensorRT engine. Input and output travel between host and GPU at each run.

    Args:
        path: a serialized engine.
        cuda: the GPU; the first one by default.
        dla_core: the deep learning accelerator that it was built for; by default what the manifest
            beside it says.

    Attributes:
        context_bytes: what the device had less free once the execution context was made; other
            programs change that, too.
        times: the GPU's own of the last run, in parts; None before the first.

    Raises:
        MissingDependencyError: no TensorRT library, an old one, or no GPU.
        ArtifactError: the engine was built for another GPU or another version.
    """

    parallel = "execution contexts of one engine, each on a CUDA stream of its own"

    def __init__(
        self, path: Path, *, cuda: Cuda | None = None, dla_core: int | None = None
    ) -> None:
        libraries = list(_installed())
        if not libraries:
            raise MissingDependencyError(
                f"running {path} needs TensorRT, which is not installed",
                hint="A Jetson has it from JetPack: make the virtual environment with "
                f"--system-site-packages. Elsewhere: {install_line('trt')} or "
                f"{install_line('rtx')}, whichever built the engine.",
            )
        self._cuda = cuda or Cuda()
        core = manifest_core(path) if dla_core is None else dla_core
        self._library, self._runtime, self._engine = _deserialize(path, libraries, core)
        self.name = f"{self._library.__name__} {self._library.__version__}"
        self.name += "" if core is None else f", DLA core {core}"
        self.inputs: list[TensorInfo] = []
        self._results: list[TensorInfo] = []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            is_input = self._engine.get_tensor_mode(name) == self._library.TensorIOMode.INPUT
            (self.inputs if is_input else self._results).append(self._tensor_info(name))
        self.outputs = [info.name for info in self._results]
        self._make_context()

    def _make_context(self) -> None:
        """Make what belongs to one stream: context, buffers, events, graph."""
        self._buffers: dict[str, tuple[int, int]] = {}  # name -> (address, bytes)
        self._events: list[int] = []
        self._graph: tuple[list[tuple[int, ...]], CudaGraph] | None = None
        self.times: DeviceTimes | None = None
        self._cuda.activate()
        free = self._cuda.free_bytes()
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise WaveedgeError(
                f"{self.name} makes no execution context: there is not enough memory for it",
                hint="End other programs that use the GPU, or choose a smaller batch or size.",
            )
        self.context_bytes = free - self._cuda.free_bytes()
        self._events += [self._cuda.event() for _ in range(4)]

    def streams(self, count: int) -> list[EngineBackend]:
        """Contexts of this engine, which share its weights, each on a CUDA stream of its own."""
        return [self, *(self._beside() for _ in range(count - 1))]

    def _beside(self) -> EngineBackend:
        other = object.__new__(EngineBackend)
        shared = ("_library", "_runtime", "_engine", "name", "inputs", "_results", "outputs")
        vars(other).update({name: getattr(self, name) for name in shared}, _cuda=Cuda())
        other._make_context()
        return other

    def run(self, *arrays: Array) -> list[Array]:
        """Run the engine; the arrays returned are the caller's own."""
        return self._run(arrays, lambda: self._enqueue(arrays))

    def run_graph(self, *arrays: Array) -> list[Array]:
        """The same, with the execution launched as one CUDA graph.

        It is captured at the first run, and again where shapes are others.

        Raises:
            WaveedgeError: the execution cannot be captured.
        """
        shapes = [array.shape for array in arrays]
        if self._graph is None or self._graph[0] != shapes:
            self._graph = None
            # TensorRT does what a new shape asks for at the next run, and that cannot be captured.
            self.run(*arrays)
            self._graph = shapes, CudaGraph(self._cuda, lambda: self._enqueue(arrays))
        return self._run(arrays, self._graph[1].launch)

    def _run(self, arrays: tuple[Array, ...], execute: Callable[[], None]) -> list[Array]:
        self._cuda.activate()
        for info, array in zip(self.inputs, arrays, strict=True):
            if not self._context.set_input_shape(info.name, array.shape):
                raise self._outside_profile(info.name, array.shape)
        # Shapes and types of the outputs are known once the inputs' shapes are.
        results = [
            np.empty(tuple(self._context.get_tensor_shape(info.name)), info.dtype)
            for info in self._results
        ]
        # First, as making room waits for the GPU: the events between are of the copies alone.
        for info, array in zip((*self.inputs, *self._results), (*arrays, *results), strict=True):
            self._make_room(info.name, array.nbytes)
        start, there, done, back = self._events
        self._cuda.record(start)
        for info, array in zip(self.inputs, arrays, strict=True):
            self._cuda.to_device(self._buffers[info.name][0], array)
        self._cuda.record(there)
        execute()
        self._cuda.record(done)
        for info, result in zip(self._results, results, strict=True):
            self._cuda.to_host(result, self._buffers[info.name][0])
        self._cuda.record(back)
        self._cuda.wait()
        self.times = DeviceTimes(
            self._cuda.elapsed_ms(start, there),
            self._cuda.elapsed_ms(there, done),
            self._cuda.elapsed_ms(done, back),
        )
        return results

    def _enqueue(self, arrays: tuple[Array, ...]) -> None:
        if not self._context.execute_async_v3(self._cuda.stream):
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise WaveedgeError(
                f"{self.name} failed to run the engine on an input of shape {shapes}",
                hint="TensorRT printed the reason above.",
            )

    @property
    def activation_bytes(self) -> int:
        """Device memory that TensorRT sets aside for activations, at the profile's largest size."""
        return int(self._engine.device_memory_size_v2)

    @property
    def weights_bytes(self) -> int | None:
        """Size of all weights, from TensorRT 10.16 on; earlier ones do not tell."""
        statistics = getattr(self._library, "EngineStat", None)
        if statistics is None:
            return None
        return int(self._engine.get_engine_stat(statistics.TOTAL_WEIGHTS_SIZE))

    def information(self) -> str:
        """What the engine inspector writes of its layers: JSON, see ``engine_layers``."""
        inspector = self._engine.create_engine_inspector()
        found = inspector.get_engine_information(self._library.LayerInformationFormat.JSON)
        return str(found)

    def _tensor_info(self, name: str) -> TensorInfo:
        shape = tuple(
            size if size >= 0 else ("batch" if axis == 0 else f"axis{axis}")
            for axis, size in enumerate(self._engine.get_tensor_shape(name))
        )
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise ArtifactError(
                f"the engine's tensor {name} is {kind}, which numpy cannot hold",
                hint="Build it with float32 inputs and outputs.",
            )
        return TensorInfo(name, shape, np.dtype(_DTYPES[kind]))

    def _outside_profile(self, name: str, shape: tuple[int, ...]) -> InputError:
        least, _, most = (tuple(end) for end in self._engine.get_tensor_profile_shape(name, 0))
        return InputError(
            f"the engine does not take an input of shape {shape}",
            hint=f"It was built for shapes from {least} to {most}.",
        )

    def _make_room(self, name: str, size: int) -> None:
        """Give a tensor a device address of at least ``size`` bytes, and bind it."""
        address, capacity = self._buffers.get(name, (0, 0))
        if size > capacity:
            self._graph = None  # it writes to the address that is given back
            if capacity:
                self._cuda.free(address)
            address = self._cuda.allocate(size)
            self._buffers[name] = (address, size)
            self._context.set_tensor_address(name, address)

    def __del__(self) -> None:
        self._graph = self._context = None  # before the stream that they ran on
        for address, _ in getattr(self, "_buffers", {}).values():
            self._cuda.free(address)
        for event in getattr(self, "_events", ()):
            self._cuda.forget(event)


def _installed() -> Iterator[ModuleType]:
    for name in _LIBRARIES:
        try:
            yield importlib.import_module(name)
        except (ImportError, OSError):  # OSError: installed, but its shared libraries are not
            continue


def _deserialize(
    path: Path, libraries: list[ModuleType], core: int | None
) -> tuple[ModuleType, Any, Any]:
    """Load the engine with the library that built it: neither reads the other's."""
    data = path.read_bytes()
    for library in libraries:
        runtime = library.Runtime(library.Logger(library.Logger.ERROR))
        if core is not None:
            runtime.DLA_core = core  # else all engines run on core 0
        engine = runtime.deserialize_cuda_engine(data)
        if engine is not None:
            require_version(library.__name__)  # what runs it here asks for names of 10.3
            # The runtime must outlive its engine.
            return library, runtime, engine
    for library in libraries:
        require_version(library.__name__)
    versions = ", ".join(f"{library.__name__} {library.__version__}" for library in libraries)
    raise ArtifactError(
        f"{path} cannot be loaded by {versions}",
        hint="An engine fits one GPU model and one TensorRT version. Build it again on this "
        "device with the bundle's build_engine.sh.",
    )
