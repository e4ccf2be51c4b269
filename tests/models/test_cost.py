from __future__ import annotations

import json
import operator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from waveedge.cost import Cost, LayerCost, profile
from waveedge.errors import ExportError, InputError
from waveedge.models import build, identify
from waveedge.nn import (
    ActivationQuantizer,
    DWT2d,
    IDWT2d,
    QuantizedConv2d,
    WaveletCompressedConv2d,
    WTConv2d,
)

from .conftest import released


def only(cost: Cost) -> LayerCost:
    (layer,) = cost.layers
    return layer


@pytest.mark.parametrize(
    ("layer", "kind", "macs"),
    [
        (nn.Conv2d(4, 6, 1), "conv1x1", 6 * 8 * 12 * 4),
        (nn.Conv2d(4, 6, 1, stride=2), "conv1x1", 6 * 4 * 6 * 4),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), "conv", 6 * 4 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, groups=2, padding=1), "conv", 6 * 8 * 12 * 2 * 9),
        (nn.Conv2d(4, 8, (1, 5), groups=4), "depthwise", 8 * 8 * 8 * 5),
        (nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1), "conv_transpose", 4 * 96 * 6 * 16),
        (nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2), "conv_transpose", 4 * 96 * 3 * 16),
        (nn.Linear(12, 5), "linear", 4 * 8 * 5 * 12),
        (nn.GELU(), "other", 0),
    ],
)
def test_layers_by_hand(layer: nn.Module, kind: str, macs: int) -> None:
    """One image of 4 channels, 8 high and 12 wide."""
    row = only(profile(layer, (8, 12), channels=4))
    assert (row.kind, row.macs, row.transform_macs) == (kind, macs, 0)
    assert row.input_shape == (1, 4, 8, 12)
    assert row.output_shape == tuple(layer(torch.zeros(1, 4, 8, 12)).shape)
    assert row.output_bytes == 4 * layer(torch.zeros(1, 4, 8, 12)).numel()
    assert row.bops == macs * 32 * 32


def test_haar_costs_as_much_as_a_2x2_conv_with_stride_2() -> None:
    haar = only(profile(DWT2d(), (8, 12), channels=3))
    conv = only(profile(nn.Conv2d(3, 12, 2, stride=2, groups=3), (8, 12)))
    assert (haar.kind, haar.macs, haar.transform_macs) == ("transform", conv.macs, conv.macs)
    assert haar.bops == 0


def test_transform_of_two_levels_and_its_inverse() -> None:
    class RoundTrip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.forth, self.back = DWT2d(2, "db2", "periodization"), IDWT2d("db2", "periodization")

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.back(self.forth(x))
            return y

    forth, back = profile(RoundTrip(), (16, 16), channels=3).layers
    # 4 taps; per level 2 low and high row filters, then 4 column filters at half the width.
    first = 3 * (2 * 16 * 8 * 4 + 4 * 8 * 8 * 4)
    assert forth.macs == back.macs == first + first // 4


def test_transforms_of_pytorch_wavelets_cost_what_ours_do(wavelets: Any) -> None:
    class RoundTrip(nn.Module):
        def __init__(self, forth: nn.Module, back: nn.Module) -> None:
            super().__init__()
            self.forth, self.back = forth, back

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.back(self.forth(x))
            return y

    theirs = RoundTrip(
        wavelets.DWTForward(J=3, wave="db3", mode="symmetric"),
        wavelets.DWTInverse(wave="db3", mode="symmetric"),
    )
    ours = RoundTrip(DWT2d(3, "db3", "symmetric"), IDWT2d("db3", "symmetric"))
    costs = [profile(model, (21, 34), channels=2) for model in (theirs, ours)]
    assert [row.kind for row in costs[0].layers] == ["transform", "transform"]
    assert [row.macs for row in costs[0].layers] == [row.macs for row in costs[1].layers]
    assert costs[0].share("transform") == 1


def test_wtconv_is_one_row_with_convs_and_transforms() -> None:
    layer = WTConv2d(3, 3, kernel_size=5, wt_levels=2)
    row = only(profile(layer, (14, 10)))
    # Levels of 7x5 and, padded from 7x5 to 8x6, of 4x3; four bands, 2x2 Haar each way.
    positions = 7 * 5 + 4 * 3
    convs = 3 * 14 * 10 * 25 + 3 * 4 * positions * 25
    transforms = 2 * 3 * 4 * positions * 4
    assert (row.kind, row.macs, row.transform_macs) == ("wtconv", convs + transforms, transforms)
    assert row.params == 3 * 25 + 3 + 3 + 2 * (12 * 25 + 12)


@pytest.mark.parametrize(("ratio", "kept"), [(1.0, 64), (0.5, 32), (0.25, 16), (0.01, 1)])
def test_wcc_counts_the_coefficients_it_keeps(ratio: float, kept: int) -> None:
    layer = WaveletCompressedConv2d(
        4, 6, levels=2, ratio=ratio, weight_bits=8, activation_bits=4, bias=False
    )
    row = only(profile(layer, (8, 8), channels=4))
    # Levels of 4x4 and 2x2, 16 multiply-adds a position and channel for Haar.
    transforms = 16 * (4 + 6) * (16 + 4)
    assert (row.kind, row.macs, row.transform_macs) == ("wcc", kept * 24 + transforms, transforms)
    assert row.bops == kept * 24 * 8 * 4


def test_bits_come_from_the_quantizers_that_a_layer_reads() -> None:
    network = nn.Sequential(
        ActivationQuantizer(4),
        QuantizedConv2d(3, 5, 1, weight_bits=8),
        nn.GELU(),
        QuantizedConv2d(5, 2, 1, weight_bits=6),
    )
    first, gelu, second = profile(network, (4, 4)).layers
    assert (first.weight_bits, first.activation_bits) == (8, 4)
    assert (second.weight_bits, second.activation_bits) == (6, 32)
    assert gelu.name == "2"
    assert profile(network, (4, 4)).bops == 16 * (15 * 8 * 4 + 10 * 6 * 32)


def test_a_layer_called_twice_is_two_rows_and_its_weights_count_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(self.conv(x)[..., ::2, ::2])
            return y

    network = Twice()
    cost = profile(network, (8, 8))
    assert [(row.name, row.macs, row.peak_bytes) for row in cost.layers] == [
        ("conv", 9 * 64, 4 * 3 * 64),
        ("conv_2", 9 * 16, 4 * 3 * 16),
    ]
    assert cost.params == 12
    # A graph may call one module twice, too: it then is one row, and stays as it was.
    row = only(profile(fx.symbolic_trace(network), (8, 8)))
    assert (row.calls, row.macs, row.params) == (2, 9 * (64 + 16), 12)
    assert (row.output_bytes, row.peak_bytes) == (4 * 3 * 80, 4 * 3 * 64)


def test_a_layer_under_two_names_is_left_as_it_was() -> None:
    haar = DWT2d()
    root = nn.ModuleDict({"a": haar, "b": haar})
    graph = fx.Graph()
    x = graph.placeholder("x")
    low = graph.call_function(operator.getitem, (graph.call_module("a", (x,)), 0))
    graph.output(graph.call_function(operator.getitem, (graph.call_module("b", (low,)), 0)))
    network = fx.GraphModule(root, graph)
    image = torch.rand(1, 3, 8, 8)
    before = network(image)
    assert profile(network, (8, 8), channels=3).transform_macs == 3 * 4 * 4 * (16 + 4)
    assert torch.equal(network(image), before)
    assert haar.filters.device.type == "cpu"


@pytest.mark.parametrize("name", ["wavemix_cifar10_320_8", "wavemix_sisr_144_4", "wtconvnext_tiny"])
def test_released_networks(name: str) -> None:
    case = released()[name]
    with torch.device("meta"):
        model = build(identify(case["state_dict"]))
    cost = profile(model, (case["input"][2], case["input"][3]))
    assert cost.params == case["parameters"]
    # Giga-multiply-adds: counted by hand from the layers; WTConvNeXt-T as the paper states it.
    expected = {"wavemix_cifar10_320_8": 4.88, "wavemix_sisr_144_4": 45.75, "wtconvnext_tiny": 4.5}
    assert cost.macs / 1e9 == pytest.approx(expected[name], abs=0.01)
    assert sum(cost.share(row.kind) for row in {r.kind: r for r in cost.layers}.values()) + (
        cost.share("transform") if name.startswith("wt") else 0
    ) == pytest.approx(1)


def test_super_resolution_block_by_hand(small: nn.Module) -> None:
    cost = profile(small, (8, 8))
    conv1x1 = 64 * 16 * 4 + 16 * (16 * 32 + 32 * 16)
    transposed = 16 * 16 * 16 * 16
    haar = 64 * 4 * 4
    stem = 64 * 9 * (3 * 8 + 8 * 16)
    head = 64 * 16 * 8 * 16 + 256 * 8 * 3
    assert cost.macs == 2 * (conv1x1 + transposed + haar) + stem + head
    assert cost.transform_macs == 2 * haar
    assert cost.share("conv_transpose") == pytest.approx(
        (2 * transposed + 64 * 16 * 8 * 16) / cost.macs
    )
    assert cost.peak is not None
    assert (cost.peak.name, cost.peak.output_shape) == ("expand.0", (1, 8, 16, 16))


def test_dictionary_is_plain_json(small: nn.Module) -> None:
    cost = profile(small, (8, 8))
    told = json.loads(json.dumps(cost.to_dict()))
    assert told["macs"] == cost.macs
    assert [row["name"] for row in told["layers"]] == [row.name for row in cost.layers]


def test_the_network_is_left_as_it_was(small: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    profile(small, (8, 8))
    for name, tensor in small.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not any(module._forward_hooks for module in small.modules())


def test_code_that_looks_at_values_is_refused_with_its_line() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) if float(x.sum()) == 0 else x

    with pytest.raises(ExportError, match=r"at test_cost.py:\d+ \(return self.conv"):
        profile(Looks(), (4, 4))


def test_a_size_that_the_network_does_not_take_is_refused(small: nn.Module) -> None:
    with pytest.raises(InputError, match="2 divides"):
        profile(small, (7, 8))
    with pytest.raises(InputError, match=r"fails on an input of shape \(1, 3, 2, 2\)"):
        profile(nn.Conv2d(3, 4, 5), (2, 2))
