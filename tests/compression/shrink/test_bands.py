"""Static WCC chooses among (channel, subband) pairs where a network has a transform of its own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

import waveedge
from waveedge.compression.reparameterize import CONTRACTING, CPU, reparameterize
from waveedge.compression.shrink import drop_unread, select_inputs
from waveedge.compression.shrink.bands import Bands
from waveedge.models import WaveMix, WaveMixConfig
from waveedge.nn import DWT2d
from waveedge.normalise import normalise


class Reads(nn.Module):
    """A 1x1 layer, a Haar level, and layers that read its bands, alone and beside another map."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.reduction = nn.Conv2d(8, 5, 1, bias=bias)
        self.transform = DWT2d(1)
        self.one = nn.Conv2d(20, 6, 1)
        self.two = nn.Conv2d(26, 7, 1)
        self.head = nn.Conv2d(7, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        low, (details,) = self.transform(self.reduction(torch.relu(self.stem(x))))
        bands = torch.cat([low, details.flatten(1, 2)], 1)
        one = torch.relu(self.one(bands))
        y: Tensor = self.head(torch.relu(self.two(torch.cat([one, bands], 1))))
        return y


def wavemix(levels: int) -> nn.Module:
    torch.manual_seed(4)
    config = WaveMixConfig(depth=2, dim=8, ff_channels=8, levels=levels, num_classes=3)
    model = WaveMix(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def prepared(network: nn.Module, size: tuple[int, int]) -> fx.GraphModule:
    return reparameterize(normalise(network, (3, *size)), size, skip=CONTRACTING)


def error(network: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        wanted, found = network(x), other(x)
    wanted, found = (y[0] if isinstance(y, (tuple, list)) else y for y in (wanted, found))
    return float((wanted - found).abs().max() / wanted.abs().max())


NETWORKS = {
    "bias": Reads,
    "no bias": lambda: Reads(bias=False),
    "one level": lambda: wavemix(1),
    "three levels": lambda: wavemix(3),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_reading_bands_changes_nothing_there_and_back(
    name: str, dtype: torch.dtype, bound: float
) -> None:
    network, size = NETWORKS[name]().to(dtype), (64, 96)
    graph = prepared(network, size)
    before = [conv.in_channels for conv in graph.modules() if isinstance(conv, nn.Conv2d)]
    names = [key for key, _ in graph.named_modules() if key.endswith("reduction")]
    x = torch.rand(2, 3, *size, dtype=dtype)
    bands = Bands(graph, names, (1, 3, *size), CPU.model_copy(update={"node": 1e9}))
    assert error(network, graph, x) < bound
    moved = [graph.get_submodule(key).in_channels // 4 for key in names]  # type: ignore[union-attr,operator]
    bands.settle()
    assert error(network, graph, x) < bound
    convs = [conv for conv in graph.modules() if isinstance(conv, nn.Conv2d)]
    assert [conv.in_channels for conv in convs] == before  # no transform is left
    for key, channels in zip(names, moved, strict=True):
        conv = graph.get_submodule(key)
        assert isinstance(conv, nn.Conv2d)
        assert (conv.kernel_size, conv.stride, conv.in_channels) == ((2, 2), (2, 2), channels)
    assert error(network, graph, torch.rand(1, 3, 128, 64, dtype=dtype)) < bound


def test_what_must_stay_stays() -> None:
    graph = prepared(Reads(), (16, 16))
    state = {key: value.clone() for key, value in graph.state_dict().items()}
    bands = Bands(graph, ["reduction"], (1, 3, 16, 16), keep=["two"])
    bands.settle()
    assert graph.get_submodule("reduction").kernel_size == (1, 1)
    assert all(torch.equal(value, state[key]) for key, value in graph.state_dict().items())


def test_a_reduction_that_costs_more_than_a_node_stays_in_its_place() -> None:
    """Its readers choose among subbands all the same."""
    graph, x = prepared(Reads(), (16, 16)), torch.rand(1, 3, 16, 16)
    cost = 8 * 5 * 256
    for node, size in ((cost, (2, 2)), (cost - 1, (1, 1))):
        copied = copy.deepcopy(graph)
        prices = CPU.model_copy(update={"node": node})
        bands = Bands(copied, ["reduction"], (1, 3, 16, 16), prices)
        assert error(Reads(), copied, x) < 1e-5
        bands.settle()
        assert copied.get_submodule("reduction").kernel_size == size
        assert error(Reads(), copied, x) < 1e-5


def test_a_kept_reduction_lets_its_readers_choose_bands() -> None:
    graph = prepared(Reads(), (16, 16))
    network, x = Reads(), torch.rand(1, 3, 16, 16)
    bands = Bands(graph, ["one", "two"], (1, 3, 16, 16))
    assert error(network, graph, x) < 1e-5
    bands.settle()
    assert graph.get_submodule("reduction").kernel_size == (1, 1)
    assert error(network, graph, x) < 1e-5


def test_smooth_maps_are_read_by_their_low_band_alone() -> None:
    """A quarter of the pairs is all there is in maps whose cells are constant."""
    network = Reads()
    network.stem = nn.Conv2d(3, 8, 1)
    rng = np.random.default_rng(0)
    small = [rng.random((1, 3, 8, 8), np.float32) for _ in range(4)]
    images = [image.repeat(2, axis=2).repeat(2, axis=3) for image in small]
    graph = prepared(network, (16, 16))
    kept = select_inputs(graph, ["reduction"], 8 * 64, images)
    assert kept["reduction"].positions == 64
    assert kept["reduction"].inputs <= 8
    assert error(network, graph, torch.from_numpy(images[0])) < 1e-3


def test_bands_that_nothing_reads_are_not_computed() -> None:
    network = Reads()
    graph = prepared(network, (16, 16))
    bands = Bands(graph, ["reduction"], (1, 3, 16, 16))
    with torch.no_grad():  # details along both directions, of all channels
        graph.get_submodule("one").weight[:, 15:] = 0  # type: ignore[union-attr,index]
        graph.get_submodule("two").weight[:, 21:] = 0  # type: ignore[union-attr,index]
    before = graph(torch.ones(1, 3, 16, 16))
    bands.settle()
    drop_unread(graph)
    after = graph(torch.ones(1, 3, 16, 16))
    assert torch.allclose(before[0] if isinstance(before, tuple) else before, after, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (15, 13)])
def test_the_ratio_is_of_the_published_coefficients(size: tuple[int, int]) -> None:
    """On odd maps no transform is folded, and channels are chosen."""
    images = np.random.default_rng(1).random((6, 3, *size), np.float32)
    small = waveedge.compress(Reads().eval(), images, bits=8, wcc_ratio=0.5, tune=0)
    assert small.report.coefficients <= 0.5 + 1e-6
    reason = dict(small.report.decisions)["reduction"]
    assert ("(channel, subband) pairs" in reason) == (size[1] % 2 == 0)
