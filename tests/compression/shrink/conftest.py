"""Small networks whose parts can be told apart, and images with something to see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.reparameterize import SpaceToPhase
from waveedge.normalise import normalise

IMAGES = [
    np.random.default_rng(seed).normal(size=(1, 3, 22, 26)).astype(np.float32) for seed in range(4)
]


class Nets:
    """By name; each maps (N, 3, h, w) to some map or vector."""

    def linear(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 16, 1),
            nn.ConvTranspose2d(16, 6, 4, stride=2, padding=1),
        )

    def strided(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 6, 3, stride=2, padding=1, bias=False)
        )

    def hidden(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 24, 1), nn.GELU(), nn.Conv2d(24, 5, 1))

    def padded(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1, bias=False),
            nn.SiLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 5, 3, padding=1, stride=2),
        )

    def transposed(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 24, 1), nn.Hardswish(), nn.ConvTranspose2d(24, 5, 3, stride=2)
        )

    def vectors(self) -> nn.Module:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem = nn.Conv2d(3, 8, 3, padding=1)
                self.widen, self.narrow = nn.Linear(8, 24), nn.Linear(24, 8)

            def forward(self, x: Tensor) -> Tensor:
                y = self.stem(x).permute(0, 2, 3, 1)
                return self.narrow(torch.relu(self.widen(y)))

        return Net()

    def odd(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 12, 2, stride=3), nn.Conv2d(12, 7, 3, padding=2, dilation=2)
        )

    def phases(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 12, 1), SpaceToPhase(), nn.Conv2d(48, 6, 1))


NETS = [name for name in vars(Nets) if not name.startswith("_")]


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest) -> fx.GraphModule:
    torch.manual_seed(7)
    network: nn.Module = getattr(Nets(), request.param)().eval()
    if request.param == "phases":  # a layer of the exact rewrites, which no network has
        return fx.GraphModule(network, _Leaves().trace(network))
    return normalise(network, IMAGES[0].shape[1:])


class _Leaves(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        return True


@pytest.fixture
def images() -> list[NDArray[np.float32]]:
    return IMAGES
