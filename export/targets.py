"""What TensorRT targets get beyond the graph: a lint, an engine, a script that builds one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import onnx

from waveedge.compression.costs import CPU, GPU, PROFILES, CostProfile
from waveedge.errors import ExportError, RecipeError
from waveedge.export.device_script import SCRIPT, write_build_script
from waveedge.export.engine import (
    Backend,
    Build,
    backend_version,
    build_engine,
    require_backend,
)
from waveedge.export.lint import Finding, lint
from waveedge.export.manifest import tensor_info
from waveedge.filetypes import ENGINE
from waveedge.runtime.sizes import SizeRange

__all__ = [
    "ENGINE",
    "Target",
    "check_target",
    "cost_of",
    "for_target",
    "is_tensorrt",
    "target_notes",
]

Target = Literal["onnx", "ort", "trt", "trt-rtx"]


def check_target(target: Target) -> None:
    """Refuses a target before any work is done for it.

    Raises:
        RecipeError: it is none of :data:`Target`.
        MissingDependencyError: it is "trt-rtx", and ``tensorrt_rtx`` is not installed.
    """
    if target not in get_args(Target):
        raise RecipeError(
            f"the target {target!r} is unknown",
            hint=f"Known targets: {', '.join(get_args(Target))}.",
        )
    if target == "trt-rtx":
        require_backend("tensorrt_rtx")


def cost_of(cost: CostProfile | str | None, target: Target) -> CostProfile:
    """The cost profile of that name, or the target's own.

    Raises:
        RecipeError: there is none of that name.
    """
    if cost is None:
        return GPU if is_tensorrt(target) else CPU
    if isinstance(cost, CostProfile):
        return cost
    if cost not in PROFILES:
        raise RecipeError(
            f"the cost profile {cost!r} is unknown", hint=f"Known: {', '.join(PROFILES)}."
        )
    return PROFILES[cost]


def is_tensorrt(target: Target) -> bool:
    """Whether an engine is what the target runs."""
    return target in ("trt", "trt-rtx")


def for_target(
    folder: Path, graph: onnx.ModelProto, target: Target, sizes: SizeRange | None = None
) -> tuple[list[Finding], Build | None]:
    """Lints and builds for TensorRT; writes the engine, or the script that builds it.

    Args:
        sizes: of the images, where the graph leaves them free.
    """
    if not is_tensorrt(target):
        return [], None
    findings = lint(graph)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise ExportError(
            "TensorRT cannot run this graph:\n" + "\n".join(f"  {error}" for error in errors),
            hint="Mend these layers, or choose --target onnx or ort.",
        )
    serialized = graph.SerializeToString()
    if target == "trt":
        info = tensor_info(graph.graph.input[0])
        write_build_script(folder, info["name"], info["shape"], sizes)
        if backend_version("tensorrt") is None:
            proxy = backend_version("tensorrt_rtx") is not None
            return findings, build_engine(serialized, "tensorrt_rtx", sizes) if proxy else None
    backend: Backend = "tensorrt_rtx" if target == "trt-rtx" else "tensorrt"
    build = build_engine(serialized, backend, sizes)
    if build.engine is None:
        raise ExportError(
            f"{build.backend} does not build this graph: {'; '.join(build.errors[:3])}",
            hint="Choose --target onnx or ort, or report the network's configuration.",
        )
    (folder / ENGINE).write_bytes(build.engine)
    return findings, build


def target_notes(target: Target, findings: list[Finding], build: Build | None) -> list[str]:
    """What a reader of the manifest should know and could not guess."""
    notes = [str(finding) for finding in findings]
    if not is_tensorrt(target):
        return notes
    if build is None:
        notes.append(
            "no TensorRT is installed here: the graph was linted, not built, and executed bits are "
            "those of onnxruntime"
        )
    elif build.engine is None:
        notes.append(f"proxy: {build.backend} does not build this graph: {build.errors[0]}")
    elif build.proxy and target == "trt":
        int8 = sum(kernel.int8 for kernel in build.kernels)
        notes.append(
            f"proxy: {build.backend} builds this graph for SM {', '.join(build.targets)} "
            f"({len(build.engine)} bytes, {len(build.kernels)} kernels, {int8} of them on int8); "
            "executed bits are read from that engine, not from one for the device"
        )
    if target == "trt" and (build is None or build.proxy):
        notes.append(f"build the engine on the device with ./{SCRIPT}")
    return notes
