"""The batches that a tuning trains on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waveedge.compression.processes import Processes
from waveedge.nn import Selection
from waveedge.reference import run
from waveedge.runtime.sizes import Size
from waveedge.sizes import Sizes

__all__ = ["Lessons", "window_of"]

_PIXELS = 2**15
"""Of the images of a batch."""
_SIDE = 64
"""Of windows, in pixels: many places teach more than as many pixels of one. The trained networks
that make images come 0.02 dB nearer to their teachers than with one window a batch."""


def window_of(sizes: Sizes, graph: nn.Module, size: Size) -> Size | None:
    """The size of the windows that images are cut to for training; None for whole images.

    Args:
        sizes: that the network takes.
        graph: it.
        size: (height, width) of the images.
    """
    bound = sizes.bound or any(isinstance(module, Selection) for module in graph.modules())
    if bound or max(size) <= _SIDE:
        return None
    height, width = (
        extent if extent <= _SIDE else extent - -(-(extent - _SIDE) // multiple) * multiple
        for extent, multiple in zip(size, sizes.multiple, strict=True)
    )
    return (height, width) if sizes.admits((height, width)) else None


class Lessons:
    """Images, mirrored or not, and what the teacher makes of them.

    For a network that makes maps of maps, windows are cut at random, of few images several each.
    What the teacher makes of whole images is computed once.

    Args:
        images: (1, C, H, W) float32; those of the first one's shape make the batches.
        teacher: the user's network in floating point.
        seed: of the choice of images.
        dtype: of the batches.
        classes: (N,) of the images; None where they have no labels.
        processes: that share the batches. All of them draw the same.
        window: (height, width) of the windows that images may be cut to.

    Attributes:
        images: of them all.
        batch: images, or windows, of a batch.
        window: what images are cut to; None where they stay whole.

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
        window: Size | None = None,
    ) -> None:
        shape = images[0].shape
        chosen = [index for index, image in enumerate(images) if image.shape == shape]
        self.images = [images[index] for index in chosen]
        self._classes = None if classes is None else torch.from_numpy(classes[chosen])
        self.teacher = teacher
        self.dtype = dtype
        self._known: dict[tuple[int, bool], list[Tensor]] = {}
        self.window = window if window and self._makes_maps() else None
        pixels = math.prod(self.window or shape[2:])
        batch = max(1, _PIXELS // pixels)
        views = max(len(self.images), batch) if self.window else len(self.images)
        self.batch = (processes or Processes()).batch(batch, views)
        self.rng = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """A batch (N, C, H, W), the teacher's outputs for it, and its classes (N,) if known."""
        images = len(self.images)
        chosen = self.rng.choice(images, self.batch, replace=self.batch > images)
        mirrored = self.rng.random(self.batch) < 0.5
        views = list(zip(chosen.tolist(), mirrored.tolist(), strict=True))
        classes = None if self._classes is None else self._classes[torch.from_numpy(chosen)]
        if self.window:
            x = torch.cat([self._cut(self._view(*view), self.window) for view in views])
            return x, run(self.teacher, x), classes
        x = torch.cat([self._view(*view) for view in views])
        outputs = zip(*(self._taught(*view) for view in views), strict=True)
        return x, [torch.cat(tensors) for tensors in outputs], classes

    def _makes_maps(self) -> bool:
        """Whether every output is a map in proportion to the image."""
        height, width = self.images[0].shape[2:]
        return all(
            output.dim() == 4 and output.shape[2] * width == output.shape[3] * height
            for output in self._taught(0, False)
        )

    def _cut(self, x: Tensor, window: Size) -> Tensor:
        height, width = window
        top, left = (
            int(self.rng.integers(extent - side + 1))
            for extent, side in zip(x.shape[2:], window, strict=True)
        )
        return x[:, :, top : top + height, left : left + width]

    def _view(self, index: int, mirrored: bool) -> Tensor:
        x = torch.as_tensor(self.images[index]).to(self.dtype)
        return x.flip(3) if mirrored else x

    def _taught(self, index: int, mirrored: bool) -> list[Tensor]:
        if (index, mirrored) not in self._known:
            self._known[index, mirrored] = run(self.teacher, self._view(index, mirrored))
        return self._known[index, mirrored]
