"""What a session asks of an inference runtime, and onnxruntime's answer to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from waveedge.errors import ArtifactError, InputError, MissingDependencyError, WaveedgeError
from waveedge.runtime.denormals import flushed_denormals
from waveedge.runtime.external import stores_bfloat16
from waveedge.runtime.schema import shown

__all__ = ["Array", "Backend", "DeviceTimes", "OnnxBackend", "TensorInfo", "session_options"]

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorInfo:
    """Name, shape (a string where the size is free) and dtype of an input."""

    name: str
    shape: tuple[int | str, ...]
    dtype: np.dtype[Any]


class DeviceTimes(NamedTuple):
    """Where a run on a GPU spent its time there, in milliseconds, by events between its parts."""

    to_device: float
    execution: float
    to_host: float


class Backend(Protocol):
    """A loaded network: what runs it, what it takes, and the names of its outputs.

    ``parallel`` says what ``streams`` gives each of its backends.
    """

    name: str
    parallel: str
    inputs: list[TensorInfo]
    outputs: list[str]

    def run(self, *arrays: Array) -> list[Array]:
        """Run on one array for each of ``inputs``, checked against these."""
        ...

    def streams(self, count: int) -> Sequence[Backend]:
        """So many of the same network that may run at once, each in a thread of its own."""
        ...


class OnnxBackend:
    """onnxruntime, with the settings that edge inference wants.

    Args:
        path: an ``.onnx`` or ``.ort`` file.
        threads: threads that one operator may use.
        provider: an onnxruntime execution provider's name.
        arena: keep activation memory between runs.
        as_written: run quantizers as the floating-point operations that they are, and fuse nothing
            to integers.
    """

    parallel = "onnxruntime sessions of their own, each with its threads"

    def __init__(
        self, path: Path, *, threads: int, provider: str, arena: bool, as_written: bool = False
    ) -> None:
        ort = _import_onnxruntime()
        if provider not in ort.get_available_providers():
            raise InputError(
                f"this onnxruntime has no provider {provider!r}",
                hint=f"Available: {', '.join(ort.get_available_providers())}, and 'auto', 'cpu'.",
            )
        options = session_options(threads=threads, arena=arena)
        if as_written:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            # Making a session may set the calling thread's flags for good: see denormals.py.
            with flushed_denormals():
                self._session = ort.InferenceSession(
                    _loadable(path),
                    options,
                    providers=[provider],
                )
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            _refuse_if_out_of_memory(error, f"load {path}")
            _refuse_if_bfloat16(error, path)
            raise ArtifactError(
                f"onnxruntime {ort.__version__} cannot load {path}: {_reason(error)}",
                hint="The file is damaged, or needs a newer onnxruntime. Export it again.",
            ) from error
        if provider not in self._session.get_providers():
            # It says so on stderr at most, and runs on the CPU under another's name.
            raise MissingDependencyError(
                f"onnxruntime {ort.__version__} has {provider}, and cannot start it here",
                hint="Its libraries (CUDA, cuDNN, TensorRT) are missing or of another version, or "
                "there is no GPU.",
            )
        self._again = partial(
            OnnxBackend,
            path,
            threads=threads,
            provider=provider,
            arena=arena,
            as_written=as_written,
        )
        self.name = f"onnxruntime ({provider.removesuffix('ExecutionProvider')})"
        self.inputs = [_tensor_info(path, node) for node in self._session.get_inputs()]
        self.outputs = [str(node.name) for node in self._session.get_outputs()]

    def run(self, *arrays: Array) -> list[Array]:
        """Run the network; the arrays returned are the caller's own."""
        feeds = {info.name: array for info, array in zip(self.inputs, arrays, strict=True)}
        try:
            with flushed_denormals():
                return list(self._session.run(None, feeds))
        except Exception as error:
            what = f"an input of shape {' and '.join(str(array.shape) for array in arrays)}"
            _refuse_if_out_of_memory(error, f"run the network on {what}")
            raise InputError(
                f"the network cannot run on {what}: {_reason(error)}",
                hint="Height and width may have to be multiples of a power of two.",
            ) from error

    def streams(self, count: int) -> list[OnnxBackend]:
        """Sessions of their own: threads of one session would share its workers."""
        return [self, *(self._again() for _ in range(count - 1))]


def _loadable(path: Path) -> str | bytes:
    """What onnxruntime can load: it takes names in UTF-8 alone, and else the file's content."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.read_bytes()
    return str(path)


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f"running an ONNX model needs onnxruntime: {error}", hint="pip install onnxruntime"
        ) from error
    return onnxruntime


def session_options(*, threads: int = 1, arena: bool = True) -> Any:
    """onnxruntime's settings for these networks, each with its reason."""
    ort = _import_onnxruntime()
    options = ort.SessionOptions()
    # All: the layout and int8 fusions (NCHWc, QLinearConv) are in the last level.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # These networks are chains: parallel operators would only fight for the same cores.
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle workers sleep. Spinning burns a core per thread between images, heats a small device,
    # and would count one session's waiting as another's CPU time in a paired benchmark.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Worker threads only; the calling thread is dealt with in denormals.py.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    # The arena saves mapping and zeroing pages at each run: about 15 % of the time of a network
    # with large maps. The memory pattern, from the second run, adds one block for the whole
    # plan beside what the arena already holds: twice the memory for no measurable time.
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = False
    # Reuse is planned by shape: a buffer is kept from its last reader to the next tensor of that
    # very shape, however far away. Freed at once, it serves any tensor, and is still in the
    # cache: up to two thirds less memory and 6 % less time (benchmarks/results/settings.md).
    options.enable_mem_reuse = False
    # Errors come as exceptions; a second copy on stderr helps nobody.
    options.log_severity_level = 4
    return options


_DTYPES = {f"tensor({name})": name for name in ("bool", "float16")}
_DTYPES |= {
    f"tensor({sign}int{bits})": f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u")
}
# onnxruntime spells these two as C does.
_DTYPES |= {"tensor(float)": "float32", "tensor(double)": "float64"}


def _tensor_info(path: Path, node: Any) -> TensorInfo:
    if node.type not in _DTYPES:
        raise InputError(
            f"{path} takes a {shown(node.type)} as its input {shown(node.name)}; only arrays of "
            "numbers and booleans can be given",
            hint="Export the network without this input.",
        )
    shape = tuple(
        size if isinstance(size, str) or (size or 0) > 0 else f"axis{axis}"
        for axis, size in enumerate(node.shape)
    )
    return TensorInfo(node.name, shape, np.dtype(_DTYPES[node.type]))


def _refuse_if_out_of_memory(error: Exception, what: str) -> None:
    """Raise the error of a machine that is too small, if that is what onnxruntime met."""
    phrases = ("bad_alloc", "bad allocation", "Failed to allocate memory")
    if isinstance(error, MemoryError) or any(phrase in str(error) for phrase in phrases):
        raise WaveedgeError(
            f"this machine has not enough memory to {what}",
            hint="Choose a smaller input or batch, or end other programs.",
        ) from error


def _refuse_if_bfloat16(error: Exception, path: Path) -> None:
    """Raise the error of a form for devices, if it is one: onnxruntime's names an operator."""
    if path.suffix == ".onnx" and stores_bfloat16(path):
        raise InputError(
            f"{path} computes in bfloat16, which onnxruntime does not run here",
            hint="It is for TensorRT: waveedge build makes an engine of it on the device.",
        ) from error


def _reason(error: Exception) -> str:
    """The readable part of onnxruntime's message, on one line."""
    return shown(" ".join(str(error).split(" : ", 3)[-1].split()), 300)
