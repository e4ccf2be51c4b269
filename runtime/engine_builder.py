"""ONNX -> TensorRT engine, by enterprise ``tensorrt`` or by ``tensorrt_rtx``.

Both packages have one Python interface, so one function builds with either. They differ in what
they are for: ``tensorrt`` (a Jetson, a server) builds for the GPU at hand and needs it;
``tensorrt_rtx`` (desktop GPUs) compiles for GPUs named in advance and needs none. It has no target
SM 8.7 (Jetson Orin), so an engine that it builds tells that TensorRT takes the graph, and which
kernels would run in int8; it is a proxy for the device, not a measurement of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from waveedge.errors import MissingDependencyError
from waveedge.extras import install_line
from waveedge.runtime.dla import Placement, place, require_dla
from waveedge.runtime.engine_layers import EngineLayer
from waveedge.runtime.engine_log import read_log
from waveedge.runtime.sizes import SizeRange

__all__ = [
    "Backend",
    "Build",
    "Settings",
    "backend_version",
    "build_engine",
    "profile_shapes",
    "require_backend",
    "require_version",
]

Backend = Literal["tensorrt", "tensorrt_rtx"]

RTX_TARGETS = ("8.6", "8.9")
"""Compute capabilities to build for without a GPU: the nearest relatives of Orin's 8.7."""

_OLDEST = (10, 3)

MAX_BATCH = 8
"""Largest batch of an engine with a dynamic batch."""

_MISSING = {
    "tensorrt": (
        "there is no TensorRT with a GPU here",
        f"On a Jetson, TensorRT comes with JetPack; elsewhere: {install_line('trt')}",
    ),
    "tensorrt_rtx": ("TensorRT-RTX is not installed", install_line("rtx")),
}


@dataclass(frozen=True)
class Settings:
    """How an engine is built; TensorRT's own ways where None.

    Attributes:
        workspace_bytes: memory that a layer may use while it runs.
        level: 0 to 5: how long the builder looks for faster kernels.
        timing_cache: what an earlier build on this device measured; it makes the next one shorter.
        dla_core: run on this deep learning accelerator what it takes, and the rest on the GPU.
        opt_batch: the batch that kernels are chosen for, where it is free: 1 to 8, by default 1.
        progress: called with (phase, steps done, steps in all).
    """

    workspace_bytes: int | None = None
    level: int | None = None
    timing_cache: bytes = b""
    dla_core: int | None = None
    opt_batch: int | None = None
    progress: Callable[[str, int, int], None] | None = None


@dataclass(frozen=True)
class Build:
    """What came of building an engine.

    Attributes:
        backend: package and version.
        targets: compute capabilities; empty for "the GPU at hand".
        proxy: True if the engine is evidence about other devices, not for them.
        engine: the serialized engine, None if it was not built.
        kernels: the steps of the engine, as far as the builder tells.
        errors: what the parser and the builder said against the graph.
        timing_cache: what this build measured, for the next one; enterprise TensorRT alone.
        placement: what runs on a deep learning accelerator; None where none was asked for.
        profile: the smallest, the usual and the largest shape; empty where it is fixed.
    """

    backend: str
    targets: tuple[str, ...]
    proxy: bool
    engine: bytes | None
    kernels: list[EngineLayer] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    timing_cache: bytes = b""
    placement: Placement | None = None
    profile: tuple[tuple[int, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON, without the engine itself."""
        return {
            "backend": self.backend,
            "targets": list(self.targets),
            "proxy": self.proxy,
            "built": self.engine is not None,
            "engine_bytes": len(self.engine) if self.engine is not None else None,
            "kernels": len(self.kernels),
            "int8_kernels": sum(kernel.int8 for kernel in self.kernels),
            "moved_bytes": sum(kernel.moved_bytes for kernel in self.kernels),
            "errors": self.errors,
        }


def backend_version(backend: Backend) -> str | None:
    """Version of an installed backend, or None. ``tensorrt`` counts only if it finds a GPU."""
    try:
        trt = import_module(backend)
        if backend == "tensorrt":
            trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    except Exception:  # a stub package, a missing library, no driver: all mean "not here"
        return None
    return str(trt.__version__)


def require_backend(backend: Backend) -> None:
    """Raises MissingDependencyError if :func:`build_engine` cannot run with this backend here."""
    if backend_version(backend) is None:
        what, hint = _MISSING[backend]
        raise MissingDependencyError(what, hint=hint)


def require_version(backend: str) -> None:
    """Raises MissingDependencyError if the TensorRT here is too old for strongly typed networks."""
    if backend != "tensorrt":
        return
    try:
        version = str(import_module(backend).__version__)
    except (ImportError, OSError, AttributeError):
        return  # require_backend says what is missing
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST:
        raise MissingDependencyError(
            f"TensorRT {version} is too old: it knows no strongly typed networks",
            hint="JetPack 6.0 has 8.6. Update to JetPack 6.1 or later, which has 10.3.",
        )


def build_engine(
    model: bytes,
    backend: Backend,
    sizes: SizeRange | None = None,
    settings: Settings | None = None,
) -> Build:
    """Builds a strongly typed engine from a serialized ONNX model.

    ``tensorrt_rtx`` builds for :data:`RTX_TARGETS`; ``tensorrt`` for the GPU at hand. A dynamic
    batch may be 1 to :data:`MAX_BATCH`.

    Args:
        sizes: of the images, where the model leaves them free: bounded, and tuned for
            ``sizes.calibrated``.
        settings: how, for ``tensorrt``.

    Returns:
        the engine, or the errors that kept it from being built.

    Raises:
        MissingDependencyError: the package, or for ``tensorrt`` a GPU, is not there, or no deep
            learning accelerator where one was asked for.
        InputError: such an accelerator does not run any of it.
    """
    require_backend(backend)
    trt = import_module(backend)
    log = _new_log(trt)
    builder = trt.Builder(log)
    settings = settings or Settings()
    core = settings.dla_core
    if core is not None:
        require_dla(trt, builder, core)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    rtx = backend == "tensorrt_rtx"

    engine, errors, cache, placement = None, [], b"", None
    profile: list[tuple[int, ...]] = []
    if parser.parse(model):
        config = builder.create_builder_config()
        # The log then lists every kernel with the types of its inputs, GPU or not.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if rtx:
            config.num_compute_capabilities = len(RTX_TARGETS)
            for index, target in enumerate(RTX_TARGETS):
                capability = getattr(trt.ComputeCapability, f"SM{target.replace('.', '')}")
                config.set_compute_capability(capability, index)
        else:
            _apply(trt, config, settings)
        profile = _add_profile(builder, network, config, sizes, settings.opt_batch or 1)
        if core is not None:
            placement = place(trt, network, config, core)
        serialized = builder.build_serialized_network(network, config)
        engine = bytes(serialized) if serialized is not None else None
        if not rtx and (measured := config.get_timing_cache()) is not None:
            cache = bytes(measured.serialize())
    else:
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    if engine is None:
        errors += [message for message in log.errors if message not in errors]
    return Build(
        backend=f"{backend} {trt.__version__}",
        targets=RTX_TARGETS if rtx else (),
        proxy=rtx,
        engine=engine,
        kernels=read_log(log.layers),
        errors=errors,
        timing_cache=cache,
        placement=placement,
        profile=tuple(profile),
    )


def _apply(trt: Any, config: Any, settings: Settings) -> None:
    # A cache of another device or version is not taken; the build then starts from nothing.
    config.set_timing_cache(config.create_timing_cache(settings.timing_cache), False)
    if settings.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    if settings.level is not None:
        config.builder_optimization_level = settings.level
    if settings.progress is not None:
        config.progress_monitor = _monitor(trt, settings.progress)


def _monitor(trt: Any, progress: Callable[[str, int, int], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Tells of the outermost phases; they run one after another."""

        def __init__(self) -> None:
            super().__init__()
            self._outer: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if not parent:
                self._outer[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in self._outer:
                progress(phase, step + 1, self._outer[phase])
            return True

        def phase_finish(self, phase: str) -> None:
            self._outer.pop(phase, None)

    return Monitor()


def _strongly_typed(trt: Any) -> int:
    """The flag that TensorRT 10 needs; 11 knows no other kind of network."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def profile_shapes(
    shape: Sequence[int | str | None], sizes: SizeRange | None, opt_batch: int = 1
) -> list[tuple[int, ...]]:
    """The smallest, the usual and the largest shape of an engine's input; none where it is fixed.

    Args:
        shape: (N, C, H, W); what is no number is free.
        sizes: of the images, where H and W are free.
        opt_batch: the usual batch, where N is free.
    """
    if all(isinstance(extent, int) for extent in shape):
        return []
    batch = [shape[0]] * 3 if isinstance(shape[0], int) else [1, opt_batch, MAX_BATCH]
    ends = [sizes.least, sizes.calibrated, sizes.most] if sizes else [shape[2:]] * 3
    return [(n, shape[1], *end) for n, end in zip(batch, ends, strict=True)]  # type: ignore[misc, arg-type]


def _add_profile(
    builder: Any, network: Any, config: Any, sizes: SizeRange | None, opt_batch: int
) -> list[tuple[int, ...]]:
    """Tells the builder the range of a dynamic batch, and of a free height and width."""
    tensor = network.get_input(0)
    shapes = profile_shapes([None if n < 0 else n for n in tensor.shape], sizes, opt_batch)
    if shapes:
        profile = builder.create_optimization_profile()
        profile.set_shape(tensor.name, *shapes)
        config.add_optimization_profile(profile)
    return shapes


def _new_log(trt: Any) -> Any:
    """A logger that keeps errors and the list of layers, and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)
            elif message.startswith("Layers:"):
                self.layers = message

    return Log()
