"""More training of a compressed network, by the user's own: what compress does little of."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from waveedge.calibration import ImageSet, Source
from waveedge.compression.compressed import Compressed
from waveedge.compression.report import measure
from waveedge.compression.threads import one_thread
from waveedge.compression.tuning import Tuning
from waveedge.errors import InputError, reason
from waveedge.finetune_state import restore_tuning, save_tuning
from waveedge.opening import Network, checkpoint_of, open_float, open_network, with_images
from waveedge.reference import Reference, run

__all__ = ["STEPS", "tune"]

STEPS = 1000
"""Five times as many as compress takes."""

Progress = Callable[[str, int, int], None]


@torch.random.fork_rng(devices=[])
@one_thread()
def tune(
    network: Compressed | str | Path,
    images: Source | ImageSet | None = None,
    *,
    teacher: Network | None = None,
    steps: int = STEPS,
    seed: int = 0,
    state: str | Path | None = None,
    warn: Callable[[str], object] = warnings.warn,
    progress: Progress | None = None,
) -> Compressed:
    """Train a compressed network to give the outputs of the network that it was made from.

    Weights, biases and steps of grids are trained, without labels; see
    :mod:`waveedge.compression.tuning`. The result is never worse than what came in, on images
    that were held out; the same arguments give the same result.

    Args:
        network: what ``compress`` returned, or the path of an artifact.
        images: to train with and to judge by, as for ``compress``; the built-in photos when None.
        teacher: the network in floating point; by default the one that was compressed, from
            memory or from its checkpoint, where that is found from the artifact's folder.
        steps: of the optimiser.
        seed: of the choice of images.
        state: a file for how far it has come. Where that is of this very tuning, interrupted, it
            goes on from there, to the same result.
        warn: called with each sentence that should be read before the result is used.
        progress: called with (what is being done, steps done, steps in all).

    Raises:
        InputError: the network is not compressed, or the teacher is not found, or gives outputs of
            other shapes.
        ImageError: there are no usable images.
        CheckpointError: the state is damaged.
    """
    compressed = open_network(network)
    if not isinstance(compressed, Compressed):
        raise InputError(
            "this network is not compressed, so there is nothing to tune",
            hint="Compress it first: waveedge compress MODEL",
        )
    own = _teacher(compressed, teacher)
    spec = compressed.spec
    _, opened = with_images(
        compressed.graph, images, size=compressed.input_size, seed=compressed.recipe.seed, warn=warn
    )
    judged = opened.judged
    _check_alike(compressed.graph, own, judged[0])
    report_progress = progress or (lambda _what, _done, _total: None)
    tuning = Tuning(compressed.graph, own, opened.calibration, judged, steps, seed)
    task = _task(compressed, own, opened, steps, seed)
    path = Path(state) if state is not None else None
    if path is not None and path.exists() and restore_tuning(tuning, path, task):
        warn(f"goes on after {tuning.done} steps, from {path}")

    def looked() -> None:
        if path is not None:
            save_tuning(tuning, path, task)

    tuning.run(lambda done, total: report_progress("tuning", done, total), looked)
    found, graph = tuning.found, tuning.best()
    if found.reason:
        warn(f"tuning ended after {tuning.done} steps: {found.reason}")
    reference = Reference(own, judged)
    quality, _ = measure(reference, graph, graph, len(judged), spec.task)
    report = compressed.report.model_copy(
        update={
            "quality": quality,
            "tuned": found.report(),
            # Those of layers were of the network before.
            "layers": tuple(
                row.model_copy(update={"snr_db": None}) for row in compressed.report.layers
            ),
        }
    )
    return replace(compressed, graph=graph, report=report, original=own, path=None)


def _teacher(compressed: Compressed, given: Network | None) -> nn.Module:
    if given is not None:
        return open_float(given, "the teacher")
    if compressed.original is not None:
        return compressed.original
    found = checkpoint_of(compressed)
    if found is None:
        raise InputError(
            "the network that this was compressed from, "
            f"{compressed.source_name or 'made in memory'}, is not found from the artifact's "
            "folder or from this one",
            hint="Name it: --teacher MODEL (in Python: teacher=).",
        )
    return open_float(found)


def _check_alike(graph: nn.Module, teacher: nn.Module, image: NDArray[np.float32]) -> None:
    """Refuse a teacher that cannot be that of this network."""
    wanted = [tuple(tensor.shape) for tensor in run(graph, image)]
    try:
        found = [tuple(tensor.shape) for tensor in run(teacher, image)]
    except RuntimeError as error:
        raise InputError(
            f"the teacher cannot run on what the compressed network takes: {reason(error)}",
            hint="Give the network that was compressed.",
        ) from error
    if found != wanted:
        raise InputError(
            f"the teacher is another network: its outputs are {found}, not {wanted}",
            hint="Give the network that was compressed.",
        )


def _task(
    compressed: Compressed, teacher: nn.Module, images: ImageSet, steps: int, seed: int
) -> str:
    """What the result depends on, in one word."""
    digest = hashlib.sha256(f"{images.fingerprint} {steps} {seed}".encode())
    for module in (compressed.graph, teacher):
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
