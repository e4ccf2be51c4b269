"""Session: numpy in, numpy out, for exported bundles, ONNX files and TensorRT engines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from waveedge.errors import ArtifactError, InputError
from waveedge.runtime.backend import Array, Backend, OnnxBackend, TensorInfo
from waveedge.runtime.bundle import Bundle, open_bundle

__all__ = ["Session"]

_ENGINE_SUFFIXES = (".engine", ".plan")
_MODEL_SUFFIXES = (".onnx", ".ort")


class Session:
    """A network ready to run.

    Args:
        path: a bundle folder (its files are checked against their hashes first), an ``.onnx``
            or ``.ort`` file, or a TensorRT ``.engine`` or ``.plan``.
        threads: CPU threads that one operator may use.
        provider: ``"auto"`` runs a bundle's TensorRT engine where TensorRT and a GPU are
            present, else the ONNX model on the CPU; ``"cpu"`` and ``"engine"`` insist on one;
            any other name is an onnxruntime execution provider.
        arena: keep activation memory between runs (faster). Without it the memory goes back to
            the system after each run.

    Attributes:
        path: the model file in use.
        manifest: the bundle's manifest, or None.
        backend: what runs the network, as text.
        load_seconds: wall time that loading the model took, hashes not counted.

    Raises:
        InputError: no such file, or an option that makes no sense.
        ArtifactError: the bundle or the model is damaged.
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
        if threads < 1:
            raise InputError(f"threads is {threads}", hint="Use 1 or more.")
        bundle = _bundle_of(Path(path))
        self.manifest: Mapping[str, Any] | None = bundle.manifest if bundle else None
        self.path = _model_file(Path(path), bundle, provider)
        start = time.perf_counter()
        self._backend = _load(self.path, threads, provider, arena)
        self.load_seconds = time.perf_counter() - start
        self.backend = self._backend.name
        self._input = _only_input(self.path, self._backend.inputs)

    @property
    def input_name(self) -> str:
        """The input's name."""
        return self._input.name

    @property
    def input_shape(self) -> tuple[int | str, ...]:
        """The input's shape; free sizes are names, such as ``"batch"``."""
        return self._input.shape

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """The input's dtype."""
        return self._input.dtype

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs' names, in the order that ``run`` returns them."""
        return tuple(output.name for output in self._backend.outputs)

    def run(self, image: Array) -> Array | tuple[Array, ...]:
        """Run the network on one batch.

        Args:
            image: array of ``input_shape`` and ``input_dtype``, already preprocessed.

        Returns:
            The output, or a tuple where the network has several.

        Raises:
            InputError: dtype, rank, channels or size do not fit; the message says which.
        """
        self.check(image)
        outputs = self._backend.run(np.ascontiguousarray(image))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    __call__ = run

    def check(self, image: Array) -> None:
        """Raise the InputError that ``run`` would, without running."""
        _check(image, self._input)

    def example_input(self, shape: Sequence[int] | None = None, *, seed: int = 0) -> Array:
        """Make a seeded random input, for measuring time and memory.

        Args:
            shape: the full shape; needed where a size other than the batch is free.
            seed: of the normal distribution that values are drawn from.
        """
        if shape is None:
            free = [f"{size!r}" for size in self.input_shape[1:] if isinstance(size, str)]
            if free:
                raise InputError(
                    f"{self.path} leaves its input size open ({', '.join(free)})",
                    hint="Give images of the size to run at.",
                )
            shape = [1 if isinstance(size, str) else size for size in self.input_shape]
        values = np.random.default_rng(seed).standard_normal(tuple(shape))
        return values.astype(self.input_dtype)


def _bundle_of(path: Path) -> Bundle | None:
    if not path.exists():
        raise InputError(
            f"there is no file or folder {path}",
            hint="Name a bundle folder written by waveedge export, or an .onnx file.",
        )
    return open_bundle(path) if path.is_dir() else None


def _model_file(path: Path, bundle: Bundle | None, provider: str) -> Path:
    """Choose the file to load, by what was named and by what this machine can run."""
    if bundle is not None:
        if provider == "engine" and bundle.engine is None:
            raise InputError(
                f"bundle {path} holds no TensorRT engine",
                hint="Build it on this device with the bundle's build_engine.sh.",
            )
        if bundle.engine and (provider == "engine" or (provider == "auto" and _engine_runs())):
            return bundle.engine
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


def _engine_runs() -> bool:
    from waveedge.runtime.engine import can_run_engines

    return can_run_engines()


def _load(path: Path, threads: int, provider: str, arena: bool) -> Backend:
    if path.suffix in _ENGINE_SUFFIXES:
        from waveedge.runtime.engine import EngineBackend

        return EngineBackend(path)
    name = "CPUExecutionProvider" if provider in ("auto", "cpu") else provider
    return OnnxBackend(path, threads=threads, provider=name, arena=arena)


def _only_input(path: Path, inputs: Sequence[TensorInfo]) -> TensorInfo:
    if len(inputs) != 1:
        names = ", ".join(tensor.name for tensor in inputs) or "none"
        raise ArtifactError(
            f"{path} has {len(inputs)} inputs ({names}); a Session feeds networks with one",
            hint="Export the network with a single image input.",
        )
    return inputs[0]


def _check(image: object, expected: TensorInfo) -> None:
    """Refuse what the network cannot take, in words about images and not about tensors."""
    wanted = _shape_text(expected.shape)
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"the input is a {type(image).__name__}; a numpy array of shape {wanted} is needed",
            hint=f"Convert it: numpy.asarray(x, dtype=numpy.{expected.dtype})",
        )
    if image.dtype != expected.dtype:
        raise InputError(
            f"the input has dtype {image.dtype}; the network takes {expected.dtype}",
            hint="Preprocess 8-bit images as the manifest's 'preprocessing' says."
            if image.dtype == np.uint8
            else f"Convert it: x.astype(numpy.{expected.dtype})",
        )
    if image.ndim != len(expected.shape):
        raise InputError(
            f"the input has shape {image.shape}, of rank {image.ndim}; the network takes {wanted}",
            hint="Add the batch axis: x[numpy.newaxis]"
            if image.ndim + 1 == len(expected.shape)
            else "",
        )
    for axis, (size, need) in enumerate(zip(image.shape, expected.shape, strict=True)):
        if size == need or (isinstance(need, str) and size > 0):
            continue
        raise InputError(
            f"the input has shape {image.shape}; the network takes {wanted}, "
            f"so its {_axis_name(axis, image.ndim)} must be {need}, not {size}",
            hint=_mend(image.shape, expected.shape, axis),
        )


def _axis_name(axis: int, rank: int) -> str:
    names = ("batch", "number of channels", "height", "width")
    return names[axis] if rank == len(names) else f"axis {axis}"


def _mend(shape: tuple[int, ...], expected: tuple[int | str, ...], axis: int) -> str:
    if len(shape) != 4:
        return ""
    if axis == 0:
        return "Export with --batch dynamic to run any batch."
    if shape[3] == expected[1]:
        return "Channels come first: x.transpose(0, 3, 1, 2)"
    if axis == 1:
        return "Convert the image to the channels that the network was trained on."
    return "Resize the image, or export again with --input-size HxW."


def _shape_text(shape: Sequence[int | str]) -> str:
    return f"({', '.join(str(size) for size in shape)})"
