"""Static WCC: a share of the inputs, chosen once, in layers that stay dense."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import waveedge
from waveedge.compression.shrink import drop_unread, select_inputs
from waveedge.normalise import normalise
from waveedge.reference import run

IMAGES = [np.random.default_rng(n).random((1, 3, 16, 16), np.float32) for n in range(4)]


def net() -> nn.Module:
    """Its first 1x1 layer reads ReLUs of four maps, three times each."""
    torch.manual_seed(1)
    layers = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 8, 1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1, bias=False),
        nn.Conv2d(8, 3, 3, padding=1),
    )
    with torch.no_grad():
        for parameter in layers[0].parameters():
            parameter.copy_(parameter[:4].repeat(3, *[1] * (parameter.dim() - 1)))
    return layers.eval()


def test_the_inputs_that_say_nothing_new_go_first() -> None:
    graph = normalise(net(), (3, 16, 16))
    kept = select_inputs(graph, ["2", "4"], 0.5 * (12 + 8) * 256, IMAGES)
    assert sum(one.inputs for one in kept.values()) <= 0.5 * (12 + 8)
    assert kept["2"].inputs / 12 < kept["4"].inputs / 8
    for name, (count, positions, _) in kept.items():
        assert positions == 256
        weight = graph.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        assert int((weight.abs().sum(dim=(0, 2, 3)) > 0).sum()) == count


def test_a_third_is_enough_where_all_is_there_three_times() -> None:
    network = net()
    graph = normalise(network, (3, 16, 16))
    assert select_inputs(graph, ["2"], 4 * 256, IMAGES) == {"2": (4, 256, None)}
    for image in IMAGES:
        (wanted,), (found,) = run(network, image), run(graph, image)
        assert float((wanted - found).abs().max()) < 0.02 * float(wanted.abs().max())


def test_where_few_are_read_already_nothing_goes() -> None:
    graph = normalise(net(), (3, 16, 16))
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    assert select_inputs(graph, ["2", "4"], 20 * 256, IMAGES) == {
        "2": (12, 256, None),
        "4": (8, 256, None),
    }
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())


def test_what_is_read_no_more_is_not_computed() -> None:
    network = net()
    graph = normalise(network, (3, 16, 16))
    for module in (network[4], graph.get_submodule("4")):  # type: ignore[index]
        module.weight.data[:, [1, 6]] = 0
    for module in (network[2], graph.get_submodule("2")):  # type: ignore[index]
        module.weight.data[[0, 2, 3, 4, 5, 7], 5] = 0  # read for channels alone that go
    drop_unread(graph)
    shapes = [tuple(graph.get_submodule(name).weight.shape[:2]) for name in ("0", "2", "4")]  # type: ignore[index]
    assert shapes == [(11, 3), (6, 11), (8, 6)]
    for image in IMAGES:
        (wanted,), (found,) = run(network, image), run(graph, image)
        assert torch.allclose(wanted, found, atol=1e-6)


def test_channels_that_have_gone_count() -> None:
    """Shrinking leaves out what is there three times; half of the rest need not go as well."""
    images = np.concatenate(IMAGES)
    both = waveedge.compress(net(), images, bits=8, wcc_ratio=0.5, tune=0)
    alone = waveedge.compress(net(), images, bits=8, wcc_ratio=0.5, shrink=False, tune=0)
    assert both.report.coefficients <= 0.5
    assert alone.report.coefficients <= 0.5
    assert both.report.shrunk is not None


def test_the_report_says_what_was_kept() -> None:
    images = np.concatenate(IMAGES)
    small = waveedge.compress(net(), images, bits=8, wcc_ratio=0.5, tune=0)
    reasons = dict(small.report.decisions)
    assert reasons["2"].startswith("1x1 on 16x16: ")
    assert reasons["0"] == "not a 1x1 convolution of stride 1"
    assert small.report.coefficients <= 0.5
    assert small.report.macs_after < waveedge.compress(net(), images, bits=8).report.macs_after
    assert not any(isinstance(m, waveedge.nn.Selection) for m in small.graph.modules())


def test_the_published_selection_is_another() -> None:
    images = np.concatenate(IMAGES)
    fields = {"wcc_ratio": 0.5, "wcc_levels": 1, "tune": 0}
    small = waveedge.compress(net(), images, bits=8, wcc_select="topk", **fields)  # type: ignore[arg-type]
    assert sum(isinstance(m, waveedge.nn.Selection) for m in small.graph.modules()) == 2
    assert small.report.coefficients == pytest.approx(0.5)


@pytest.mark.parametrize(("select", "levels"), [("topk", 1), ("topk", 3), ("static", 3)])
def test_where_nothing_fits_that_is_said(select: str, levels: int) -> None:
    images = np.concatenate(IMAGES)[..., :8, :8]  # too small for three levels
    said: list[str] = []
    fields = {"wcc_ratio": 0.5, "wcc_levels": levels, "wcc_select": select, "tune": 0}
    small = waveedge.compress(net(), images, bits=8, warn=said.append, **fields)  # type: ignore[arg-type]
    nothing = (select, levels) == ("topk", 3)  # static transforms nothing
    assert any("WCC selects nothing" in line for line in said) == nothing
    assert (small.report.coefficients == 1) == nothing


def test_a_layer_of_zeros_and_no_layer_at_all_are_no_obstacle() -> None:
    """As residual branches start, whose last layer has a weight of zeros."""
    network = net()
    with torch.no_grad():
        network[4].weight.zero_()  # type: ignore[index, operator, union-attr]
    graph = normalise(network, (3, 16, 16))
    kept = select_inputs(graph, ["2", "4"], 12 * 256, IMAGES)
    assert sum(one.inputs for one in kept.values()) <= 12
    for image in IMAGES:
        assert torch.allclose(run(network, image)[0], run(graph, image)[0])
    assert select_inputs(graph, [], 0.0, IMAGES) == {}
