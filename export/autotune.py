"""The fastest form of a network on the machine at hand, found by timing it.

The exact rewrites decide by a model of cost that was fitted to one kind of machine. Another machine
may prefer the network as published, or without one of them. All forms compute the same numbers, so
the clock alone decides.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import fx, nn

from waveedge.compression.costs import CPU, CostProfile
from waveedge.compression.reparameterize import REWRITES, LeftOut, exact_form
from waveedge.export.lowering import lower
from waveedge.export.torch_to_onnx import Batch, to_onnx
from waveedge.export.write_bundle import Progress
from waveedge.normalise import normalise, preserve
from waveedge.reference import Reference
from waveedge.runtime.figures import Ratio
from waveedge.runtime.machine import describe_machine
from waveedge.runtime.pairs import bootstrap_ratio, time_pairs
from waveedge.runtime.session import Session

__all__ = ["PUBLISHED", "REWRITTEN", "Choice", "Form", "Trial", "autotune", "search"]

_THREADS = 1
_RUNS = 15
_FEWEST = 7
"""Pairs that are timed however slow the network is: fewer give no interval worth the name."""
_SECONDS = 10.0
"""CPU time after which a comparison of a slow network makes do with fewer pairs."""
_WARMUP = 2

_CLEANING = ("batchnorm", "scales")
"""Rewrites that only remove work; the others trade one kind of work for another."""


@dataclass(frozen=True)
class Form:
    """A way to compute the network.

    Attributes:
        name: "published": as it is; "rewritten": by the exact rewrites.
        left_out: names of rewrites that were not applied.
    """

    name: Literal["published", "rewritten"]
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} without {', '.join(self.left_out)}" if self.left_out else self.name

    def to_dict(self) -> dict[str, Any]:
        """The form as plain JSON."""
        return {"form": self.name, "left_out": list(self.left_out)}


PUBLISHED = Form("published")
REWRITTEN = Form("rewritten")


@dataclass(frozen=True)
class Trial:
    """A form that was timed.

    Attributes:
        form: the candidate.
        cpu_ms: its median CPU time in milliseconds.
        ratio: its CPU time over that of ``against``, measured in pairs: below 1, it is faster.
        against: the best form before it; None for the form that the search starts from.
    """

    form: Form
    cpu_ms: float
    ratio: Ratio | None = None
    against: Form | None = None

    def to_dict(self) -> dict[str, Any]:
        """The trial as plain JSON."""
        ratio = self.ratio
        return {
            **self.form.to_dict(),
            "cpu_ms": self.cpu_ms,
            "cpu_ratio": ratio.value if ratio else None,
            "interval": [ratio.low, ratio.high] if ratio else None,
            "against": self.against.to_dict() if self.against else None,
        }


@dataclass(frozen=True)
class Choice:
    """The form that was fastest, and what that is known from.

    Attributes:
        model: the network in that form; its ``left_out`` has the rewrites that did not hold in any
            form.
        form: its description.
        trials: every form that was timed, in that order.
        threads: threads of the runtime.
        runs: pairs that were timed of each comparison.
        machine: where, as ``describe_machine`` tells it.
    """

    model: fx.GraphModule
    form: Form
    trials: tuple[Trial, ...]
    threads: int
    runs: int
    machine: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The choice as plain JSON, for the manifest."""
        return {
            "chosen": self.form.to_dict(),
            "candidates": [trial.to_dict() for trial in self.trials],
            "threads": self.threads,
            "runs": self.runs,
            "machine": self.machine,
        }


def autotune(
    model: nn.Module,
    input_size: tuple[int, int],
    *,
    images: Sequence[NDArray[np.float32]],
    cost: CostProfile = CPU,
    batch: Batch = 1,
    runs: int = _RUNS,
    progress: Progress | None = None,
) -> Choice:
    """Times the forms of a network with onnxruntime on this machine's CPU, on one thread.

    Args:
        model: the network as published, in float and in eval mode; it is not changed.
        input_size: (height, width) in pixels.
        images: float32 (1, C, H, W), preprocessed; what the timed runs see, and what every form
            must compute the network's outputs on.
        cost: prices by which the rewrites choose.
        batch: images at once; a dynamic batch is timed with one.
        runs: pairs of each comparison; a slow network gets fewer.
        progress: called as work goes on.

    Raises:
        ExportError: the network cannot be traced.
    """
    count = 1 if batch == "dynamic" else batch
    image = np.concatenate([images[index % len(images)] for index in range(count)])
    with tempfile.TemporaryDirectory() as folder:
        reference = Reference(model, images)
        stand = _Stand(reference, input_size, image, cost, batch, runs, Path(folder), progress)
        form, trials = search(stand.race, lambda form: stand.applied[form])
    chosen = stand.build(form)
    preserve(chosen, left_out=tuple(dict.fromkeys(stand.left_out)))
    return Choice(chosen, form, trials, _THREADS, stand.pairs, describe_machine().to_dict())


def search(
    race: Callable[[Form, Form], NDArray[Any]], applied: Callable[[Form], Collection[str]]
) -> tuple[Form, tuple[Trial, ...]]:
    """Finds the fastest form: rewritten or published, then greedily without single rewrites.

    A form takes over only if the whole 95 % interval says that it is faster than the best before
    it. A tie keeps what waveedge does by default.

    Args:
        race: times two forms in pairs; CPU times of shape (pairs, 2), the first form's first.
        applied: names of the rewrites that changed something in a form that has raced.

    Returns:
        the best form, and all that were timed.
    """
    trials: list[Trial] = []

    def winner(challenger: Form, best: Form) -> Form:
        times, best_times = race(challenger, best).T
        ratio = bootstrap_ratio(times, best_times, seed=0)
        if not trials:
            trials.append(Trial(best, float(np.median(best_times))))
        trials.append(Trial(challenger, float(np.median(times)), ratio, best))
        return challenger if ratio.high < 1 else best

    best = winner(PUBLISHED, REWRITTEN)
    for name in (rewrite.name for rewrite in REWRITES if rewrite.name not in _CLEANING):
        base = REWRITTEN if best == PUBLISHED else best
        # Asked of the base each time: without one rewrite, another may find nothing, or more.
        if name in applied(base):
            best = winner(Form("rewritten", (*base.left_out, name)), best)
    return best, tuple(trials)


class _Stand:
    """Builds forms as an export would, and times them two at a time."""

    def __init__(
        self,
        reference: Reference,
        size: tuple[int, int],
        image: NDArray[np.float32],
        cost: CostProfile,
        batch: Batch,
        runs: int,
        folder: Path,
        progress: Progress | None,
    ) -> None:
        self.reference = reference
        self.model = normalise(reference.network, (image.shape[1], *size))
        self.size, self.image, self.cost, self.batch = size, image, cost, batch
        self.pairs = runs
        self.folder = folder
        self.progress = progress or (lambda _what, _done, _total: None)
        self.applied: dict[Form, set[str]] = {}
        self.left_out: list[LeftOut] = []
        self.sessions: dict[Form, Session] = {}

    def build(self, form: Form) -> fx.GraphModule:
        """The network in this form; in ``applied`` and ``left_out``, how it got there."""
        if form == PUBLISHED:
            self.applied[form] = set()
            return self.model
        graph = exact_form(
            self.model, self.size, self.reference, cost=self.cost, skip=form.left_out
        )
        changes: Any = graph.applied
        failed: Any = graph.left_out
        self.left_out += failed
        self.applied[form] = {change.rule.split(".")[0] for change in changes}
        return graph

    def race(self, challenger: Form, best: Form) -> NDArray[Any]:
        """CPU times in milliseconds, of shape (pairs, 2)."""
        first = not self.sessions
        self.progress(str(challenger), 0, self.pairs + _WARMUP)
        # Only these two stay loaded: what each holds between runs may be large.
        self.sessions = {
            form: self.sessions.get(form) or self._load(form) for form in (challenger, best)
        }
        a, b = (partial(self.sessions[form].run, self.image) for form in (challenger, best))
        if first:
            self.pairs = min(self.pairs, max(_FEWEST, int(_SECONDS / (_cpu(a) + _cpu(b)))))
        cpu, _, _ = time_pairs(
            [a],
            [b],
            runs=self.pairs,
            warmup=_WARMUP,
            seed=0,
            progress=partial(self.progress, str(challenger)),
        )
        return cpu

    def _load(self, form: Form) -> Session:
        shape = (self.image.shape[1], *self.size)
        graph = lower(to_onnx(self.build(form), shape, batch=self.batch), "ort").shipped
        path = self.folder / "form.onnx"
        onnx.save(graph, path)
        return Session(path, threads=_THREADS)


def _cpu(run: Callable[[], object]) -> float:
    """CPU seconds of a second run: the first one allocates."""
    run()
    start = time.process_time()
    run()
    return max(time.process_time() - start, 1e-6)
