"""A short distillation from the user's own network, on the images that calibrate.

Weights, biases and the steps of all grids are trained together, through the rounding
(straight-through gradients; learnt steps as in LSQ, Esser et al., "Learned step size quantization",
ICLR 2020), until the output is as near to the float network's as it gets. No labels are asked for:
the float network is the teacher (Hinton et al., arXiv 1503.02531). Where there are some, they count
as much as the teacher does.

1. Batches are calibration images, half of them mirrored, or windows of these.
2. Adam's steps (``descent.py``) are short: with steps five times as long the first look finds
   ruins, and most of the time goes into repairs.
3. The state that is best on images that no step has seen is kept, the first one among them: the
   result is never worse than what came in. Where those fare clearly worse than in the best state,
   training goes on from that, in shorter steps; a little worse is chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.biases import round_biases
from waveedge.compression.descent import RelativeAdam, half_cosine, output_loss
from waveedge.compression.gelus import fit_gelus
from waveedge.compression.grids import tie_grids, untie_grids
from waveedge.compression.lessons import Lessons
from waveedge.compression.processes import Processes
from waveedge.compression.report import TuningReport
from waveedge.compression.rounding import put_on_grid, quantizes
from waveedge.compression.scores import Labels, Score, examine, first_outputs, surprise
from waveedge.compression.shrink import output_error
from waveedge.decibels import ratio_db
from waveedge.duplicates import duplicate
from waveedge.errors import reason as because
from waveedge.nn import ActivationQuantizer, WeightQuantizer
from waveedge.normalise import flat_outputs
from waveedge.normalise.capture import float_dtype
from waveedge.reference import run
from waveedge.runtime.sizes import Size

__all__ = ["CHECKS", "Tuned", "Tuning", "tune_graph"]

_RATE = 0.002
"""Of a step of Adam, relative to the root mean square of a tensor."""
_WORSE, _SHORTER = 1.05, 0.3
"""Where the held-out images fare that much worse than in the best state, training goes on from
there, at that share of the rate."""
CHECKS = 12
"""How often the held-out images are looked at."""
_LEAST = 0.1
"""Of the step that a grid came with: what it shrinks to at most."""
_PIXELS, _FEWEST = 2**19, 4
"""Of the held-out images that are looked at, and how many of them there are at least."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


@dataclass(frozen=True)
class Tuned:
    """What came of it.

    Attributes:
        before, after: how the network fared on the held-out images.
        steps: that were taken to the best state; 0 where the first was best.
        reason: why it ended before its time; empty where it did not.
    """

    before: Score
    after: Score
    steps: int
    reason: str = ""

    def report(self) -> TuningReport:
        """The same in decibels, for people."""
        return TuningReport(
            steps=self.steps,
            snr_db_before=ratio_db(1.0, self.before.error),
            snr_db=ratio_db(1.0, self.after.error),
            accuracy_before=self.before.accuracy,
            accuracy=self.after.accuracy,
        )


def tune_graph(
    graph: fx.GraphModule,
    teacher: nn.Module,
    images: Sequence[NDArray[np.float32]],
    judged: Sequence[NDArray[np.float32]],
    steps: int,
    seed: int,
    progress: Progress | None = None,
    windows: Sequence[Size] = (),
) -> tuple[fx.GraphModule, Tuned]:
    """Train a quantized network to give its teacher's outputs; see :class:`Tuning`.

    Args:
        progress: called after each step.
        windows: (height, width) that images may be cut to, the smallest first.

    Returns:
        (the best state, settled; what came of it).
    """
    tuning = Tuning(graph, teacher, images, judged, steps, seed, windows=windows)
    tuning.run(progress)
    return tuning.best(), tuning.found


class Tuning:
    """The training of a quantized network to give its teacher's outputs.

    Args:
        graph: the network, calibrated and rounded; it is not changed.
        teacher: the user's network in floating point.
        images: (1, C, H, W) float32, to train on.
        judged: others, to judge on; of large ones the first few.
        steps: of the optimiser.
        seed: of the choice of images.
        labels: of both kinds of images, for a network whose first output is (N, classes).
        processes: that tune it together; this one alone by default.
        windows: (height, width) that images may be cut to, the smallest first; see ``Lessons``.

    Raises:
        InputError: there are more processes than images to train on.

    Attributes:
        done: steps that were taken.
        found: what has come of it so far.
        shorter: by how much the rate has fallen for its failures.
        tensors: what is trained.
        kept: their values in the best state.
        optimiser: Adam.
        lessons: the batches.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        teacher: nn.Module,
        images: Sequence[NDArray[np.float32]],
        judged: Sequence[NDArray[np.float32]],
        steps: int,
        seed: int,
        labels: Labels | None = None,
        processes: Processes | None = None,
        windows: Sequence[Size] = (),
    ) -> None:
        if labels is None:
            judged = judged[: max(_FEWEST, _PIXELS // math.prod(judged[0].shape[2:]))]
        self._graph, self._judged, self._steps = graph, judged, steps
        self._labels, self._processes = labels, processes or Processes()
        self._wanted = [run(teacher, image) for image in judged]
        first = self._score(graph)
        self.done, self.found, self.shorter = 0, Tuned(first, first, 0), 1.0
        self._student = duplicate(graph)
        tie_grids(self._student)
        self.tensors = _trained(self._student)
        self.kept = _values(self.tensors)
        # Channels have steps of very different size, and what moves the large ones turns small
        # ones negative.
        self._least = [(step, _LEAST * step.detach().clone()) for step in _steps(self._student)]
        self.optimiser = RelativeAdam(self.tensors, _RATE)
        classes = None if labels is None else labels.trained
        dtype = float_dtype(self._student)
        self.lessons = Lessons(images, teacher, seed, dtype, classes, self._processes, windows)

    def run(
        self, progress: Progress | None = None, looked: Callable[[], object] = lambda: None
    ) -> None:
        """Take the steps that are left.

        Args:
            progress: called after each step.
            looked: called after each look at the held-out images.
        """
        every = max(1, self._steps // CHECKS)
        while self.done < self._steps and not self.found.reason:
            reason = self.step()
            if reason:
                self.found = replace(self.found, reason=reason)
                return
            self.done += 1
            if self.done % every == 0 or self.done == self._steps:
                self.look()
                looked()
            if progress is not None:
                progress(self.done, self._steps)

    def best(self) -> fx.GraphModule:
        """The best state so far, on its grids; the network that was given where none is better."""
        best = self._graph
        if self.found.steps:
            with torch.no_grad():
                now = _values(self.tensors)
                _set(self.tensors, self.kept)
                best = _settled(self._student)
                _set(self.tensors, now)
        for parameter, before in zip(best.parameters(), self._graph.parameters(), strict=True):
            parameter.requires_grad_(before.requires_grad)
            parameter.grad = None
        return best

    @torch.enable_grad()
    def step(self) -> str:
        """Train on one batch; return why that cannot be done, if so."""
        self.optimiser.fall(self.shorter * half_cosine(self.done, self._steps))
        try:
            x, targets, classes = self.lessons.draw()
            own = flat_outputs(self._student(self._processes.part(x)))
            outputs = self._processes.gather(own)
            loss = output_loss(outputs, targets)
            if loss is not None and classes is not None:
                loss = loss + surprise(outputs[0], classes)
            if loss is None or not loss.requires_grad:
                return "no output has a gradient"
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._processes.add_up([t.grad for t in self.tensors if t.grad is not None])
        except (RuntimeError, NotImplementedError) as failure:  # an operation of the user's own
            return because(failure)
        self.optimiser.step()
        for step, least in self._least:
            step.data.clamp_(min=least)
        return ""

    def look(self) -> None:
        """Keep the state if it is the best; if far from that, go back to it, in shorter steps."""
        score = self._score(_settled(self._student))
        if score.total < self.found.after.total:
            self.found = replace(self.found, after=score, steps=self.done)
            self.kept = _values(self.tensors)
        elif score.total > _WORSE * self.found.after.total:
            self.shorter *= _SHORTER
            _set(self.tensors, self.kept)

    def _score(self, graph: nn.Module) -> Score:
        """How ``graph`` fares on the held-out images, as the first process finds."""

        def look() -> Score:
            if self._labels is None:
                return Score(output_error(graph, self._judged, self._wanted))
            with first_outputs(graph) as outputs:
                error = output_error(graph, self._judged, self._wanted)
            return Score(error, *examine(outputs, self._labels.judged))

        return self._processes.first(look)


def _values(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _set(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.data.copy_(value)


def _settled(student: fx.GraphModule) -> fx.GraphModule:
    """A copy with weights and biases on their grids, as an artifact holds them."""
    graph = duplicate(student)
    _settle(graph)
    return graph


def _settle(graph: fx.GraphModule) -> None:
    """Put weights and biases on their grids, in place, as an artifact holds them."""
    untie_grids(graph)
    for module in graph.modules():
        if quantizes(module):
            put_on_grid(module)
    fit_gelus(graph)
    round_biases(graph)


def _trained(graph: fx.GraphModule) -> list[nn.Parameter]:
    """Every parameter but the steps of grids that an image dictates."""
    fixed = {
        module.scale
        for module in graph.modules()
        if isinstance(module, ActivationQuantizer) and module.pixel_step is not None
    }
    tensors = [tensor for tensor in graph.parameters() if tensor not in fixed and tensor.numel()]
    for tensor in tensors:
        tensor.requires_grad_(True)
    return tensors


def _steps(graph: fx.GraphModule) -> list[Tensor]:
    """The steps of all grids."""
    kinds = ActivationQuantizer | WeightQuantizer
    return [module.scale for module in graph.modules() if isinstance(module, kinds)]
