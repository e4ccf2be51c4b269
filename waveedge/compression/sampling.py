"""How many images it takes to see something."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["enough"]

Images = Sequence[NDArray[np.float32]]


def enough(images: Images, least: int, pixels: int = 2**16) -> Images:
    """The first of some images: as many as have so many pixels together, but not fewer than least.

    A few maps of 7x7 positions tell nothing of how a hundred channels depend on each other.

    Args:
        images: (1, C, H, W).
    """
    return images[: max(least, pixels // math.prod(images[0].shape[2:]))]
