"""Ratios of powers in decibels: the one signal-to-noise ratio of every report and check."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["power", "psnr_db", "ratio_db", "snr_db"]


def power(values: NDArray[Any] | Tensor) -> float:
    """The sum of squares of an array or a tensor, added up in float64."""
    return float(np.square(np.asarray(values), dtype=np.float64).sum())


def ratio_db(signal: float, noise: float) -> float:
    """10 log10 of a ratio of powers; infinite without noise, minus that without a signal."""
    if not math.isfinite(noise) or signal == 0:
        return -math.inf
    return 10 * math.log10(signal / noise) if noise else math.inf


def snr_db(signal: NDArray[Any], other: NDArray[Any]) -> float:
    """Signal-to-noise ratio of ``other`` as an approximation of ``signal``, of the same shape."""
    noise = power(signal.astype(np.float64) - other)
    return ratio_db(power(signal), noise) if noise else math.inf


def psnr_db(signal: NDArray[Any], other: NDArray[Any], peak: float) -> float:
    """Peak signal-to-noise ratio: ``peak`` is the range of the values, white minus black."""
    noise = power(signal.astype(np.float64) - other) / max(signal.size, 1)
    return ratio_db(peak**2, noise)
