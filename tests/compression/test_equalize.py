"""Channels of very different range, equalized without changing a bit of the network's output."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.compress import compress
from waveedge.compression.equalize import equalize, equalized
from waveedge.compression.reparameterize import Shapes
from waveedge.models.build import attach_spec
from waveedge.normalise import normalise, preserve
from waveedge.spec import ModelSpec

SIZE = (11, 13)


class Body(nn.Module):
    """Two layers, and what ``between`` makes of the first one's channels, one of them loud."""

    def __init__(
        self,
        between: Callable[[Tensor], Tensor] = F.relu,
        reader: nn.Module | None = None,
        loud: float = 1000.0,
    ) -> None:
        super().__init__()
        self.write = nn.Conv2d(3, 8, 3, padding=1)
        self.between = between
        self.read = reader or nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 3, 1)
        with torch.no_grad():
            self.write.weight[2] *= loud
            self.write.bias[2] *= loud  # type: ignore[index]
            weight = self.read.weight
            if isinstance(self.read, nn.ConvTranspose2d) or self.read.groups == 1:  # type: ignore[union-attr]
                axis = 0 if isinstance(self.read, nn.ConvTranspose2d) else 1
                weight.select(axis, 2).div_(loud)  # type: ignore[operator,union-attr]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.sigmoid(self.read(self.between(self.write(x)))))
        return y


class Residual(nn.Module):
    """A stream that three layers write and three read, some of them both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.two = nn.Conv2d(8, 8, 1, groups=2)
        self.act = nn.PReLU(8)
        self.head = nn.Conv2d(8, 3, 1)
        with torch.no_grad():
            for layer in (self.stem, self.one, self.two):
                layer.weight[5] *= 500
            self.one.weight[5] /= 500
            self.two.weight[4:, 1] /= 500
            self.head.weight[:, 5] /= 500

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = y + self.act(self.one(y)) * 0.5
        y = y - self.two(F.leaky_relu(y, 0.1))
        z: Tensor = self.head(y)
        return z


class Features(nn.Module):
    """A stream between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.write = nn.Linear(3, 8)
        self.read = nn.Linear(8, 3)
        with torch.no_grad():
            self.write.weight[1] *= 1000
            self.read.weight[:, 1] /= 1000

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.read(F.relu(self.write(x.movedim(1, -1)))).movedim(-1, 1)
        return y


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


def images(count: int = 2, size: tuple[int, int] = SIZE) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return [rng.random((1, 3, *size), np.float32) for _ in range(count)]


def graphs(model: nn.Module) -> tuple[fx.GraphModule, fx.GraphModule, list[str]]:
    """The network before and after, and the layers that were scaled."""
    graph = normalise(model, (3, *SIZE))
    other = copy.deepcopy(graph)
    return graph, other, equalize(other, Shapes(other, (1, 3, *SIZE)), images())


EXACT: dict[str, Callable[[], nn.Module]] = {
    "relu": Body,
    "leaky relu": lambda: Body(nn.LeakyReLU(0.2)),
    "prelu": lambda: Body(nn.PReLU(8)),
    "linear path": lambda: Body(nn.Identity()),
    "reflected": lambda: Body(lambda y: F.pad(F.relu(y), (2, 1, 1, 2), mode="reflect")),
    "pooled": lambda: Body(lambda y: F.max_pool2d(F.relu(y), 2)),
    "enlarged": lambda: Body(lambda y: F.interpolate(F.relu(y), scale_factor=2.0)),
    "transposed reader": lambda: Body(reader=nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)),
    "depthwise stream": Residual,
    "linear layers": Features,
}


@pytest.mark.parametrize("name", EXACT)
def test_not_a_bit_of_the_output_changes(name: str) -> None:
    graph, other, scaled = graphs(seeded(EXACT[name]))
    assert scaled
    x = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(graph(x), other(x))
        assert torch.equal(graph.double()(x.double()), other.double()(x.double()))
    before, after = graph.state_dict(), other.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_all_writers_and_readers_of_a_stream_take_part() -> None:
    graph, other, scaled = graphs(seeded(Residual))
    assert sorted(scaled) == ["one", "stem", "two"]
    ratio = (other.get_parameter("stem.weight") / graph.get_parameter("stem.weight")).detach()
    assert float(ratio[5].max()) < float(ratio[0].min()) / 8
    assert torch.equal(torch.log2(ratio), torch.log2(ratio).round())


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "alike already": lambda: Body(loud=1.0),
    "a little louder": lambda: Body(loud=1.5),
    "not homogeneous": lambda: Body(F.silu),
    "clamped from above": lambda: Body(F.relu6),
    "a constant is added": lambda: Body(lambda y: F.relu(y) + 1),
    "padded with ones": lambda: Body(lambda y: F.pad(F.relu(y), (1, 1, 1, 1), value=1.0)),
    "read by another operation": lambda: Body(lambda y: F.relu(y) * torch.sigmoid(y)),
    "rows that share a grid with no other": lambda: Body(
        reader=nn.Conv2d(8, 6, 1, groups=2), loud=1.0
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_or_not_pay_is_left_alone(name: str) -> None:
    graph, other, scaled = graphs(seeded(REFUSED[name]))
    assert not scaled
    after = other.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in graph.state_dict().items())


def test_a_silent_channel_keeps_room() -> None:
    """What is silent on the images at hand may speak up on others."""

    model = seeded(Body)
    assert isinstance(model, Body)
    assert model.write.bias is not None
    with torch.no_grad():
        model.write.weight[4] = 0
        model.write.bias[4] = 1e-4
    graph, other, scaled = graphs(model)
    assert scaled
    ratio = (other.get_parameter("write.bias") / graph.get_parameter("write.bias")).detach()
    assert float(ratio[4]) <= 8 * float(ratio.median())


def test_a_fault_leaves_the_network_as_it_was() -> None:
    graph = normalise(seeded(Body), (3, *SIZE))
    preserve(graph, applied=(), left_out=())
    weight = graph.get_parameter("write.weight").clone()
    kept = equalized(graph, (1, 3, *SIZE), images(), lambda form: 1.0)
    assert torch.equal(kept.get_parameter("write.weight"), weight)
    assert "equalize" in str(kept.left_out[0])  # type: ignore[index]


def test_a_loud_channel_no_longer_costs_the_others() -> None:
    spec = ModelSpec(family="custom", input_size=(16, 16))
    model = attach_spec(seeded(Body), spec)
    small = compress(model, images=np.concatenate(images(12, (16, 16))), bits=8)
    assert "equalize: write" in small.report.rewrites
    assert small.report.quality.snr_db > 30
