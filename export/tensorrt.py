"""What the TensorRT targets have in common: int8 with zero point 0, a lint, an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes import Sequential

from waveedge.compression.costs import GPU
from waveedge.errors import ExportError
from waveedge.export.layers import (
    Layer,
    optimised_by_onnxruntime,
    seen_in_engine,
    seen_in_graph,
)
from waveedge.export.lint import Finding, lint
from waveedge.export.onnx_runner import Run, run_onnxruntime, run_rounded
from waveedge.export.passes import half_precision, int8_encoding, plain
from waveedge.export.target import Target
from waveedge.export.widening import widened
from waveedge.filetypes import ENGINE
from waveedge.runtime.engine_builder import Backend, Build, build_engine
from waveedge.runtime.sizes import SizeRange

__all__ = ["TensorRT", "built", "required"]

_HALVES = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}


class TensorRT(Target):
    """Networks that run as engines.

    What ships as the bundle's model runs on a desk too, by onnxruntime; in bfloat16, which that
    does not run, there are forms for the device alone.
    """

    cost = GPU
    builds_engines = True
    precisions = ("float32", "float16")
    form_precisions = (*precisions, "bfloat16")

    def pipeline(self, precision: str) -> Sequential:
        written = plain() if precision == "float32" else half_precision(_HALVES[precision])
        return Sequential(int8_encoding(), written)

    def runner(self, precision: str) -> Run:
        return run_rounded if precision == "bfloat16" else run_onnxruntime

    def lint(self, graph: onnx.ModelProto) -> list[Finding]:
        findings = lint(graph)
        errors = [finding for finding in findings if finding.level == "error"]
        if errors:
            raise ExportError(
                "TensorRT cannot run this graph:\n" + "\n".join(f"  {error}" for error in errors),
                hint="Mend these layers, or choose --target onnx or ort.",
            )
        return findings

    def executed(
        self, model: Path, layers: Sequence[Layer], build: Build | None, precision: str
    ) -> set[str]:
        if build is not None and build.kernels:
            return seen_in_engine(build.kernels, layers)
        # onnxruntime has no integer kernels between float16, and TensorRT has.
        wide = ir.to_proto(widened(ir.load(model))).SerializeToString()
        return seen_in_graph(optimised_by_onnxruntime(wide), layers)


def built(folder: Path, graph: onnx.ModelProto, backend: Backend, sizes: SizeRange | None) -> Build:
    """Builds the engine into ``folder``.

    Raises:
        ExportError: the backend does not build the graph.
    """
    build = required(build_engine(graph.SerializeToString(), backend, sizes))
    assert build.engine is not None
    (folder / ENGINE).write_bytes(build.engine)
    return build


def required(build: Build) -> Build:
    """A build that must have come to an engine.

    Raises:
        ExportError: it has not.
    """
    if build.engine is None:
        raise ExportError(
            f"{build.backend} does not build this graph: {'; '.join(build.errors[:3])}",
            hint="Choose --target onnx or ort, or report the network's configuration.",
        )
    return build
