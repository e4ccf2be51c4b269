"""The bands of a wavelet transform as one list of coefficients, and back."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pack", "transform_multiply_adds", "unpack"]


def pack(low: Tensor, details: list[Tensor]) -> Tensor:
    """Lays out coefficients as (N, C, positions): low, then the details from coarse to fine."""
    return torch.cat([band.flatten(2) for band in (low, *reversed(details))], dim=2)


def unpack(packed: Tensor, sizes: list[torch.Size]) -> tuple[Tensor, list[Tensor]]:
    """Undoes :func:`pack`; ``sizes`` are the band sizes (h, w), finest first."""
    batch, channels = packed.shape[:2]
    start = sizes[-1].numel()
    low = packed[:, :, :start].reshape(batch, channels, *sizes[-1])
    details: list[Tensor] = []
    for size in reversed(sizes):
        stop = start + 3 * size.numel()
        details.insert(0, packed[:, :, start:stop].reshape(batch, channels, 3, *size))
        start = stop
    return low, details


def transform_multiply_adds(channels: int, size: tuple[int, int], *, levels: int, taps: int) -> int:
    """Multiply-adds of a transform with separable filters on maps of ``size`` (height, width)."""
    (height, width), positions = size, 0
    for _ in range(levels):
        height, width = (height + 1) // 2, (width + 1) // 2
        positions += height * width
    return 8 * taps * channels * positions
