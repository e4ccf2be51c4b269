"""Fine-tune a pruned network towards the one that it was made of, on images without labels.

Batches, their number and the choice of the best state are those of waveedge's own tuning; weights
are in floating point, and steps of several lengths are tried, as pruned networks start far off.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from waveedge.compression.descent import RelativeAdam, half_cosine, output_loss
from waveedge.compression.lessons import Lessons
from waveedge.compression.shrink import output_error
from waveedge.compression.threads import one_thread
from waveedge.compression.tuning import CHECKS
from waveedge.normalise import flat_outputs
from waveedge.reference import run
from waveedge.runtime.sizes import Size

__all__ = ["RATES", "Distillation", "adapt"]

RATES = (0.01, 0.003, 0.03)
"""Of a step of Adam, relative to the root mean square of a tensor; settings are compared under the
first. waveedge's tuning takes 0.002, as it starts next to its goal."""
_APART = 16
"""Steps between two looks at the held-out images, at least."""
_JUDGED = 8
"""Held-out images that are looked at."""

Array = NDArray[np.float32]


class Distillation:
    """The images and the teacher that every pruned form of a network learns from.

    Args:
        teacher: the network as it was.
        images: (1, C, H, W), to train on.
        judged: others.
        windows: that images may be cut to; see :class:`Lessons`.
        seed: of the batches.
    """

    def __init__(
        self,
        teacher: nn.Module,
        images: Sequence[Array],
        judged: Sequence[Array],
        windows: Sequence[Size],
        seed: int,
    ) -> None:
        self.teacher = teacher
        self._images, self._judged = images, judged[:_JUDGED]
        self._windows, self._seed = windows, seed
        with one_thread():
            self._wanted = [run(teacher, image) for image in self._judged]

    def error(self, model: nn.Module) -> float:
        """Power of the error on the held-out images over that of the teacher's output."""
        with one_thread():
            return output_error(model, self._judged, self._wanted)

    @one_thread()
    def train(self, pruned: nn.Module, steps: int, rate: float) -> tuple[nn.Module, float]:
        """Return the best state of some steps, the first one included, and its :meth:`error`."""
        model = copy.deepcopy(pruned).eval()
        best, least = pruned, self.error(pruned)
        lessons = Lessons(
            self._images, self.teacher, self._seed, torch.float32, windows=self._windows
        )
        tensors = [tensor for tensor in model.parameters() if tensor.requires_grad]
        optimiser = RelativeAdam(tensors, rate)
        every = max(_APART, steps // CHECKS)
        for done in range(steps):
            optimiser.fall(half_cosine(done, steps))
            self._step(model, lessons, optimiser)
            if (done + 1) % every == 0 or done + 1 == steps:
                error = self.error(model)
                if error < least:
                    best, least = copy.deepcopy(model), error
        return best, least

    @staticmethod
    @torch.enable_grad()
    def _step(model: nn.Module, lessons: Lessons, optimiser: torch.optim.Optimizer) -> None:
        x, targets, _ = lessons.draw()
        loss = output_loss(flat_outputs(model(x)), targets)
        assert loss is not None
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


@one_thread()
@torch.no_grad()
def adapt(model: nn.Module, images: Sequence[Array]) -> nn.Module:
    """A copy whose batch norms have the statistics of what now comes in.

    Fewer channels give other sums; without this, deep networks give noise before they are tuned.
    """
    adapted = copy.deepcopy(model).eval()
    norms = [module for module in adapted.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for image in images if norms else ():
        adapted(torch.from_numpy(image))
    for norm in norms:
        norm.momentum = 0.1
    return adapted.eval()
