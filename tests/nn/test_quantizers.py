from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from waveedge.errors import RecipeError
from waveedge.nn import (
    ActivationQuantizer,
    QuantizedConv2d,
    QuantizedConvTranspose2d,
    QuantizedLinear,
    WeightQuantizer,
    activation_quantizer,
    weight_quantizer,
)


def with_scale(quantizer: ActivationQuantizer, scale: float) -> ActivationQuantizer:
    quantizer.scale.data.fill_(scale)
    return quantizer


GRIDS = [
    (bits, zero) for bits in range(2, 9) for zero in {0, 1, -(2 ** (bits - 1)), 2 ** (bits - 2)}
]


@pytest.mark.parametrize(("bits", "zero_point"), GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_go_to_the_nearest_point_of_the_grid(
    bits: int, zero_point: int, dtype: torch.dtype
) -> None:
    quantizer = with_scale(ActivationQuantizer(bits, zero_point=zero_point), 0.37)
    x = 40 * torch.randn(4000, dtype=dtype)
    y = quantizer(x)
    step = quantizer.scale.detach().to(dtype)
    grid = step * torch.arange(quantizer.qmin, quantizer.qmax + 1, dtype=dtype)
    assert y.dtype == dtype
    assert torch.isin(y, grid).all(), "membership is exact, to the last bit"
    nearest = (x[:, None] - grid).abs().amin(dim=1)
    torch.testing.assert_close((x - y).abs(), nearest)
    assert torch.equal(quantizer(y), y), "a point of the grid stays"


@pytest.mark.parametrize(
    ("bits", "zero_point", "limits"),
    [
        (8, 0, (-128, 127)),
        (8, -128, (0, 255)),
        (8, 127, (-255, 0)),
        (8, -120, (-8, 247)),
        (4, 0, (-8, 7)),
        (4, -8, (0, 15)),
        (4, -7, (-1, 14)),
        (2, 0, (-2, 1)),
        (2, -2, (0, 3)),
    ],
)
def test_limits_of_activation_grids(bits: int, zero_point: int, limits: tuple[int, int]) -> None:
    quantizer = ActivationQuantizer(bits, zero_point=zero_point)
    assert (quantizer.qmin, quantizer.qmax) == limits


def test_limits_of_weight_grids_are_symmetric() -> None:
    assert [WeightQuantizer(bits, 1).qmax for bits in range(2, 9)] == [1, 3, 7, 15, 31, 63, 127]
    assert WeightQuantizer(8, 1).qmin == -127


def test_halves_round_to_even() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    expected = torch.tensor([-2.0, -2.0, 0.0, 0.0, 2.0, 2.0])
    assert torch.equal(ActivationQuantizer(4)(x), expected)


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 16, 32, True, 4.0, None])
def test_other_bits_are_refused(bits: Any) -> None:
    for make in (ActivationQuantizer, lambda bits: WeightQuantizer(bits, 3)):
        with pytest.raises(RecipeError, match="cannot quantize") as caught:
            make(bits)
        assert "2 to 8 bits" in caught.value.hint


@pytest.mark.parametrize(("bits", "zero_point"), [(8, 128), (8, -129), (4, 8), (4, -9), (2, 2)])
def test_a_zero_point_is_an_integer_of_so_many_bits(bits: int, zero_point: int) -> None:
    with pytest.raises(RecipeError, match=f"{zero_point} is not an integer of {bits} bits"):
        ActivationQuantizer(bits, zero_point=zero_point)
    quantizer = ActivationQuantizer(bits, zero_point=1)
    with pytest.raises(RecipeError, match="as a zero point must be"):
        quantizer.zero_point = zero_point
    assert quantizer.zero_point == 1


@pytest.mark.parametrize("zero_point", [True, 1.0, None, "0"])
def test_a_zero_point_is_a_number(zero_point: Any) -> None:
    with pytest.raises(RecipeError, match="a zero point is an integer"):
        ActivationQuantizer(8, zero_point=zero_point)


def test_32_bits_mean_no_quantizer() -> None:
    assert isinstance(activation_quantizer(32), nn.Identity)
    assert isinstance(weight_quantizer(32, 4), nn.Identity)
    assert isinstance(activation_quantizer(8), ActivationQuantizer)
    assert isinstance(weight_quantizer(8, 4), WeightQuantizer)


def test_disabled_quantizer_is_the_identity() -> None:
    quantizer = ActivationQuantizer(2)
    quantizer.enabled = False
    x = torch.randn(8)
    assert quantizer(x) is x


@pytest.mark.parametrize(
    ("bits", "zero_point"), [(2, 0), (4, 0), (4, -8), (4, 7), (8, 0), (8, -100), (8, 127)]
)
def test_gradients_are_those_of_lsq(bits: int, zero_point: int) -> None:
    quantizer = with_scale(ActivationQuantizer(bits, zero_point=zero_point), 0.2).double()
    x = (5 * torch.randn(500, dtype=torch.float64)).requires_grad_()
    upstream = torch.randn(500, dtype=torch.float64)
    (quantizer(x) * upstream).sum().backward()

    v = x.detach() / quantizer.scale.detach()
    inside = (v >= quantizer.qmin) & (v <= quantizer.qmax)
    by_scale = torch.where(inside, v.round() - v, v.clamp(quantizer.qmin, quantizer.qmax))
    largest = max(quantizer.qmax, -quantizer.qmin - 1)
    expected = (upstream * by_scale).sum() / (500 * largest) ** 0.5
    torch.testing.assert_close(quantizer.scale.grad, expected)
    torch.testing.assert_close(x.grad, upstream * inside)


def test_scale_is_learnable_and_survives_a_step_below_zero() -> None:
    x = torch.randn(2000)
    quantizer = with_scale(ActivationQuantizer(4), 3.0)
    optimizer = torch.optim.SGD([quantizer.scale], lr=1.0)
    before = (quantizer(x) - x).square().mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        ((quantizer(x) - x).square().mean() * 10).backward()
        optimizer.step()
    after = (quantizer(x) - x).square().mean().item()
    assert after < before / 20
    assert 0.2 < quantizer.scale.item() < 0.5, "the best step for 4 bits of a normal is about 0.34"
    with_scale(quantizer, -1.0)
    assert quantizer(x).isfinite().all()


@pytest.mark.parametrize("axis", [0, 1])
def test_weight_scales_are_per_channel(axis: int) -> None:
    weight = torch.randn(6, 5, 3, 3)
    weight.select(axis, 2).mul_(100)
    quantizer = WeightQuantizer(8, weight.shape[axis], axis)
    quantizer.fit(weight)
    limits = weight.abs().movedim(axis, 0).flatten(1).amax(dim=1)
    torch.testing.assert_close(quantizer.scale.detach() * 127, limits)
    error = (quantizer(weight) - weight).abs().movedim(axis, 0).flatten(1).amax(dim=1)
    assert (error <= quantizer.scale * 0.5001).all()


@pytest.mark.parametrize("bits", range(2, 9))
def test_integers_times_scale_are_the_quantized_weight(bits: int) -> None:
    weight = torch.randn(7, 4, 1, 1)
    quantizer = WeightQuantizer(bits, 7)
    quantizer.fit(weight)
    integers = quantizer.integers(weight)
    assert integers.dtype == torch.int8
    assert integers.shape == weight.shape
    assert quantizer.qmin <= integers.min() <= integers.max() <= quantizer.qmax
    assert torch.equal(integers * quantizer.scale.reshape(-1, 1, 1, 1), quantizer(weight))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_low_bit_scales_have_less_error_than_the_largest_weight_gives(bits: int) -> None:
    weight = torch.randn(8, 64)
    quantizer = WeightQuantizer(bits, 8)
    quantizer.fit(weight)
    fitted = (quantizer(weight) - weight).square().sum(dim=1)
    quantizer.scale.data = weight.abs().amax(dim=1) / quantizer.qmax
    largest = (quantizer(weight) - weight).square().sum(dim=1)
    assert (fitted <= largest).all()
    assert fitted.sum() < 0.9 * largest.sum()


@pytest.mark.parametrize("bits", [2, 8])
def test_a_channel_of_zeros_stays_zero(bits: int) -> None:
    weight = torch.randn(3, 4)
    weight[1] = 0
    quantizer = WeightQuantizer(bits, 3)
    quantizer.fit(weight)
    assert (quantizer.scale > 0).all()
    assert torch.equal(quantizer(weight)[1], torch.zeros(4))


def test_export_meets_one_operator_with_the_same_numbers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quantizer = with_scale(ActivationQuantizer(4, zero_point=-8), 0.21)
            self.conv = QuantizedConv2d.from_float(nn.Conv2d(3, 5, 3), 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.quantizer(x))

    net, x = Net().eval(), torch.randn(2, 3, 9, 9)
    program = torch.export.export(net, (x,)).run_decompositions()
    calls = [node for node in program.graph.nodes if "fake_quantize" in str(node.target)]
    assert [call.target for call in calls] == [torch.ops.waveedge.fake_quantize.default] * 2
    limits = {tuple(call.args[2:]) for call in calls}
    assert limits == {(0, 15, -1), (-7, 7, 0)}
    assert torch.equal(program.module()(x), net(x))


LAYERS = [
    (QuantizedConv2d, nn.Conv2d(6, 8, 3, 2, "valid", groups=2), (2, 6, 9, 9)),
    (QuantizedConv2d, nn.Conv2d(6, 8, 3, padding="same", padding_mode="reflect"), (2, 6, 9, 9)),
    (QuantizedConv2d, nn.Conv2d(6, 8, 1, bias=False), (2, 6, 9, 9)),
    (QuantizedLinear, nn.Linear(6, 8), (2, 3, 6)),
    (QuantizedConvTranspose2d, nn.ConvTranspose2d(6, 8, 4, 2, 1, groups=2), (2, 6, 5, 5)),
    (QuantizedConvTranspose2d, nn.ConvTranspose2d(6, 8, 3, 2, 1, 1, bias=False), (2, 6, 5, 5)),
]


@pytest.mark.parametrize(("kind", "layer", "shape"), LAYERS)
def test_quantized_layer_is_the_float_layer_with_another_weight(
    kind: Any, layer: Any, shape: tuple[int, ...]
) -> None:
    before = copy.deepcopy(layer.state_dict())
    x = torch.randn(shape)
    quantized = kind.from_float(layer.eval(), 4)
    assert not quantized.training
    assert set(quantized.state_dict()) == {*layer.state_dict(), "weight_quantizer.scale"}

    rounded = copy.deepcopy(layer)
    rounded.weight.data.copy_(quantized.weight_quantizer(layer.weight))
    assert not torch.equal(rounded.weight, layer.weight)
    torch.testing.assert_close(quantized(x), rounded(x))
    torch.testing.assert_close(kind.from_float(layer, 32)(x), layer(x))

    quantized.weight.data.zero_()
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), "the float layer is not touched"


def test_quantized_transposed_convolution_takes_an_output_size() -> None:
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    x = torch.randn(1, 2, 5, 5)
    quantized = QuantizedConvTranspose2d.from_float(layer, 8)
    assert quantized(x, [10, 10]).shape == layer(x, [10, 10]).shape == (1, 3, 10, 10)


def test_quantized_layer_round_trips_through_a_state_dict() -> None:
    quantized = QuantizedConv2d.from_float(nn.Conv2d(3, 4, 1), 3)
    file = io.BytesIO()
    torch.save(quantized.state_dict(), file)
    file.seek(0)
    fresh = QuantizedConv2d(3, 4, 1, weight_bits=3)
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(fresh(x), quantized(x))


def test_quantized_layers_train() -> None:
    layer = QuantizedConv2d.from_float(nn.Conv2d(3, 4, 1), 4)
    layer(torch.randn(2, 3, 5, 5)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
