"""How much a trained network misses half of its channels, in floating point and untuned."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from benchmarks.quality_tables.trial import Trial
from benchmarks.records import Record
from waveedge.compression.costs import CPU
from waveedge.compression.reparameterize import CONTRACTING, exact_form
from waveedge.compression.shrink.bottleneck import Bottleneck
from waveedge.compression.shrink.forms import PairForm
from waveedge.compression.shrink.hidden import Hidden
from waveedge.compression.shrink.search import find_forms, samples
from waveedge.compression.threads import one_thread
from waveedge.cost import profile
from waveedge.models.build import spec_of
from waveedge.normalise import normalise
from waveedge.reference import Reference

__all__ = ["AS_IT_IS", "HALVES", "Halving", "in_torch"]

AS_IT_IS = "as it is"
HALVES: dict[str, tuple[str, ...]] = {
    AS_IT_IS: (),
    "half of every bottleneck": (Bottleneck.kind,),
    "half of all hidden channels": (Hidden.kind,),
    "half of both": (Bottleneck.kind, Hidden.kind),
}
"""What is halved -> the kinds of forms."""

Array = NDArray[np.float32]


class Halving:
    """The forms that compression would choose from, each at half of its channels.

    Args:
        trial: gives the network, and images to choose on; loaded when they are needed.
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._size = trial.network.typed or trial.network.size

    @cached_property
    def prepared(self) -> fx.GraphModule:
        """The network by the exact rewrites before which shrinking looks at it."""
        model, images = self._trial.loaded.model, self._trial.loaded.images
        published = normalise(model, (spec_of(model).channels, *self._size))
        reference = Reference(model, [*images.judged, *images.calibration])
        with one_thread():
            return exact_form(published, self._size, reference, skip=CONTRACTING)

    @cached_property
    def _forms(self) -> list[PairForm]:
        with one_thread():
            seen = samples(self._trial.loaded.images.calibration)
            return find_forms(self.prepared, seen, CPU)

    @torch.no_grad()
    def halved(self, kinds: tuple[str, ...]) -> tuple[fx.GraphModule, Record]:
        """The network with half of the channels of these kinds, and how much is left of it."""
        smaller = copy.deepcopy(self.prepared)
        before = after = 0
        for form in self._forms if kinds else ():
            if form.kind in kinds:
                kept = max(1, form.channels // 2)
                form.apply(smaller, kept)
                before, after = before + form.channels, after + kept
        macs, whole = (profile(graph, self._size).macs for graph in (smaller, self.prepared))
        left = {"channels_before": before, "channels": after, "macs": macs}
        return smaller, {**left, "macs_share": macs / whole}


def in_torch(graph: fx.GraphModule) -> Callable[[Array], Array]:
    """``graph`` as a function of arrays."""

    @torch.no_grad()
    def run(image: Array) -> Array:
        output: Array = graph(torch.from_numpy(image)).numpy()
        return output

    return run
