"""What the TensorRT targets have in common: int8 with zero point 0, a lint, an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx_ir.passes import Sequential

from waveedge.compression.costs import GPU
from waveedge.errors import ExportError
from waveedge.export.engine import Backend, Build, build_engine
from waveedge.export.layers import Layer, seen_in_engine
from waveedge.export.lint import Finding, lint
from waveedge.export.passes import int8_encoding, plain
from waveedge.export.target import Target
from waveedge.filetypes import ENGINE
from waveedge.runtime.sizes import SizeRange

__all__ = ["TensorRT", "built"]


class TensorRT(Target):
    """Networks that run as engines."""

    cost = GPU
    builds_engines = True

    def pipeline(self) -> Sequential:
        return Sequential(int8_encoding(), plain())

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
        return super().executed(model, layers, build, precision)


def built(folder: Path, graph: onnx.ModelProto, backend: Backend, sizes: SizeRange | None) -> Build:
    """Builds the engine into ``folder``.

    Raises:
        ExportError: the backend does not build the graph.
    """
    build = build_engine(graph.SerializeToString(), backend, sizes)
    if build.engine is None:
        raise ExportError(
            f"{build.backend} does not build this graph: {'; '.join(build.errors[:3])}",
            hint="Choose --target onnx or ort, or report the network's configuration.",
        )
    (folder / ENGINE).write_bytes(build.engine)
    return build
