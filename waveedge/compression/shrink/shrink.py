"""Fewer channels where few would do: forms chosen together, in closed form, without training.

1. Every pair of layers with nothing but channel by channel operations between them has a form
   with fewer channels (:mod:`.bottleneck` where these are linear, :mod:`.hidden` where not), and
   a loss for every number of channels.
2. What a loss costs the network's output is measured: each form alone, on calibration images.
3. Errors of different forms hardly depend on each other, so they add up; the numbers of channels
   are those that save most for one sum (:mod:`.allocate`).
4. The sum is adjusted until the error on images that no choice has seen, with what rounding
   fewer channels adds to it, is what it may be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from waveedge.compression.costs import CostProfile
from waveedge.compression.shrink.allocate import allocate, options_of
from waveedge.compression.shrink.bottleneck import Bottleneck
from waveedge.compression.shrink.forms import PairForm
from waveedge.compression.shrink.search import find_forms, gains, output_error, probes, samples
from waveedge.duplicates import duplicate

__all__ = ["Shrunk", "SmallerForm", "shrink"]

_TRIES = 6
_HALVINGS = 12
_NEAR = 0.7
"""Share of the allowed error that is near enough to it."""


@dataclass(frozen=True)
class SmallerForm:
    """A form that was chosen.

    Attributes:
        kind: "bottleneck" or "hidden channels".
        writer, reader: names of the layers on both sides.
        before, after: channels between them.
    """

    kind: str
    writer: str
    reader: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.before} -> {self.after} channels to {self.reader} ({self.kind})"


@dataclass(frozen=True)
class Shrunk:
    """A network with fewer channels.

    Attributes:
        graph: it.
        forms: what was done.
        error: squared error of the output over its power, on images that no choice has seen.
    """

    graph: fx.GraphModule
    forms: tuple[SmallerForm, ...]
    error: float

    @property
    def bottlenecks(self) -> list[str]:
        """Names of the layers that write the channels of bottlenecks."""
        return [form.writer for form in self.forms if form.kind == Bottleneck.kind]


@torch.no_grad()
def shrink(
    graph: fx.GraphModule,
    images: Sequence[NDArray[np.float32]],
    judged: Sequence[NDArray[np.float32]],
    wanted: Sequence[Sequence[Tensor]],
    allowed: float,
    *,
    prices: CostProfile,
    keep: Collection[str] = (),
    fits: Callable[[fx.GraphModule], bool] | None = None,
) -> Shrunk | None:
    """Leave out channels as long as the output does not miss them, or until the network fits.

    Args:
        graph: the network in floating point; it is not changed.
        images: (1, C, H, W) float32, to choose on.
        judged: others, to judge on.
        wanted: the outputs for ``judged`` of the user's network.
        allowed: the squared error of the output over its power that may come of it.
        prices: of the device that it shall run on.
        keep: names of layers that stay as they are.
        fits: whether a network is small enough, whatever the error; None where any is.

    Returns:
        None where nothing can go.
    """
    forms = find_forms(graph, samples(images), prices, keep)
    costs = gains(graph, forms, probes(images))
    options = [options_of(f, gain, prices.multiple) for f, gain in zip(forms, costs, strict=True)]

    def within(budget: float) -> tuple[Shrunk, float]:
        """What a budget buys, and its error with that of rounding fewer channels."""
        channels = allocate(options, error=budget)
        smaller = _apply(graph, forms, channels)
        error = output_error(smaller.graph, judged, wanted)
        found = zip(forms, costs, channels, strict=True)
        noise = sum(gain * float(form.noise[count]) for form, gain, count in found)
        return replace(smaller, error=error), error + max(noise, 0.0)

    budget, best, nearest = allowed, None, 0.0
    for _ in range(_TRIES):
        smaller, total = within(budget)
        if not smaller.forms:
            break
        if total <= allowed and total >= nearest:
            nearest, best = total, smaller
            if total > _NEAR * allowed:
                break
        budget *= (1 + _NEAR) / 2 * allowed / max(total, 1e-3 * allowed)
    if fits is None or fits(best.graph if best else graph):
        return best
    low, high = 1e-9, 1e3
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        smaller = _apply(graph, forms, allocate(options, error=middle))
        low, high = (low, middle) if fits(smaller.graph) else (middle, high)
    smaller = within(high)[0]
    return smaller if smaller.forms else None


def _apply(graph: fx.GraphModule, forms: Sequence[PairForm], channels: Sequence[int]) -> Shrunk:
    smaller = duplicate(graph)
    done = []
    for form, count in zip(forms, channels, strict=True):
        if count < form.channels:
            form.apply(smaller, count)
            writer, reader = (str(node.target) for node in form.pair.layers)
            done.append(SmallerForm(form.kind, writer, reader, form.channels, count))
    return Shrunk(smaller, tuple(done), 0.0)
