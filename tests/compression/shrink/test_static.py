"""Static WCC: a share of the inputs, chosen once, in layers that stay dense."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import waveedge
from waveedge.compression.shrink import select_inputs
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
    network = net()
    graph = normalise(network, (3, 16, 16))
    kept = select_inputs(graph, {"2": 0.5, "4": 0.5}, IMAGES, 8)
    assert sum(count for count, _ in kept.values()) <= 0.5 * (12 + 8)
    assert kept["2"][0] < kept["4"][0]
    for name, (count, inputs) in kept.items():
        weight = graph.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        assert weight.shape[1] == inputs
        assert int((weight.abs().sum(dim=(0, 2, 3)) > 0).sum()) == count


def test_a_third_is_enough_where_all_is_there_three_times() -> None:
    network = net()
    graph = normalise(network, (3, 16, 16))
    assert select_inputs(graph, {"2": 1 / 3}, IMAGES, 8) == {"2": (4, 12)}
    for image in IMAGES:
        (wanted,), (found,) = run(network, image), run(graph, image)
        assert float((wanted - found).abs().max()) < 0.02 * float(wanted.abs().max())


def test_a_ratio_of_a_layer_of_its_own() -> None:
    graph = normalise(net(), (3, 16, 16))
    kept = select_inputs(graph, {"2": 0.999, "4": 0.25}, IMAGES, 8)
    assert sum(count for count, _ in kept.values()) <= 0.999 * 12 + 0.25 * 8


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
