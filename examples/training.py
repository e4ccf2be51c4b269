"""What the training scripts share: schedule, weight average, and how a network is saved."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn

from waveedge.files import atomic_file

__all__ = ["WeightAverage", "save_weights", "seed_everything", "set_learning_rate"]


def seed_everything(seed: int) -> np.random.Generator:
    """Seed torch and Python and fix one thread: the same machine gives the same weights again."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    random.seed(seed)
    return np.random.default_rng(seed)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, step: int, steps: int, peak: float, warmup: int = 100
) -> None:
    """Rise linearly to ``peak`` over ``warmup`` steps and fall to zero as half a cosine."""
    rate = peak * min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = rate


class WeightAverage:
    """Exponential moving average of a network's weights and statistics.

    Args:
        model: the network in training.
        decay: share of the old average kept at each update; less during the first updates, so
            that the initial weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        current = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name], 1 - decay)
            else:
                average.copy_(current[name])


def save_weights(model: nn.Module, path: Path) -> None:
    """Save the plain state dict, as float32 tensors in the default memory layout."""
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    # Given a name, torch would put it into the file: the same weights would give other bytes.
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)
