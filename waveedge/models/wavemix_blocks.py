"""The blocks of WaveMix networks: mix tokens by the Haar transform, then by 1x1 convolutions.

Each maps (N, dim, h, w) to (N, dim, h, w). The transform of a map with an odd side is half a row
larger than the map, so the published blocks fit together only where every level halves exactly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from waveedge.models.evidence import Evidence
from waveedge.nn.dwt import DWT2d

__all__ = ["LadderBlock", "PixelShuffleBlock", "SharedBlock", "joined_bands", "read_block"]


def joined_bands(low: Tensor, details: Tensor) -> Tensor:
    """Join one level's low band (N, C, h, w) and details (N, C, 3, h, w) to (N, 4C, h, w)."""
    return torch.cat((low, details.flatten(1, 2)), 1)


def _transforms(levels: int) -> nn.ModuleList:
    """One transform a depth, each started from the input again, as published."""
    return nn.ModuleList(DWT2d(levels=depth) for depth in range(1, levels + 1))


class LadderBlock(nn.Module):
    """Mix tokens at 1 to 4 levels, each level's result joined into the next finer one.

    h and w must be multiples of ``2**levels``.

    Args:
        dim: channels; a multiple of 4.
        ff_channels: channels that enter the upsampling layers.
        mult: hidden channels of a feed-forward, as a multiple of ``dim``.
        levels: levels of the transform, 1 to 4.
        dropout: probability inside the feed-forwards while training.
    """

    def __init__(
        self, dim: int, ff_channels: int, *, mult: int, levels: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.names = [f"feedforward{level}" for level in range(1, levels + 1)]
        if levels == 1:
            self.names = ["feedforward"]
        for level, name in enumerate(self.names, start=1):
            joined = dim if level == levels else dim + dim // 2
            out = dim if level == 1 else dim // 2
            self.add_module(
                name,
                nn.Sequential(
                    nn.Conv2d(joined, dim * mult, 1),
                    nn.GELU(),
                    nn.Dropout(dropout),
                    nn.Conv2d(dim * mult, ff_channels, 1),
                    nn.ConvTranspose2d(ff_channels, out, 4, stride=2, padding=1),
                    nn.BatchNorm2d(out),
                ),
            )
        self.reduction = nn.Conv2d(dim, dim // 4, 1)
        self.transforms = _transforms(levels)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduction(x)
        pyramids = [transform(reduced) for transform in self.transforms]
        details = pyramids[-1][1]
        mixed: Tensor = getattr(self, self.names[-1])(joined_bands(pyramids[-1][0], details[-1]))
        for level in reversed(range(len(self.names) - 1)):
            bands = joined_bands(pyramids[level][0], details[level])
            mixed = getattr(self, self.names[level])(torch.cat((bands, mixed), 1))
        return mixed


class SharedBlock(nn.Module):
    """Mix tokens at all levels by one feed-forward, then blend by a depthwise 5x5 conv.

    The block of arXiv 2203.03689; arguments as for :class:`LadderBlock`, any number of levels.
    """

    def __init__(
        self, dim: int, ff_channels: int, *, mult: int, levels: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.feedforward = nn.Sequential(
            nn.Conv2d(dim, dim * mult, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv2d(dim * mult, ff_channels, 1),
            nn.Dropout(dropout),
        )
        self.names = [f"ff{level + 1}" for level in range(levels)]
        for level, name in enumerate(self.names, start=1):
            stride = 2**level
            self.add_module(
                name,
                nn.ConvTranspose2d(
                    ff_channels, dim // levels, stride + 2, stride=stride, padding=1
                ),
            )
        self.depthconv = nn.Sequential(
            nn.Conv2d(dim, dim, 5, padding=2, groups=dim), nn.GELU(), nn.BatchNorm2d(dim)
        )
        self.reduction = nn.Conv2d(dim, dim // 4, 1)
        self.transforms = _transforms(levels)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduction(x)
        pyramids = [transform(reduced) for transform in self.transforms]
        details = pyramids[-1][1]
        mixed = [
            getattr(self, name)(self.feedforward(joined_bands(pyramids[level][0], details[level])))
            for level, name in enumerate(self.names)
        ]
        blended: Tensor = self.depthconv(torch.cat(mixed, 1))
        return blended


class PixelShuffleBlock(nn.Module):
    """Mix tokens at one level and upsample by rearranging channels into pixels.

    Args:
        dim: channels; a multiple of 4.
        mult: hidden channels of the feed-forward, as a multiple of ``dim``. None: a single 1x1
            convolution makes the 4 * dim channels that are rearranged (WaveMix version 3); else
            a second one does (WaveMixSR-V2).
        dropout: probability inside the feed-forward while training.
    """

    def __init__(self, dim: int, *, mult: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        hidden = 4 * dim if mult is None else mult * dim
        second = [] if mult is None else [nn.Conv2d(hidden, 4 * dim, 1)]
        self.feedforward = nn.Sequential(
            nn.Conv2d(dim, hidden, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            *second,
            nn.PixelShuffle(2),
            nn.Conv2d(dim, dim, 3, padding=1),
            nn.BatchNorm2d(dim),
        )
        self.reduction = nn.Conv2d(dim, dim // 4, 1)
        self.transform = DWT2d()

    def forward(self, x: Tensor) -> Tensor:
        low, (details,) = self.transform(self.reduction(x))
        mixed: Tensor = self.feedforward(joined_bands(low, details))
        return mixed


def read_block(evidence: Evidence, prefix: str, *stem: tuple[str, int]) -> dict[str, Any]:
    """Read the ladder of feed-forwards that most WaveMix networks are made of.

    Args:
        prefix: pattern of what stands before ``layers`` in the names.
        stem: what else tells the channels between blocks, for :meth:`Evidence.vote`.
    """
    vote, layers = evidence.vote, rf"{prefix}layers\.\d+"
    feed = rf"{layers}\.feedforward\d*"
    dim = vote((rf"{layers}\.reduction\.weight", 1), *stem, default=4)
    return {
        "dim": dim,
        "mult": max(1, vote((rf"{feed}\.0\.(weight|bias)", 0), default=dim) // dim),
        "ff_channels": vote(
            (rf"{feed}\.3\.(weight|bias)", 0), (rf"{feed}\.4\.weight", 0), default=dim
        ),
        "levels": evidence.count(rf"{layers}\.feedforward(\d+)\..+", first=1),
    }
