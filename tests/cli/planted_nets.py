"""One small network for each exact rewrite, in which it finds something to do."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveedge.nn import DWT2d, WTConv2d

SIZE = (16, 16)


class Scaled(nn.Module):
    """A layer scale behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
        self.gamma = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.widen(x) * self.gamma.reshape(-1, 1, 1), 0.2)
        return x + self.narrow(y)


class Dense(nn.Module):
    """Linear layers with channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(F.leaky_relu(self.widen(x.permute(0, 2, 3, 1)), 0.2))
        return x + y.permute(0, 3, 1, 2)


class Levels(nn.Module):
    """Two levels of a longer wavelet, each read by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = DWT2d(2, "db2", "periodization")
        self.fine, self.coarse = nn.Conv2d(9, 4, 1), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        low, (fine, coarse) = self.transform(x)
        joined = torch.cat([low, coarse.flatten(1, 2)], 1)
        return self.fine(fine.flatten(1, 2)).mean((2, 3)) + self.coarse(joined).mean((2, 3))


class Level(nn.Module):
    """One Haar level, read by a 1x1 convolution, and a way back up."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.transform = nn.Conv2d(3, 4, 3, padding=1), DWT2d()
        self.mix, self.out = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        low, (details,) = self.transform(F.leaky_relu(self.stem(x), 0.2))
        return self.out(F.leaky_relu(self.mix(torch.cat([low, details.flatten(1, 2)], 1)), 0.2))


class Stream(nn.Module):
    """A wide residual stream that a narrow convolution reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.first, self.second = nn.Conv2d(4, 32, 1), nn.ConvTranspose2d(4, 32, 4, 2, 1)
        self.tail = nn.Conv2d(32, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.stem(x), 0.2)
        z = F.max_pool2d(self.body(y), 2)
        return self.tail(self.first(y) + self.second(z))


class Blocks(nn.Module):
    """A residual stream that Haar levels read and transposed convolutions write."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.reduce = nn.ModuleList(nn.Conv2d(8, 2, 1) for _ in range(2))
        self.transform = DWT2d()
        self.mix = nn.ModuleList(nn.Conv2d(8, 16, 1) for _ in range(2))
        self.expand = nn.ModuleList(nn.ConvTranspose2d(16, 8, 4, 2, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.stem(x), 0.2)
        for reduce, mix, expand in zip(self.reduce, self.mix, self.expand, strict=True):
            low, (details,) = self.transform(reduce(x))
            y = F.leaky_relu(mix(torch.cat([low, details.flatten(1, 2)], 1)), 0.2)
            x = expand(y) + x
        return F.leaky_relu(x, 0.2)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "batchnorm": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Conv2d(8, 3, 1)
    ),
    "scales": Scaled,
    "pointwise": Dense,
    "pyramid": Levels,
    "haar": Level,
    "residual": Stream,
    "chains": lambda: nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 3, 1), nn.LeakyReLU(0.2), nn.Conv2d(3, 3, 1)
    ),
    "polyphase": Blocks,
    "transposed": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.2), nn.ConvTranspose2d(8, 3, 4, 2, 1)
    ),
    "lower": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(8, 12, 1), nn.PixelShuffle(2)
    ),
    "wtconv": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.LeakyReLU(0.2), WTConv2d(4, 4, 3, wt_levels=1), nn.Conv2d(4, 3, 1)
    ),
    "centre": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(8, 3, 3, padding=1)
    ),
}


def network(rewrite: str) -> nn.Module:
    """The network for a rewrite, with seeded weights, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NETWORKS[rewrite]().eval()
