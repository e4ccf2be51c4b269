"""Static WCC chooses among principal directions where single channels say little."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from waveedge.compression.costs import CPU
from waveedge.compression.graph_queries import is_pointwise, layers
from waveedge.compression.reparameterize import CONTRACTING, reparameterize
from waveedge.compression.shrink import drop_unread, select_inputs
from waveedge.compression.shrink.bands import Bands
from waveedge.compression.shrink.directions import Directions
from waveedge.models import WaveMix, WaveMixConfig
from waveedge.normalise import normalise
from waveedge.reference import run

IMAGES = [np.random.default_rng(n).random((1, 3, 16, 16), np.float32) for n in range(4)]


class Stream(nn.Module):
    """Two readers of a residual stream of 12 channels, each of which makes 3 numbers of them."""

    def __init__(self, step: Callable[[Stream, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.step = step
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.reduce, self.widen = _each(12, 3), _each(3, 12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.head = nn.Conv2d(12, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        for reduce, widen in zip(self.reduce, self.widen, strict=True):
            y = self.step(self, y, widen(torch.relu(reduce(y))))
        out: Tensor = self.head(y)
        return out


def _each(inputs: int, outputs: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(inputs, outputs, 1) for _ in range(2))


READERS = ["reduce.0", "reduce.1"]
ALONE = [["reduce.0"], ["reduce.1"]]
STEPS: dict[str, tuple[list[list[str]], Callable[[Stream, Tensor, Tensor], Tensor]]] = {
    "linear": ([READERS], lambda net, y, d: y + d),
    "the other way round": ([READERS], lambda net, y, d: d + y),
    "one number": ([], lambda net, y, d: y + d.mean((2, 3), keepdim=True)),
    "an activation": ([], lambda net, y, d: torch.relu(y + d)),
    "activations added": ([], lambda net, y, d: y + torch.sigmoid(d)),
    "channel by channel": ([], lambda net, y, d: y + net.depthwise(d)),
    "no stream": (ALONE, lambda net, y, d: d),
}


def bases(network: nn.Module, names: list[str], keep: tuple[str, ...] = ()) -> list[list[str]]:
    """The names of the layers that share directions."""
    graph = normalise(network.eval(), (3, 16, 16))
    nodes = [node for node, _ in layers(graph) if node.target in names]
    found = Directions(graph, nodes, IMAGES, {}, keep)
    shared = [[str(node.target) for node in basis.group.readers] for basis in found._bases]
    found.settle()
    return shared


@pytest.mark.parametrize("name", STEPS)
def test_streams_of_linear_layers_are_read_in_common_directions(name: str) -> None:
    shared, step = STEPS[name]
    assert bases(Stream(step), READERS) == shared


def test_one_reader_alone_and_layers_that_must_stay_read_channels() -> None:
    network = Stream(STEPS["linear"][1])
    assert bases(network, READERS[:1]) == []
    assert bases(network, READERS, keep=("widen.0",)) == [READERS]  # what starts it may be anything
    assert bases(network, READERS, keep=("widen.0", "stem")) == []


@torch.no_grad()
def test_layers_read_as_many_directions_as_they_make_numbers_and_lose_nothing() -> None:
    network = Stream(STEPS["linear"][1]).eval()
    graph = normalise(network, (3, 16, 16)).double()
    images = [image.astype(np.float64) for image in IMAGES]
    kept = select_inputs(graph, READERS, 6 * 256, images)
    assert [one.inputs for one in kept.values()] == [3, 3]
    for image in images:
        (wanted,), (found,) = run(network.double(), image), run(graph, image)
        assert float((wanted - found).abs().max()) < 1e-9 * float(wanted.abs().max())


class Chain(nn.Module):
    """A 3x3 convolution to 8 channels, of which a 1x1 one that alone reads them reads 5 times 1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.third = nn.Conv2d(6, 4, 1)
        with torch.no_grad():
            ways = torch.randn(6, 5) @ torch.randn(5, 8)
            self.second.weight.copy_(ways[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.third(torch.relu(self.second(self.first(x))))
        return y


@torch.no_grad()
def test_a_linear_layer_yields_the_directions_that_are_read_and_no_others() -> None:
    network = Chain().eval()
    graph = normalise(network, (3, 16, 16)).double()
    images = [image.astype(np.float64) for image in IMAGES]
    kept = select_inputs(graph, ["second"], 5 * 256, images)
    assert kept == {"second": (5, 256, "first")}
    first, second = graph.get_submodule("first"), graph.get_submodule("second")
    assert first.weight.shape == (5, 3, 3, 3)  # type: ignore[union-attr]
    assert second.weight.shape == (6, 5, 1, 1)  # type: ignore[union-attr]
    for image in images:
        (wanted,), (found,) = run(network.double(), image), run(graph, image)
        assert float((wanted - found).abs().max()) < 1e-6 * float(wanted.abs().max())


@torch.no_grad()
def test_directions_share_one_grid() -> None:
    """Turned, those that are read all carry about as much."""
    graph = normalise(Chain().eval(), (3, 16, 16))
    select_inputs(graph, ["second"], 4 * 256, IMAGES)
    carried = graph.get_submodule("first")(torch.from_numpy(np.concatenate(IMAGES))).square()
    each = carried.mean((0, 2, 3))
    assert float(each.max() / each.min()) < 10


@torch.no_grad()
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("depth", [2, 6])
def test_with_all_directions_a_wavemix_computes_what_it_did(depth: int, levels: int) -> None:
    """Of 2 blocks, each has directions of its own; of 6, all share them."""
    torch.manual_seed(7)
    size = (64, 32)
    config = WaveMixConfig(depth=depth, dim=16, ff_channels=16, levels=levels, num_classes=3)
    network = WaveMix(config).eval()
    prepared = reparameterize(normalise(network, (3, *size)), size, skip=CONTRACTING)
    names = [n for n, m in prepared.named_modules() if is_pointwise(m) and n.startswith("layers")]
    for dtype, near in ((np.float32, 1e-4), (np.float64, 1e-9)):
        images = [np.random.default_rng(n).random((1, 3, *size)).astype(dtype) for n in range(3)]
        published = prepared.to(torch.from_numpy(images[0]).dtype)
        graph = copy.deepcopy(published)
        bands = Bands(graph, names, (1, 3, *size), CPU)
        nodes = [node for node, _ in layers(graph) if node.target in names]
        directions = Directions(graph, nodes, images, bands.maps)
        assert any(len(basis.group.readers) == depth for basis in directions._bases)
        directions.settle()
        bands.settle()
        drop_unread(graph)
        for image in images:
            (wanted,), (found,) = run(published, image), run(graph, image)
            assert float((wanted - found).abs().max()) < near * float(wanted.abs().max())
