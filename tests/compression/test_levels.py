"""Concatenated maps of different range, brought to one without changing a bit of the output."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import waveedge
from waveedge.compression.levels import level, levelled
from waveedge.compression.reparameterize import FramePool, Shapes
from waveedge.normalise import normalise, preserve

SIZE = (11, 13)
IMAGES = [np.random.default_rng(0).standard_normal((1, 3, *SIZE), np.float32)]


class Joined(nn.Module):
    """Two maps, the second a hundred times smaller, that ``read`` makes something of."""

    def __init__(
        self, read: Callable[[Joined, Tensor, Tensor], Tensor], ratio: float = 100
    ) -> None:
        super().__init__()
        self.read = read
        self.one, self.two = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 5, 3, padding=1)
        self.both, self.three = nn.Conv2d(11, 4, 3), nn.Conv2d(17, 4, 1)
        self.alone = nn.Conv2d(5, 4, 3, padding=1)
        self.grouped = nn.Conv2d(12, 4, 1, groups=2)
        with torch.no_grad():
            self.two.weight /= ratio
            self.two.bias /= ratio  # type: ignore[operator]
            self.both.weight[:, 6:] *= ratio
            self.three.weight[:, 6:11] *= ratio

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self, self.one(x), self.two(x))


READS: dict[str, tuple[set[str], Callable[[Joined, Tensor, Tensor], Tensor]]] = {
    "a concatenation": ({"two"}, lambda net, a, b: net.both(torch.cat([a, b], 1))),
    "a part of one": ({"two"}, lambda net, a, b: net.both(torch.cat([a, b], 1)[:, :, 2:-1, 1:])),
    "a padded one": (
        {"two"},
        lambda net, a, b: net.both(F.pad(torch.cat([a, b], 1), (1, 0, 2, 1))),
    ),
    "one of parts": (
        {"two"},
        lambda net, a, b: net.both(torch.cat([a[:, :, 1:], b[:, :, 1:]], 1)),
    ),
    "also alone": (
        {"two"},
        lambda net, a, b: net.both(torch.cat([a, b], 1)).mean() + net.alone(b),
    ),
    "an activation": (set(), lambda net, a, b: net.both(torch.sigmoid(torch.cat([a, b], 1)))),
    "a map twice": (set(), lambda net, a, b: net.three(torch.cat([a, b, a], 1))),
    "also the output": (set(), lambda net, a, b: net.both(torch.cat([a, b], 1)).mean() + b),
    "groups": (set(), lambda net, a, b: net.grouped(torch.cat([a, b, b[:, :1]], 1))),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", READS)
def test_parts_come_to_one_range_and_no_bit_changes(name: str, dtype: torch.dtype) -> None:
    names, read = READS[name]
    torch.manual_seed(1)
    graph = normalise(Joined(read).eval(), (3, *SIZE)).to(dtype)
    x = torch.from_numpy(IMAGES[0]).to(dtype)
    with torch.no_grad():
        wanted = graph(x)
        found = set(level(graph, Shapes(graph, (1, 3, *SIZE)), IMAGES))
        assert found == names
        assert torch.equal(graph(x), wanted)
        if names:
            ranges = [float(graph.get_submodule(part)(x).abs().max()) for part in ("one", "two")]
            assert 0.7 < ranges[0] / ranges[1] < 1.42


def test_where_it_gains_little_nothing_changes() -> None:
    torch.manual_seed(1)
    graph = normalise(Joined(READS["a concatenation"][1], ratio=2).eval(), (3, *SIZE))
    before = copy.deepcopy(graph.state_dict())
    assert level(graph, Shapes(graph, (1, 3, *SIZE)), IMAGES) == []
    assert all(torch.equal(value, before[key]) for key, value in graph.state_dict().items())


def test_a_fault_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(1)
    graph = normalise(Joined(READS["a concatenation"][1]).eval(), (3, *SIZE))
    preserve(graph, applied=(), left_out=())
    weight = graph.get_parameter("two.weight").clone()
    for error, stays in ((0.0, False), (1.0, True)):
        kept = levelled(graph, (1, 3, *SIZE), IMAGES, lambda _, error=error: error)  # type: ignore[misc]
        assert torch.equal(kept.get_parameter("two.weight"), weight) is stays
    assert "level" in str(kept.left_out[0])  # type: ignore[index]


def test_a_small_part_survives_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(Joined(READS["a concatenation"][1]), nn.Conv2d(4, 4, 1)).eval()
    options = {"bits": 8, "shrink": False, "warn": lambda _: None, "input_size": (32, 32)}
    snr = waveedge.compress(network, **options).report.quality.snr_db
    monkeypatch.setattr("waveedge.compression.structure.levelled", lambda form, *_: form)
    assert snr > waveedge.compress(network, **options).report.quality.snr_db + 3


class Pooled(nn.Module):
    """Means of an activation and of a map a hundred times smaller, which a linear layer reads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.one, self.act, self.two = nn.Conv2d(3, 6, 1), nn.GELU(), nn.Conv2d(3, 5, 1)
        self.first, self.second = FramePool((0, 0), (0, 0)), FramePool((1, 1), (0, 2))
        self.read = nn.Linear(6 + 5 * 9, 4)
        with torch.no_grad():
            self.two.weight /= 100
            self.two.bias /= 100  # type: ignore[operator]
            self.read.weight[:, 6:] *= 100

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(self.act(self.one(x))), self.second(self.two(x))]
        y: Tensor = self.read(torch.cat(parts, 1))
        return y


class _Leaves(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        return True


def test_means_come_to_the_range_of_an_activation_beside_them() -> None:
    """What a layer did not write stays as it is, and the others come to its range."""
    network = Pooled().eval()
    graph = fx.GraphModule(network, _Leaves().trace(network))
    x = torch.from_numpy(IMAGES[0])
    with torch.no_grad():
        wanted = graph(x)
        assert level(graph, Shapes(graph, (1, 3, *SIZE)), IMAGES) == ["two"]
        assert torch.equal(graph(x), wanted)
        ranges = [float(graph.act(graph.one(x)).max()), float(graph.two(x).abs().max())]
    assert 0.5 < ranges[0] / ranges[1] < 2
