"""Which ends of a network are 8-bit images, told by what the grid of their pixels costs them.

A task says what a network should make, not what it does make: a restoration network may put out a
residual, a network may be fed with arrays that never were pictures. On the grid of pixels such
values are cut off or rounded away. So both grids are tried on the calibration images, and an end is
an image where the grid of pixels costs it little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from waveedge.calibration import Histogram, choose_range
from waveedge.nn.quantizers import quantize
from waveedge.reference import Reference
from waveedge.spec import ModelSpec

__all__ = ["End", "PixelGrid", "image_ends", "pixel_grid", "rounding_error"]

End = Literal["input", "output"]

_BITS = 8
_IMAGES = 16
_SAMPLES = 1 << 16
_COST = 4.0
"""Squared error on the grid of pixels, in that of the best grid, that an image may have (6 dB).

Images that are darker than others to come would choose a finer grid and cut those off."""


class PixelGrid(NamedTuple):
    """The pixels of an 8-bit image as a network holds them: ``middle + step * (-128 .. 127)``."""

    middle: float
    step: float


def pixel_grid(spec: ModelSpec) -> PixelGrid | None:
    """The pixels of the images that a network makes of images; None for other networks.

    They must have one range in all channels.
    """
    if spec.task not in ("super-resolution", "restoration"):
        return None
    rules = spec.preprocessing
    if len(set(rules.mean)) > 1 or len(set(rules.std)) > 1:
        return None
    low, high = ((end - rules.mean[0]) / rules.std[0] for end in rules.range)
    step = (high - low) / 255
    return PixelGrid(low + 128 * step, step)


def image_ends(reference: Reference, spec: ModelSpec) -> frozenset[End]:
    """Return which of the input and the output of a network are 8-bit images.

    Args:
        reference: the network and its images; some of them are enough.
        spec: its task and its preprocessing.
    """
    grid = pixel_grid(spec)
    if grid is None:
        return frozenset()
    chosen = range(0, len(reference.images), -(-len(reference.images) // _IMAGES))
    inputs = [torch.from_numpy(reference.images[index]) for index in chosen]
    found = [reference.outputs(index) for index in chosen]
    outputs = [tensors[0] for tensors in found if len(tensors) == 1]
    ends: dict[End, list[Tensor]] = {"input": inputs, "output": outputs}
    return frozenset(end for end, values in ends.items() if _is_image(values, grid))


def _is_image(values: Sequence[Tensor], grid: PixelGrid) -> bool:
    if not values:
        return False
    own = rounding_error(values)
    sample = torch.cat([_sample(value) for value in values])
    pixels = _squared_error(sample - grid.middle, grid.step)
    # Pixels are exact but for the rounding of floats.
    return pixels <= _COST * own + (1e-3 * grid.step) ** 2


def rounding_error(values: Sequence[Tensor]) -> float:
    """Mean squared error of values on the 8-bit grid that suits them best."""
    histogram = Histogram()
    for value in values:
        histogram.update(value)
    scale = choose_range(histogram, _BITS).scale
    return _squared_error(torch.cat([_sample(value) for value in values]), scale)


def _sample(value: Tensor) -> Tensor:
    flat = value.flatten()
    # An odd step visits every column of a map whose width is a power of two.
    return flat[:: (flat.numel() // _SAMPLES) | 1]


def _squared_error(values: Tensor, step: float) -> float:
    """Mean squared error of rounding to ``step * (-128 .. 127)``."""
    rounded = quantize(values, torch.tensor(step), -(2 ** (_BITS - 1)), 2 ** (_BITS - 1) - 1)
    return float((rounded - values).double().square().mean())
