"""The user's own network as ONNX: the baseline of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from torch import nn

from waveedge.errors import ExportError
from waveedge.export.lowering import lower
from waveedge.export.onnx_runner import Run
from waveedge.export.torch_to_onnx import Batch, to_onnx
from waveedge.export.verification import Verification
from waveedge.export.verify import verify
from waveedge.normalise import detached_copy, normalise
from waveedge.runtime.sizes import SizeRange
from waveedge.spec import Task

__all__ = ["Baseline", "export_baseline"]


@dataclass(frozen=True)
class Baseline:
    """A network as published.

    Attributes:
        traced: as :func:`to_onnx` gives it.
        shipped: its file.
        verification: of the first group of images.
    """

    traced: ir.Model
    shipped: onnx.ModelProto
    verification: Verification


def export_baseline(
    published: nn.Module,
    shape: tuple[int, int, int],
    batch: Batch,
    sizes: SizeRange | None,
    groups: Sequence[Sequence[NDArray[np.float32]]],
    task: Task,
    run: Run,
) -> Baseline:
    """The user's network as torch exports it; where torch cannot, from its normal form.

    Verified on groups of batches, each of one size.

    Raises:
        ExportError: torch can export neither.
    """
    forms: tuple[Callable[[], nn.Module], ...] = (
        lambda: detached_copy(published),
        lambda: normalise(published, shape),
    )
    failure: ExportError | None = None
    for form in forms:
        try:
            traced = to_onnx(form(), shape, batch=batch, sizes=sizes)
            graph = lower(traced, "onnx")
            compare = partial(
                verify, published, graph.encoded, shipped=graph.shipped, task=task, run=run
            )
            results = [compare(batches) for batches in groups]
            return Baseline(traced, graph.shipped, results[0])
        except ExportError as error:
            failure = error
    assert failure is not None
    raise failure
