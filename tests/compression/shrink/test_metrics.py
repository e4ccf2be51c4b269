"""What errors of a layer's outputs cost, and layers that are fitted anew."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from waveedge.compression.shrink import select_inputs
from waveedge.compression.shrink.metrics import observe_metrics
from waveedge.compression.shrink.refit import refit
from waveedge.normalise import normalise
from waveedge.reference import run

IMAGES = [np.random.default_rng(n).standard_normal((1, 3, 8, 8)).astype("f") for n in range(32)]


class Heads(nn.Module):
    """A 1x1 convolution whose four outputs count 10, 1, 0 and 1 times in two outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Conv2d(3, 4, 1)
        self.register_buffer("counts", torch.tensor([10.0, 1.0, 0.0, 1.0])[:, None, None])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.layer(x) * self.counts
        return y[:, :2], y[:, 3:].mean((2, 3))


def graph_of(network: nn.Module) -> fx.GraphModule:
    return normalise(network.eval(), (3, 8, 8))


def node_of(graph: fx.GraphModule, name: str) -> fx.Node:
    return next(node for node in graph.graph.nodes if node.target == name)


def test_a_metric_is_the_sum_of_squared_slopes() -> None:
    graph = graph_of(Heads())
    node = node_of(graph, "layer")
    metric = observe_metrics(graph, {node: 1}, IMAGES)[node]
    powers = np.sum([[float(y.square().sum()) for y in run(graph, image)] for image in IMAGES], 0)
    # The Jacobian of the first head is 10 and 1 at every one of 64 positions, of the second 1/64.
    wanted = np.array([100 * 64 / powers[0], 64 / powers[0], 0, 1 / 64 / powers[1]])
    wanted *= len(IMAGES) * 4  # sums over images and draws
    assert metric.diagonal().numpy() == pytest.approx(wanted, rel=0.1, abs=0.01 * wanted.max())
    assert float(torch.linalg.eigvalsh(metric)[0]) > 0


class Rounded(torch.autograd.Function):
    """An operation of a user's own that has no gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        raise NotImplementedError("no gradient")


def rounded(x: Tensor) -> Tensor:
    y: Tensor = Rounded.apply(x)  # type: ignore[no-untyped-call]
    return y


def test_where_an_operation_has_no_gradient_all_errors_count_alike() -> None:
    layers = nn.ModuleDict({"one": nn.Conv2d(3, 4, 1)})
    traced = fx.Graph()
    value = traced.call_module("one", (traced.placeholder("x"),))
    traced.output(traced.call_function(rounded, (value,)))
    graph = fx.GraphModule(layers, traced).eval()
    assert observe_metrics(graph, {node_of(graph, "one"): 1}, IMAGES) == {}


def test_inputs_stay_whose_errors_the_output_shows() -> None:
    """Two inputs drive a channel that counts a hundredth, two weaker ones the one that counts."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.randn(4, 3, 1, 1))
        network[2].weight.copy_(torch.tensor([[4.0, 4, 0, 0], [0, 0, 1, 1]])[..., None, None])
        network[3].weight.copy_(torch.tensor([[0.01, 1.0]])[..., None, None])
    graph = graph_of(network)
    select_inputs(graph, ["2"], 2 * 64, IMAGES)
    read = graph.get_submodule("2").weight.abs().sum((0, 2, 3)) > 0  # type: ignore[operator]
    assert read.tolist() == [False, False, True, True]


def deep() -> fx.GraphModule:
    torch.manual_seed(5)
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Conv2d(12, 12, 1), nn.ReLU()]
    return graph_of(nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), *layers))


def test_what_lost_nothing_stays_to_the_bit() -> None:
    graph = deep()
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    refit(graph, copy.deepcopy(graph), IMAGES, ["2", "4", "6"])
    assert all(torch.equal(before[name], value) for name, value in graph.state_dict().items())


def test_later_layers_make_up_for_what_earlier_ones_lost() -> None:
    graph = deep()
    before = copy.deepcopy(graph)
    for name in ("2", "4"):
        graph.get_submodule(name).weight.data[:, :4] = 0  # type: ignore[operator, union-attr]

    def error() -> float:
        pairs = [(run(before, image)[0], run(graph, image)[0]) for image in IMAGES]
        return sum(float((a - b).square().sum() / a.square().sum()) for a, b in pairs)

    lost, third = error(), graph.get_submodule("6").weight.clone()  # type: ignore[operator]
    refit(graph, before, IMAGES, ["2", "4", "6"])
    assert error() < 0.5 * lost
    assert not torch.equal(third, graph.get_submodule("6").weight)  # type: ignore[arg-type]
    for name in ("2", "4"):
        assert not graph.get_submodule(name).weight[:, :4].any()  # type: ignore[index]
