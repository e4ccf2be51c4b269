"""Haar transforms that join their four bands along the channels, as networks write with slices.

MWCNN's (Liu et al., arXiv 1805.07071) and its descendants' take even and odd rows and columns
apart, add them up with signs, and concatenate. Order, signs and factor of the bands differ from
code to code; they are found by running the layer on single pixels.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from waveedge.errors import ExportError
from waveedge.nn.dwt import DWT2d, IDWT2d

__all__ = ["JoinedDWT", "JoinedIDWT", "joined_analysis", "joined_synthesis"]


class _Band(NamedTuple):
    """One of the joined bands: which of low and details it is, times ``factor``."""

    number: int
    factor: float


class JoinedDWT(nn.Module):
    """One Haar level, (N, C, 2h, 2w) to (N, 4C, h, w): the bands in an order of their own."""

    def __init__(self, bands: list[_Band]) -> None:
        super().__init__()
        self.transform, self.bands = DWT2d(dtype=torch.float64), bands

    def forward(self, x: Tensor) -> Tensor:
        low, (details,) = self.transform(x)
        found = (low, *(details[:, :, band] for band in range(3)))
        return torch.cat([_times(found[band.number], band.factor) for band in self.bands], 1)


class JoinedIDWT(nn.Module):
    """The inverse of such a level, (N, 4C, h, w) to (N, C, 2h, 2w)."""

    def __init__(self, bands: list[_Band]) -> None:
        super().__init__()
        self.inverse, self.bands = IDWT2d(dtype=torch.float64), bands

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(4, 1)
        found = {
            band.number: _times(part, band.factor)
            for part, band in zip(parts, self.bands, strict=True)
        }
        y: Tensor = self.inverse((found[0], [torch.stack([found[1], found[2], found[3]], 2)]))
        return y


def joined_analysis(module: nn.Module) -> JoinedDWT:
    """The equal of a module that transforms, read off its bands of single pixels.

    Raises:
        ExportError: it is no Haar level.
    """
    pixels = torch.eye(4, dtype=torch.float64).reshape(4, 1, 2, 2)
    bands = _alone(module)(pixels).reshape(4, 4).T  # (bands of the module, pixels)
    low, (details,) = DWT2d(dtype=torch.float64)(pixels)
    return JoinedDWT(_matched(bands, torch.cat([low.flatten(1), details.flatten(1)], 1).T))


def joined_synthesis(module: nn.Module) -> JoinedIDWT:
    """The equal of a module that transforms back, read off its pixels of single bands.

    Raises:
        ExportError: it is no inverse of a Haar level.
    """
    bands = torch.eye(4, dtype=torch.float64).reshape(4, 4, 1, 1)
    pixels = _alone(module)(bands).reshape(4, 4)  # (bands of the module, pixels)
    single = bands[:, None]
    images = IDWT2d(dtype=torch.float64)((single[:, :, 0], [single[:, :, 1:]]))
    return JoinedIDWT(_matched(pixels, images.reshape(4, 4)))


def _alone(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).cpu().double().eval()


def _matched(rows: Tensor, haar: Tensor) -> list[_Band]:
    """Each row as a multiple of one of Haar's, which are orthonormal."""
    factors = rows.double() @ haar.T
    numbers = factors.abs().argmax(1)
    if sorted(numbers.tolist()) != [0, 1, 2, 3]:
        raise ExportError("its bands are not those of the Haar wavelet")
    return [
        _Band(number, _plain(float(factors[row, number])))
        for row, number in enumerate(numbers.tolist())
    ]


def _plain(factor: float) -> float:
    """The factor that was meant, where rounding is all that parts it from 1, a half or a double."""
    near = round(64 * factor) / 64
    return near if abs(near - factor) < 1e-6 else factor


def _times(value: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return value
    return -value if factor == -1 else value * factor
