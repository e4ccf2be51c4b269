"""What a tuned network is judged by: nearness to its teacher, and the user's labels where given.

Both parts are shares of what a network that says nothing gets: an output of zeros has an error as
large as the output itself, and is as surprised by a label as a guess, log(classes). So they count
alike, as the soft and the hard targets of Hinton et al. (arXiv 1503.02531) do with equal weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from waveedge.decibels import ratio_db
from waveedge.normalise import flat_outputs

__all__ = ["Labels", "Score", "examine", "first_outputs", "surprise"]


@dataclass(frozen=True)
class Labels:
    """The classes (N,), int64, of the images to train on and of those to judge by."""

    trained: NDArray[np.int64]
    judged: NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """How a network fares on held-out images.

    Attributes:
        error: power of the error over power of the teacher's output, summed over outputs.
        surprise: cross-entropy of the labels over that of a guess; 0 without labels.
        accuracy: share of the images whose largest output is their label; None without labels.
    """

    error: float
    surprise: float = 0.0
    accuracy: float | None = None

    @property
    def total(self) -> float:
        """What training makes small."""
        total = self.error + self.surprise
        return total if math.isfinite(total) else math.inf

    def __str__(self) -> str:
        if self.accuracy is not None:
            return f"{self.accuracy:.1%} right"
        return f"{ratio_db(1.0, self.error):.1f} dB"


def surprise(output: Tensor, classes: Tensor) -> Tensor:
    """Mean cross-entropy of ``classes`` (N,) by ``output`` (N, C), over that of a guess."""
    return functional.cross_entropy(output, classes) / math.log(output.shape[1])


def examine(outputs: Sequence[Tensor], classes: NDArray[np.int64]) -> tuple[float, float]:
    """Return (surprise, accuracy) of outputs (1, C), one an image."""
    output, wanted = torch.cat(list(outputs)), torch.from_numpy(classes)
    right = (output.argmax(1) == wanted).double().mean()
    return float(surprise(output, wanted)), float(right)


@contextmanager
def first_outputs(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the first output of every run of a network in the block."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        outputs.append(flat_outputs(output)[0].detach())

    handle = network.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()
