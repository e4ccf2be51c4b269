"""Session: numpy in, numpy out, for exported bundles, ONNX files and TensorRT engines."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from waveedge.errors import ArtifactError, InputError
from waveedge.runtime.backend import Array, Backend, OnnxBackend
from waveedge.runtime.bundle import Bundle, open_bundle
from waveedge.runtime.external import external_files, file_bytes
from waveedge.runtime.inputs import check_inputs, example_inputs
from waveedge.runtime.machine import int8_saturates
from waveedge.runtime.manifest import OPENVINO
from waveedge.runtime.schema import shown
from waveedge.runtime.sizes import SizeRange

if TYPE_CHECKING:
    from waveedge.runtime.engine import EngineBackend

__all__ = ["Session"]

_ENGINE_SUFFIXES = (".engine", ".plan")
_MODEL_SUFFIXES = (".onnx", ".ort")
_GPU_PROVIDERS = tuple(f"{name}ExecutionProvider" for name in ("CUDA", "Tensorrt", "NvTensorRTRTX"))


class Session:
    """A network ready to run.

    Args:
        path: a bundle folder (its files are checked against their hashes first), an ``.onnx``
            or ``.ort`` file, or a TensorRT ``.engine`` or ``.plan``.
        threads: CPU threads that one operator may use, up to this machine's processors.
        provider: ``"auto"`` runs a bundle's TensorRT engine where TensorRT and a GPU are
            present, else the ONNX model on the CPU by what the bundle was made for; ``"cpu"``
            (onnxruntime), ``"openvino"``, ``"openvino-bfloat16"`` and ``"engine"`` insist on
            one; any other name is an onnxruntime execution provider.
        arena: keep activation memory between runs (faster). Without it the memory goes back to
            the system after each run.

    Attributes:
        path: the model file in use.
        provider: what runs it, as the argument of that name has it, never "auto".
        inputs: name, shape and dtype of each input; most networks have one.
        manifest: the bundle's manifest, or None.
        sizes: which images a bundle of free height and width takes; None for all else.
        backend: what runs the network, as text.
        load_seconds: wall time that loading the model took, hashes not counted.

    Raises:
        InputError: no such file, or an option that makes no sense.
        ArtifactError: the bundle or the model is damaged, or weights beside it are missing.
        MissingDependencyError: onnxruntime, TensorRT or a GPU is missing.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 1,
        provider: str = "auto",
        arena: bool = True,
    ) -> None:
        processors = os.cpu_count() or 1
        if not 1 <= threads <= processors:
            raise InputError(
                f"threads is {threads}; this machine has {processors} processors",
                hint=f"Use 1 to {processors}." if processors > 1 else "Use 1.",
            )
        bundle = _bundle_of(Path(path))
        self.manifest: Mapping[str, Any] | None = bundle.manifest if bundle else None
        self.sizes = SizeRange.of_manifest(self.manifest)
        self.path = _model_file(Path(path), bundle, provider)
        if bundle is not None and self.path.suffix in _ENGINE_SUFFIXES:
            for note in _engine_notes(bundle, self.path):
                warnings.warn(note, stacklevel=2)
        if provider == "auto":
            engine = self.path.suffix in _ENGINE_SUFFIXES
            provider = "engine" if engine else bundle.manifest["provider"] if bundle else "cpu"
        self.provider = provider
        on_cpu = self.provider in ("cpu", "CPUExecutionProvider")
        saturates = _saturates(self.manifest)
        half = self.manifest is not None and self.manifest["precision"] == "float16"
        as_written = on_cpu and (saturates or half)
        if on_cpu and saturates and bundle is not None and bundle.manifest["target"] == "ort":
            warnings.warn(
                "this processor has no VNNI, and onnxruntime would cut off sums with int8 weights: "
                "the network runs in floating point. Export it on this machine to have it fast.",
                stacklevel=2,
            )
        start = time.perf_counter()
        self._backend = _load(self.path, threads, provider, arena, as_written)
        self.load_seconds = time.perf_counter() - start
        self.backend = self._backend.name
        self.inputs = tuple(self._backend.inputs)
        if not self.inputs:
            raise ArtifactError(
                f"{self.path} has no inputs: it computes the same each time",
                hint="Export the network with an image input.",
            )

    @property
    def input_name(self) -> str:
        """The first input's name."""
        return self.inputs[0].name

    @property
    def input_shape(self) -> tuple[int | str, ...]:
        """The first input's shape; free sizes are names, such as ``"batch"``."""
        return self.inputs[0].shape

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """The first input's dtype."""
        return self.inputs[0].dtype

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs' names, in the order that ``run`` returns them."""
        return tuple(self._backend.outputs)

    @property
    def engine(self) -> EngineBackend | None:
        """What runs it, where that is a TensorRT engine: what engines alone can do."""
        from waveedge.runtime.engine import EngineBackend

        return self._backend if isinstance(self._backend, EngineBackend) else None

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU runs it."""
        return self.engine is not None or self.provider in _GPU_PROVIDERS

    @property
    def file_bytes(self) -> int:
        """Size of the file and of the weights beside it."""
        return file_bytes(self.path)

    @property
    def device_ms(self) -> float | None:
        """An engine's time on the GPU in the last run, transfers not counted; else None."""
        times = self.engine.times if self.engine else None
        return times.execution if times else None

    @property
    def activation_bytes(self) -> int | None:
        """What TensorRT sets aside for an engine's activations on the GPU; else None."""
        return self.engine.activation_bytes if self.engine else None

    def run(self, *arrays: Array) -> Array | tuple[Array, ...]:
        """Run the network on one batch.

        Args:
            arrays: one for each of ``inputs``, of its shape and dtype, already preprocessed.

        Returns:
            The output, or a tuple where the network has several.

        Raises:
            InputError: dtype, rank, channels or size do not fit; the message says which.
            WaveedgeError: this machine has not enough memory.
        """
        self.check(*arrays)
        outputs = self._backend.run(*(np.asarray(array, order="C") for array in arrays))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    __call__ = run

    def streams(self, count: int) -> Sequence[Backend]:
        """What runs the network, so many times: each may run at once with the others."""
        return self._backend.streams(count)

    def check(self, *arrays: Array) -> None:
        """Raise the InputError that ``run`` would, without running."""
        check_inputs(arrays, self.inputs)
        if self.sizes is not None:
            height, width = arrays[0].shape[-2:]
            self.sizes.check((height, width), str(self.path))

    def example_inputs(
        self,
        shape: Sequence[int] | None = None,
        *,
        size: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> tuple[Array, ...]:
        """Make one seeded random array for each input, for measuring time and memory.

        Args:
            shape: the first input's full shape.
            size: (height, width) in pixels, for a network that leaves these free; by default what
                a bundle was made for.
            seed: of the random values.

        Raises:
            InputError: a size is left open, does not fit, or is too large.
        """
        if shape is None and size is None and self.sizes is not None:
            size = self.sizes.calibrated
        return example_inputs(self.inputs, shape=shape, size=size, seed=seed)


def _saturates(manifest: Mapping[str, Any] | None) -> bool:
    """Whether this processor would cut off sums that another one computes."""
    return manifest is not None and manifest["weights"] == "int8" and int8_saturates()


def _bundle_of(path: Path) -> Bundle | None:
    if not os.path.exists(path):
        raise InputError(
            f"there is no file or folder {path}",
            hint="Name a bundle folder written by waveedge export, or an .onnx file.",
        )
    if os.path.isdir(path):
        return open_bundle(path)
    if not os.path.isfile(path):  # opening a pipe waits, reading a device may never end
        raise InputError(
            f"{path} is not a regular file", hint="Write what it holds to a file, and name that."
        )
    return None


def _model_file(path: Path, bundle: Bundle | None, provider: str) -> Path:
    """Choose the file to load, by what was named and by what this machine can run."""
    if bundle is not None:
        if provider == "engine" or (provider == "auto" and _engine_runs()):
            engine = bundle.engine or _built(bundle)
            if engine is not None:
                return engine
        if provider == "engine":
            raise InputError(
                f"bundle {path} holds no TensorRT engine",
                hint=f"Build it here: waveedge build {path}",
            )
        return bundle.model
    if path.suffix not in _MODEL_SUFFIXES + _ENGINE_SUFFIXES:
        raise InputError(
            f"{path} is no model that can be run",
            hint="Name a bundle folder, or a file that ends in "
            f"{', '.join(_MODEL_SUFFIXES + _ENGINE_SUFFIXES)}.",
        )
    if provider not in ("auto", "engine") and path.suffix in _ENGINE_SUFFIXES:
        raise InputError(f"{path} is a TensorRT engine; provider {provider!r} cannot run it")
    if provider == "engine" and path.suffix in _MODEL_SUFFIXES:
        raise InputError(
            f"{path} is no TensorRT engine", hint="Name the engine, or use provider 'auto'."
        )
    return path


def _built(bundle: Bundle) -> Path | None:
    """The engine that a race chose here, or one of the bundle's own form, if there is one."""
    if not _engine_runs():
        return None
    from waveedge.runtime.race import chosen_engine

    return chosen_engine(bundle)


def _engine_notes(bundle: Bundle, engine: Path) -> list[str]:
    from waveedge.runtime.conditions import engine_notes

    return engine_notes(bundle, engine)


def _engine_runs() -> bool:
    from waveedge.runtime.engine import can_run_engines

    return can_run_engines()


def _load(
    path: Path, threads: int, provider: str, arena: bool, as_written: bool = False
) -> Backend:
    if path.suffix in _ENGINE_SUFFIXES:
        from waveedge.runtime.engine import EngineBackend

        return EngineBackend(path)
    if path.suffix == ".onnx":
        _require_weights(path)
    if provider in OPENVINO:
        from waveedge.runtime.openvino import OpenVinoBackend

        return OpenVinoBackend(path, threads=threads, precision=OPENVINO[provider])
    name = "CPUExecutionProvider" if provider == "cpu" else provider
    return OnnxBackend(path, threads=threads, provider=name, arena=arena, as_written=as_written)


def _require_weights(model: Path) -> None:
    """Refuse a model whose weights lie in another file that is not there."""
    for name in sorted(external_files(model)):
        if not os.path.isfile(model.parent / name):
            raise ArtifactError(
                f"{model} keeps weights in a file {shown(name)}, which is not beside it",
                hint="Copy it from where the model was made, or save the model in one file.",
            )
