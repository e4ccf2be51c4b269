"""How many channels the input of a network of one's own has: found by running it without data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from waveedge.models.channels import input_channels


class Stem(nn.Module):
    """The convolution that sees the image is not the one that was registered first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(48, 48, 1)
        self.stem = nn.Conv2d(channels, 48, 3, padding=1)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = self.body(F.relu(self.stem(x)))
        return self.last + torch.ones(1)


class Two(nn.Module):
    """Two inputs: it cannot be run on one image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(7, 1, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.conv(x) + y


class Data(nn.Module):
    """It looks at its numbers, which are not there without data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > 0 else x


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "colour": (lambda: Stem(3), 3),
    "grey": (lambda: Stem(1), 1),
    "four": (lambda: Stem(4), 4),
    "the first": (lambda: nn.Conv2d(9, 2, 1), 9),
    "any": (lambda: nn.MaxPool2d(2), 3),
    "one size": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(1352, 2)), 1),
    "a linear layer": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), 1),
    "a linear layer of features": (lambda: nn.Linear(10, 2), 3),
    "two inputs": (Two, 7),
    "data": (Data, 5),
    "no layers": (nn.Sequential, 3),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_the_channels_are_those_that_it_runs_on(case: str) -> None:
    make, channels = NETWORKS[case]
    assert input_channels(make().eval()) == channels


@pytest.mark.parametrize("normalised", [False, True])
def test_the_network_is_left_as_it_was(normalised: bool) -> None:
    network = Stem(3).eval()
    if normalised:
        network.stem = weight_norm(network.stem)
    x = torch.ones(1, 3, 8, 8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    identities = {name: id(tensor) for name, tensor in network.named_parameters()}
    attributes = set(vars(network.stem))
    input_channels(network)
    assert network.calls == 0
    assert not hasattr(network, "last")
    assert set(vars(network.stem)) == attributes
    assert not any(tensor.is_meta for tensor in network.state_dict().values())
    assert not network.stem.weight.is_meta
    assert {name: id(tensor) for name, tensor in network.named_parameters()} == identities
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    network(x)
