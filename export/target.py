"""What makes a target: everything that export asks about where a network shall run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import onnx
from onnx_ir.passes import Sequential

from waveedge.compression.costs import CPU, CostProfile
from waveedge.errors import RecipeError
from waveedge.export.layers import Layer, optimised_by_onnxruntime, seen_in_graph
from waveedge.export.lint import Finding
from waveedge.export.onnx_runner import Run, run_onnxruntime
from waveedge.runtime.engine_builder import Build
from waveedge.runtime.sizes import SizeRange

__all__ = ["Target"]


class Target(ABC):
    """Where an exported network runs: its file in ``export/targets/`` says all about it.

    What a target does not say for itself is that of onnxruntime on a CPU.

    Attributes:
        name: on the command line and in manifests.
        cost: the prices by which exact rewrites choose, unless the user names others.
        precisions: what floating-point layers may compute in; the first is the default.
        form_precisions: the same of the forms beside, where a bundle carries any.
        timed_here: whether onnxruntime's time on this machine's CPU tells about the target.
        builds_engines: whether an engine is what runs, built for a range of sizes.
    """

    name: ClassVar[str]
    cost: ClassVar[CostProfile] = CPU
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    form_precisions: ClassVar[tuple[str, ...]] = ()
    timed_here: ClassVar[bool] = False
    builds_engines: ClassVar[bool] = False

    @abstractmethod
    def pipeline(self, precision: str) -> Sequential:
        """The graph passes in order, as two stages: ``encode, specialize = pipeline(...).passes``.

        1. *Encode* writes quantization as the target wants it, in standard operators. Layers and
           quantizers are still torch's, each with its origin as metadata: this is the graph that
           verification cuts at the quantizers.
        2. *Specialize* rearranges it for the kernels of a runtime and clears the metadata: this
           is the graph that ships.
        """

    def require(self) -> None:  # noqa: B027 (most need nothing)
        """Raises MissingDependencyError if nothing can be exported for the target here."""

    def precision(self, asked: str | None) -> str:
        """The precision asked for, or the default.

        Raises:
            RecipeError: the target has no such precision.
        """
        if asked is not None and asked not in self.precisions:
            raise RecipeError(
                f"the target {self.name} has no precision {asked!r}",
                hint=f"It has: {', '.join(self.precisions)}."
                + (
                    f" The bundle has forms in {asked} without it, as published-{asked}, for "
                    "waveedge build."
                    if asked in self.form_precisions
                    else ""
                ),
            )
        return asked or self.precisions[0]

    def provider(self, precision: str) -> str:
        """By what a session runs a bundle's ONNX on this machine; see ``Session``."""
        return "cpu"

    @property
    def runtime(self) -> str:
        """What :meth:`runner` runs graphs on, for the report of a verification."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}, CPU"

    def runner(self, precision: str) -> Run:
        """How graphs are run when they are verified."""
        return run_onnxruntime

    def lint(self, graph: onnx.ModelProto) -> list[Finding]:
        """What the target refuses or runs slowly, read from the graph alone."""
        return []

    def refusal(self, graph: onnx.ModelProto, precision: str) -> str:
        """Why a form beside what ships cannot run there, where that is known; else empty."""
        return ""

    def build(self, folder: Path, graph: onnx.ModelProto, sizes: SizeRange | None) -> Build | None:
        """Builds what runs in the place of the graph, or writes into ``folder`` how to.

        Args:
            folder: the bundle.
            graph: what ships.
            sizes: of the images, where the graph leaves them free.

        Raises:
            ExportError: nothing can be built from this graph.
        """
        return None

    def executed(
        self, model: Path, layers: Sequence[Layer], build: Build | None, precision: str
    ) -> set[str]:
        """Names of the nodes that run on integers, read from what a runtime makes of a file."""
        return seen_in_graph(optimised_by_onnxruntime(model.read_bytes()), layers)

    def notes(self, build: Build | None) -> list[str]:
        """What a reader of the manifest should know and could not guess."""
        return []
