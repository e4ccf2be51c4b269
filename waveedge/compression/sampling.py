"""How many images it takes to see something, and which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["enough", "spread"]

T = TypeVar("T")


def spread(items: Sequence[T], count: int) -> list[T]:
    """So many items at even distances, or all.

    Neighbours may be windows of one photo, or images of one class.
    """
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def enough(
    images: Sequence[NDArray[np.float32]], least: int, pixels: int = 2**16
) -> list[NDArray[np.float32]]:
    """As many images as have so many pixels together, but not fewer than least, spread over all.

    A few maps of 7x7 positions tell nothing of how a hundred channels depend on each other.

    Args:
        images: (1, C, H, W).
    """
    return spread(images, max(least, pixels // math.prod(images[0].shape[2:])))
