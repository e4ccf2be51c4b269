"""The batches that a tuning trains on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waveedge.reference import run

__all__ = ["Lessons"]

_PIXELS = 2**15
"""Of the images of a batch."""


class Lessons:
    """Images, mirrored or not, and what the teacher makes of them, which is computed once."""

    def __init__(
        self,
        images: Sequence[NDArray[np.float32]],
        teacher: nn.Module,
        seed: int,
        dtype: torch.dtype,
    ) -> None:
        shape = images[0].shape
        self.images = [image for image in images if image.shape == shape]
        self.teacher = teacher
        self.dtype = dtype
        self.batch = max(1, min(len(self.images), _PIXELS // (shape[2] * shape[3])))
        self.rng = np.random.default_rng(seed)
        self._known: dict[tuple[int, bool], list[Tensor]] = {}

    def draw(self) -> tuple[Tensor, list[Tensor]]:
        """A batch (N, C, H, W), and the teacher's outputs for it."""
        chosen = self.rng.choice(len(self.images), self.batch, replace=False)
        mirrored = self.rng.random(self.batch) < 0.5
        views = list(zip(chosen.tolist(), mirrored.tolist(), strict=True))
        x = torch.cat([self._view(*view) for view in views])
        outputs = zip(*(self._taught(*view) for view in views), strict=True)
        return x, [torch.cat(tensors) for tensors in outputs]

    def _view(self, index: int, mirrored: bool) -> Tensor:
        x = torch.as_tensor(self.images[index]).to(self.dtype)
        return x.flip(3) if mirrored else x

    def _taught(self, index: int, mirrored: bool) -> list[Tensor]:
        if (index, mirrored) not in self._known:
            self._known[index, mirrored] = run(self.teacher, self._view(index, mirrored))
        return self._known[index, mirrored]
