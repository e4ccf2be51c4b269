"""More training of a compressed network, by the user's own: what compress does little of."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from waveedge.calibration import ImageSet, Source
from waveedge.compression.budget import steps_within
from waveedge.compression.compressed import Compressed
from waveedge.compression.lessons import windows_of
from waveedge.compression.processes import Accelerated, Processes
from waveedge.compression.report import measure
from waveedge.compression.scores import Labels
from waveedge.compression.threads import one_thread
from waveedge.compression.tuning import Tuning
from waveedge.errors import InputError, RecipeError, reason
from waveedge.finetune_state import read_tuning, restore_tuning, save_tuning
from waveedge.labels import LabelSource, images_wanted, in_order
from waveedge.limits import check_minutes
from waveedge.opening import Network, checkpoint_of, open_float, open_network, with_images
from waveedge.reference import Reference, run

if TYPE_CHECKING:
    from accelerate import Accelerator

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
    labels: LabelSource | None = None,
    teacher: Network | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    state: str | Path | None = None,
    accelerator: Accelerator | None = None,
    warn: Callable[[str], object] = warnings.warn,
    progress: Progress | None = None,
) -> Compressed:
    """Train a compressed network to give the outputs of the network that it was made from.

    Weights, biases and steps of grids are trained; see :mod:`waveedge.compression.tuning`. The
    result is never worse than what came in, on images that were held out; the same arguments give
    the same result.

    Args:
        network: what ``compress`` returned, or the path of an artifact.
        images: to train with and to judge by, as for ``compress``; the built-in photos when None.
        labels: of a classifier, which then learns from them as much as from the teacher: the class
            of each image, in the order of the images; or, where these are a folder, a file of
            lines ``name,class``.
        teacher: the network in floating point; by default the one that was compressed, from
            memory or from its checkpoint, where that is found from the artifact's folder.
        steps: of the optimiser; 1000 where neither steps nor minutes are given.
        minutes: to take about, in place of steps. A few steps are timed, and ``warn`` is told how
            many it will be: so many steps give the same result again.
        seed: of the choice of images.
        state: a file for how far it has come. Where that is of this very tuning, interrupted, it
            goes on from there, to the same result.
        accelerator: an ``accelerate.Accelerator(cpu=True)``, in each of several processes that
            make this same call: they share every batch. Only the first writes and tells.
        warn: called with each sentence that should be read before the result is used.
        progress: called with (what is being done, and how good it is; steps done; steps in all).

    Raises:
        InputError: the network is not compressed, or the teacher is not found, or gives outputs of
            other shapes; or labels are no classes of these images for this network.
        RecipeError: steps or minutes make no sense.
        ImageError: there are no usable images.
        CheckpointError: the state is damaged.
        WaveedgeError: another process is gone.
    """
    _check_budget(steps, minutes)
    compressed = open_network(network)
    if not isinstance(compressed, Compressed):
        raise InputError(
            "this network is not compressed, so there is nothing to tune",
            hint="Compress it first: waveedge compress MODEL",
        )
    processes = Processes() if accelerator is None else Accelerated(accelerator)
    if processes.index or progress is None:
        progress = _silent
    if processes.index:
        warn = _silent
    classes = None
    if labels is not None:
        classes, images = in_order(labels, images)
    own = _teacher(compressed, teacher)
    size = compressed.input_size
    _, opened = with_images(
        compressed.graph,
        images,
        size=size,
        seed=compressed.recipe.seed,
        wanted=images_wanted(size) if classes else None,
        warn=warn,
    )
    judged = opened.judged
    _check_alike(compressed.graph, own, judged[0])
    known = None
    if classes is not None:
        known = classes.of(opened, _outputs(compressed.graph, judged[0]))
    task = _task(compressed, own, opened, known, seed, processes)
    begin = partial(
        Tuning,
        compressed.graph,
        own,
        opened.calibration,
        judged,
        labels=known,
        processes=processes,
        windows=windows_of(compressed.sizes, compressed.graph, size),
    )
    path = Path(state) if state is not None else None
    saved = processes.first(lambda: read_tuning(path, task) if path is not None else None)
    if minutes is not None and saved is not None and saved.minutes == minutes:
        steps = saved.steps
    elif minutes is not None:
        trial = steps_within(begin(steps=STEPS, seed=seed), 60 * minutes)
        steps = processes.first(lambda: trial)
        warn(
            f"about {minutes:g} minutes: {steps:,} steps; --steps {steps} (in Python: "
            f"steps={steps}) gives the same again"
        )
    steps = STEPS if steps is None else steps
    tuning = begin(steps=steps, seed=seed)
    if saved is not None and saved.steps == steps:
        restore_tuning(tuning, saved)
        warn(f"goes on after {tuning.done} steps, from {path}")

    def looked() -> None:
        if path is not None and not processes.index:
            save_tuning(tuning, path, task, steps, minutes)

    tuning.run(lambda done, of: progress(f"tuning, {tuning.found.after}", done, of), looked)
    found, graph = tuning.found, tuning.best()
    if found.reason:
        warn(f"tuning ended after {tuning.done} steps: {found.reason}")
    reference = Reference(own, judged)
    quality, _ = measure(reference, graph, graph, len(judged), compressed.spec.task)
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


def _silent(*_: object) -> None:
    """Tell nobody."""


def _check_budget(steps: int | None, minutes: float | None) -> None:
    if steps is not None and minutes is not None:
        raise RecipeError("both steps and minutes are given", hint="Give one of them.")
    if steps is not None and steps < 1:
        raise RecipeError(f"{steps} steps are no training", hint="Give 1 or more.")
    if minutes is not None:
        check_minutes(minutes)


def _outputs(graph: nn.Module, image: NDArray[np.float32]) -> int:
    """How many classes a classifier tells apart."""
    output = run(graph, image)[0]
    if output.dim() != 2 or output.shape[1] < 2 or not output.is_floating_point():
        raise InputError(
            "labels are classes of whole images, and the first output of this network is of shape "
            f"{tuple(output.shape)}, not (1, classes)",
            hint="Leave the labels out: it learns from the float network. For labels of other "
            "kinds, train the artifact's module in a loop of your own (docs/shrinking.md).",
        )
    return output.shape[1]


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
    compressed: Compressed,
    teacher: nn.Module,
    images: ImageSet,
    labels: Labels | None,
    seed: int,
    processes: Processes,
) -> str:
    """What the result depends on, but for the steps, in one word.

    Raises:
        InputError: it depends on something else in the first process.
    """
    digest = hashlib.sha256(f"{images.fingerprint} {seed} {processes.count}".encode())
    if labels is not None:
        digest.update(labels.trained.tobytes() + b"|" + labels.judged.tobytes())
    for module in (compressed.graph, teacher):
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    task = digest.hexdigest()
    if processes.first(lambda: task) != task:
        raise InputError(
            f"process {processes.index} has another network, other images or other labels than "
            "process 0",
            hint="Give all of them the same files and options.",
        )
    return task
