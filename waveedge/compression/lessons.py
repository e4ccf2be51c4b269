"""The batches that a tuning trains on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waveedge.compression.processes import Processes
from waveedge.decibels import snr_db
from waveedge.nn import Selection
from waveedge.reference import run
from waveedge.runtime.sizes import Size
from waveedge.sizes import Sizes

__all__ = ["Lessons", "windows_of"]

_PIXELS = 2**15
"""Of the images of a batch."""
_SIDE = 64
"""Of small windows, in pixels: many places teach more than as many pixels of one. The trained
networks that make images come 0.02 dB nearer to their teachers than with one window a batch."""
_ALIKE_DB = 15.0
"""How near what the teacher makes of a small window must be to that part of what it makes of the
whole image. Those networks have 22 to 39 dB; the segmenter of the brain, which must know where in
the head it is, has 9, and learns 1 dB less from windows than from whole images."""


def windows_of(sizes: Sizes, graph: nn.Module, size: Size) -> list[Size]:
    """The sizes of windows that images may be cut to for training, the smallest first.

    Args:
        sizes: that the network takes.
        graph: it.
        size: (height, width) of the images. Of large ones, a batch holds less than half.
    """
    if sizes.bound or any(isinstance(module, Selection) for module in graph.modules()):
        return []
    sides = (_SIDE, math.isqrt(_PIXELS)) if math.prod(size) > 2 * _PIXELS else (_SIDE,)
    windows = (
        tuple(
            extent if extent <= side else extent - -(-(extent - side) // multiple) * multiple
            for extent, multiple in zip(size, sizes.multiple, strict=True)
        )
        for side in sides
    )
    return [(h, w) for h, w in windows if (h, w) != size and sizes.admits((h, w))]


class Lessons:
    """Images, mirrored or not, and what the teacher makes of them.

    For a network that makes maps of maps, windows are cut at random, of few images several each:
    small ones where it makes of them what it makes of the whole image. What the teacher makes of
    whole images is computed once.

    Args:
        images: (1, C, H, W) float32; those of the first one's shape make the batches.
        teacher: the user's network in floating point.
        seed: of the choice of images.
        dtype: of the batches.
        classes: (N,) of the images; None where they have no labels.
        processes: that share the batches. All of them draw the same.
        windows: (height, width) that images may be cut to, the smallest first.

    Attributes:
        images: of them all.
        batch: images, or windows, of a batch.
        window: (height, width) that images are cut to; None where they stay whole.

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
        windows: Sequence[Size] = (),
    ) -> None:
        shape = images[0].shape
        chosen = [index for index, image in enumerate(images) if image.shape == shape]
        self.images = [images[index] for index in chosen]
        self._classes = None if classes is None else torch.from_numpy(classes[chosen])
        self.teacher = teacher
        self.dtype = dtype
        self._known: dict[tuple[int, bool], list[Tensor]] = {}
        self.window: Size | None = None
        if windows and self._makes_maps():
            fit = (window for window in windows if max(window) > _SIDE or self._is_alike(window))
            self.window = next(fit, None)
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

    def _is_alike(self, window: Size) -> bool:
        """Whether the teacher makes of a corner what it makes of it in the whole image."""
        (height, width), (h, w) = self.images[0].shape[2:], window
        made = run(self.teacher, self._view(0, False)[:, :, :h, :w])
        for whole, part in zip(self._taught(0, False), made, strict=True):
            corner = whole[:, :, : whole.shape[2] * h // height, : whole.shape[3] * w // width]
            if corner.shape != part.shape:
                return False
            if snr_db(corner.cpu().numpy(), part.cpu().numpy()) < _ALIKE_DB:
                return False
        return True

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
