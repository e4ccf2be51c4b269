"""How a network is trained towards a teacher: the loss, and the steps that make it smaller."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["RelativeAdam", "half_cosine", "output_loss"]


class RelativeAdam(torch.optim.Adam):
    """Adam with steps relative to each tensor.

    A weight, a bias and the step of a grid differ by orders of magnitude.

    Args:
        tensors: to train; each is a group of its own.
        rate: of a step, relative to the root mean square of a tensor as it is now.
    """

    def __init__(self, tensors: Sequence[Tensor], rate: float) -> None:
        super().__init__(
            [{"params": [tensor], "lr": rate * _size(tensor)} for tensor in tensors], eps=1e-12
        )
        self._whole = [group["lr"] for group in self.param_groups]

    def fall(self, share: float) -> None:
        """Take steps of that share of the first ones."""
        for group, whole in zip(self.param_groups, self._whole, strict=True):
            group["lr"] = whole * share


def half_cosine(done: int, steps: int) -> float:
    """The share of the rate after ``done`` of ``steps``: from 1 down to 0."""
    return 0.5 + 0.5 * math.cos(math.pi * done / steps)


def output_loss(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor | None:
    """Squared error over power, summed over outputs; None where none of them is of floats."""
    terms = [
        (a - b).square().mean() / b.square().mean().clamp(min=1e-30)
        for a, b in zip(found, wanted, strict=True)
        if b.is_floating_point()
    ]
    return torch.stack(terms).sum() if terms else None


def _size(tensor: Tensor) -> float:
    return max(float(tensor.detach().square().mean().sqrt()), 1e-8)
