"""Which range a quantizer should cover: a bounded histogram, and the scale of least squared error.

Rounding spreads its error over every value and clipping puts it on the largest ones; the best
scale lies between. It is found by computing the expected squared error of each candidate scale
from the histogram (the criterion of Sung et al., arXiv 1511.06488, and Banner et al.,
arXiv 1810.05723), exactly for a density that is constant inside each bin.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Histogram", "Method", "Range", "choose_range", "grid", "squared_error"]

Method = Literal["mse", "max"]

BINS = 8192
# More than enough to place a range, and it bounds the time a large feature map can take.
_SAMPLES = 1 << 17
# Below this, a float32 scale loses precision or becomes zero; above, a histogram overflows.
_SMALLEST, _LARGEST = 1e-30, 1e30


class Histogram:
    """Counts of a stream of values on a symmetric range that doubles when a value exceeds it.

    Memory is bounded (``BINS`` counts of 8 bytes). The range is a power of two, so doubling merges
    whole bins and the result depends on the values only, not on their order. Exact zeros are
    counted apart: any scale represents them without error, and in a bin they would hide that.

    Attributes:
        counts: (BINS,) float64, over equal bins from ``-limit`` to ``limit``, zeros left out.
        limit: half the width of the covered range; 0 before the first non-zero value.
        zeros: number of sampled values that are exactly 0.
        low, high: exact minimum and maximum of everything seen.
        seen: number of values seen; ``sampled`` of them are in the counts.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.float64] = np.zeros(BINS)
        self.limit = 0.0
        self.zeros = 0
        self.low = math.inf
        self.high = -math.inf
        self.seen = 0
        self.sampled = 0

    def update(self, values: Tensor) -> None:
        """Add a tensor of any shape; of a large one a regular sample, and its exact extremes.

        Raises:
            ValueError: a value is NaN, infinite, or beyond 1e30.
        """
        flat = values.detach().reshape(-1).float()
        if flat.numel() == 0:
            return
        low, high = (float(bound) for bound in torch.aminmax(flat))
        if not (low > -_LARGEST and high < _LARGEST):  # written so that NaN fails too
            raise ValueError("holds NaN, infinite or overflowing values")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.seen += flat.numel()

        # An odd step visits every column of a map whose width is a power of two.
        step = -(-flat.numel() // _SAMPLES) | 1 if flat.numel() > _SAMPLES else 1
        sample = flat[::step].cpu()
        zeros = sample.numel() - int(torch.count_nonzero(sample))
        self.sampled += sample.numel()
        self.zeros += zeros
        peak = max(-low, high)
        if peak < _SMALLEST:
            self.zeros += sample.numel() - zeros
            return
        self._cover(peak)
        counts = torch.histc(sample, BINS, -self.limit, self.limit).numpy().astype(np.float64)
        counts[BINS // 2] -= zeros
        self.counts += counts

    def _cover(self, peak: float) -> None:
        if self.limit == 0.0:
            self.limit = 2.0 ** math.ceil(math.log2(peak))
        while self.limit < peak:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, BINS // 4)
            self.limit *= 2.0

    @property
    def peak(self) -> float:
        """Largest magnitude seen; 0 where all values are (as good as) zero."""
        return 0.0 if self.limit == 0.0 else max(-self.low, self.high)

    @property
    def power(self) -> float:
        """Mean square of the sampled values."""
        _, _, square = self._moments()
        return float(square[-1] / max(self.sampled, 1))

    def share_outside(self, low: float, high: float) -> float:
        """Return the share of sampled values below ``low`` (<= 0) or above ``high`` (>= 0)."""
        if self.limit == 0.0:
            return 0.0
        mass = np.concatenate([[0.0], np.cumsum(self.counts)])
        edges = np.linspace(-self.limit, self.limit, BINS + 1)
        below, above = np.interp([low, high], edges, mass)
        return float(below + mass[-1] - above) / self.sampled

    def _moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Cumulative integrals of 1, x and x^2 over the density, at the BINS + 1 bin edges."""
        edges = np.linspace(-self.limit, self.limit, BINS + 1)
        left, right = edges[:-1], edges[1:]
        mean = (left + right) / 2
        square = (left * left + left * right + right * right) / 3
        return (
            np.concatenate([[0.0], np.cumsum(self.counts)]),
            np.concatenate([[0.0], np.cumsum(self.counts * mean)]),
            np.concatenate([[0.0], np.cumsum(self.counts * square)]),
        )


def grid(bits: int, zero_point: int = 0) -> tuple[int, int]:
    """Return the smallest and the largest integer of a grid, as in ``ActivationQuantizer``."""
    half = 1 << (bits - 1)
    return -half - zero_point, half - 1 - zero_point


def squared_error(
    histogram: Histogram, scales: NDArray[np.float64], qmin: int, qmax: int
) -> NDArray[np.float64]:
    """Return the mean squared error of rounding to ``scale * {qmin .. qmax}``, for each scale.

    Summed over the levels q of the grid, with q's cell the values that round to it:
    E = integral of x^2 - 2 q scale (integral of x over the cell) + (q scale)^2 (mass of the cell).
    """
    mass, first, second = histogram._moments()
    levels = np.arange(qmin, qmax + 1)
    # Inner borders of the cells; the outermost cells reach to the ends of the histogram.
    borders = scales[:, None] * (levels[1:] - 0.5)
    position = np.clip((borders / histogram.limit + 1.0) * (BINS / 2), 0.0, BINS)
    index = np.minimum(position.astype(np.intp), BINS - 1)
    width = 2.0 * histogram.limit / BINS
    inside = (position - index) * width
    density = histogram.counts[index] / width
    left = index * width - histogram.limit

    def cells(total: float, inner: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.diff(inner, axis=1, prepend=0.0, append=total)

    in_cell = cells(mass[-1], mass[index] + density * inside)
    moment = cells(first[-1], first[index] + density * inside * (left + inside / 2))
    values = scales[:, None] * levels
    error = second[-1] + (values * values * in_cell - 2.0 * values * moment).sum(axis=1)
    return np.asarray(np.maximum(error, 0.0) / max(histogram.sampled, 1))


class Range(NamedTuple):
    """A grid for a tensor.

    Attributes:
        scale: the distance of two neighbours, above 0.
        zero_point: as in ``ActivationQuantizer``.
        error: expected mean squared error.
    """

    scale: float
    zero_point: int
    error: float


def choose_range(
    histogram: Histogram,
    bits: int,
    method: Method = "mse",
    *,
    must_be_signed: bool = False,
    share: float = 0.0,
) -> Range:
    """Choose a quantizer's scale and zero point.

    The zero point is 0; below 8 bits, the lowest one, without negative numbers, where that is the
    better one, and always for a tensor that is never negative. Any other is taken if it leaves at
    most ``share`` of the squared error.

    Args:
        histogram: the values that reach the quantizer.
        bits: 2 to 8.
        method: ``mse`` minimises the expected squared error; ``max`` covers every value.
        must_be_signed: take 0 as the zero point, at any number of bits.
        share: 0 to 1; with 0, or with ``max``, there is no other zero point.

    Returns:
        the grid. A tensor of zeros gets a scale of 1 / qmax; a constant one is represented exactly.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be 2 to 8, not {bits}")
    lowest = -(1 << (bits - 1))
    if histogram.peak == 0.0:
        zero_point = 0 if bits == 8 or must_be_signed else lowest
        return Range(1.0 / grid(bits, zero_point)[1], zero_point, 0.0)
    signed = _best(histogram, bits, 0, method)
    if must_be_signed:
        return signed
    chosen = signed
    if bits < 8:
        unsigned = _best(histogram, bits, lowest, method)
        if histogram.low >= 0.0 or unsigned.error < signed.error:
            chosen = unsigned
    if share == 0.0 or method == "max" or histogram.low == histogram.high:
        return chosen
    shifted = _any_zero_point(histogram, bits)
    return shifted if shifted.error <= share * chosen.error else chosen


def _any_zero_point(histogram: Histogram, bits: int) -> Range:
    """The best of all grids: of the few at few bits, else as a search by halves finds it."""
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    step = max(1, (highest - lowest) // 16) if bits > 5 else 1
    tried = {zero: _coarse(histogram, bits, zero) for zero in range(lowest, highest + 1, step)}
    while step > 1:
        best, step = min(tried, key=tried.__getitem__), step // 2
        for zero in (best - step, best + step):
            if lowest <= zero <= highest:
                tried[zero] = _coarse(histogram, bits, zero)
    return _best(histogram, bits, min(tried, key=tried.__getitem__), "mse")


def _coarse(histogram: Histogram, bits: int, zero_point: int) -> float:
    """The least error of fewer scales than are looked at in the end."""
    covering = _covering(histogram, bits, zero_point)
    if covering <= 0.0:
        return histogram.power
    scales = _scales(histogram, covering, 65 if bits > 5 else 129)
    return float(squared_error(histogram, scales, *grid(bits, zero_point)).min())


def _covering(histogram: Histogram, bits: int, zero_point: int) -> float:
    """The least scale whose grid holds all values; those below an unsigned one aside."""
    qmin, qmax = grid(bits, zero_point)
    return max(
        histogram.high / qmax if qmax else 0.0,
        histogram.low / qmin if qmin else 0.0,
    )


def _scales(histogram: Histogram, covering: float, count: int) -> NDArray[np.float64]:
    """8 octaves below the covering scale; not so far that the histogram cannot tell them apart."""
    lowest = min(covering, max(covering / 256, histogram.limit / BINS))
    return np.geomspace(lowest, covering, count)


def _best(histogram: Histogram, bits: int, zero_point: int, method: Method) -> Range:
    """The best scale on one grid."""
    qmin, qmax = grid(bits, zero_point)
    covering = _covering(histogram, bits, zero_point)
    if covering <= 0.0:  # unsigned, and no value is positive: every level but 0 is unused
        return Range(histogram.peak / max(qmax, 1), zero_point, histogram.power)
    if method == "max" or histogram.low == histogram.high:
        error = float(squared_error(histogram, np.array([covering]), qmin, qmax)[0])
        return Range(covering, zero_point, error)
    # Steps of 4 %, then 32 steps between the neighbours of the best. The error has several minima
    # at few bits, so a descent would not do.
    coarse = _scales(histogram, covering, 129)
    best = int(np.argmin(squared_error(histogram, coarse, qmin, qmax)))
    fine = np.linspace(coarse[max(best - 1, 0)], coarse[min(best + 1, 128)], 33)
    errors = squared_error(histogram, fine, qmin, qmax)
    best = int(np.argmin(errors))
    return Range(float(fine[best]), zero_point, float(errors[best]))
