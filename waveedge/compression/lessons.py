"""The batches that a tuning trains on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waveedge.compression.processes import Processes
from waveedge.reference import run

__all__ = ["Lessons"]

_PIXELS = 2**15
"""Of the images of a batch."""


class Lessons:
    """Images, mirrored or not, and what the teacher makes of them, which is computed once.

    Args:
        images: (1, C, H, W) float32; those of the first one's shape make the batches.
        teacher: the user's network in floating point.
        seed: of the choice of images.
        dtype: of the batches.
        classes: (N,) of the images; None where they have no labels.
        processes: that share the batches. All of them draw the same.

    Raises:
        InputError: there are more processes than images.
    """

    def __init__(
        self,
        images: Sequence[NDArray[np.float32]],
        teacher: nn.Module,
        seed: int,
        dtype: torch.dtype,
        classes: NDArray[np.int64] | None = None,
        processes: Processes | None = None,
    ) -> None:
        shape = images[0].shape
        chosen = [index for index, image in enumerate(images) if image.shape == shape]
        self.images = [images[index] for index in chosen]
        self._classes = None if classes is None else torch.from_numpy(classes[chosen])
        self.teacher = teacher
        self.dtype = dtype
        batch = max(1, min(len(self.images), _PIXELS // (shape[2] * shape[3])))
        self.batch = (processes or Processes()).batch(batch, len(self.images))
        self.rng = np.random.default_rng(seed)
        self._known: dict[tuple[int, bool], list[Tensor]] = {}

    def draw(self) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """A batch (N, C, H, W), the teacher's outputs for it, and its classes (N,) if known."""
        chosen = self.rng.choice(len(self.images), self.batch, replace=False)
        mirrored = self.rng.random(self.batch) < 0.5
        views = list(zip(chosen.tolist(), mirrored.tolist(), strict=True))
        x = torch.cat([self._view(*view) for view in views])
        outputs = zip(*(self._taught(*view) for view in views), strict=True)
        classes = None if self._classes is None else self._classes[torch.from_numpy(chosen)]
        return x, [torch.cat(tensors) for tensors in outputs], classes

    def _view(self, index: int, mirrored: bool) -> Tensor:
        x = torch.as_tensor(self.images[index]).to(self.dtype)
        return x.flip(3) if mirrored else x

    def _taught(self, index: int, mirrored: bool) -> list[Tensor]:
        if (index, mirrored) not in self._known:
            self._known[index, mirrored] = run(self.teacher, self._view(index, mirrored))
        return self._known[index, mirrored]
