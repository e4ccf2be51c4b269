from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pywt
import torch
from torch import nn

from waveedge.errors import RecipeError
from waveedge.nn import DWT2d, PublishedWCC, WaveletCompressedConv2d

FLOAT = {"weight_bits": 32, "activation_bits": 32}


def image_like(*shape: int) -> torch.Tensor:
    """Noise whose strength falls with frequency, as in photographs."""
    noise = torch.randn(shape)
    return noise + 4 * nn.functional.avg_pool2d(noise, 5, 1, 2)


@pytest.mark.parametrize("wavelet", ["db1", "db2", "sym4", "bior4.4"])
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_ratio_one_without_quantizers_is_the_convolution(wavelet: str, levels: int) -> None:
    conv = nn.Conv2d(6, 9, 1)
    layer = WaveletCompressedConv2d.from_conv(
        conv, levels=levels, ratio=1, wavelet=wavelet, **FLOAT
    )
    for size in ((16, 24), (17, 13), (1, 1), (33, 40), (5, 64)):
        x = torch.rand(2, 6, *size)
        torch.testing.assert_close(layer(x), conv(x), rtol=0, atol=1e-6)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("wavelet", ["db1", "db4"])
def test_ratio_one_is_exact_in_float64(wavelet: str, bias: bool) -> None:
    conv = nn.Conv2d(3, 5, 1, bias=bias)
    layer = WaveletCompressedConv2d.from_conv(conv, levels=3, ratio=1, wavelet=wavelet, **FLOAT)
    x = 10 * torch.randn(1, 3, 19, 31)
    torch.testing.assert_close(layer(x), conv(x), rtol=0, atol=1e-12 * 100)


def numpy_wcc(x: np.ndarray, weight: np.ndarray, levels: int, ratio: float) -> np.ndarray:
    """The definition, on one image (I, H, W), with PyWavelets."""
    trees = [pywt.wavedec2(channel, "db1", "periodization", levels) for channel in x]
    rows = [pywt.ravel_coeffs(tree) for tree in trees]
    coefficients = np.stack([row for row, _, _ in rows])
    energy = np.square(coefficients).sum(axis=0)
    keep = np.zeros(energy.size, dtype=bool)
    keep[np.argsort(energy)[::-1][: int(energy.size * ratio)]] = True
    convolved = weight @ (coefficients * keep)
    _, slices, shapes = rows[0]
    trees = [pywt.unravel_coeffs(row, slices, shapes, "wavedec2") for row in convolved]
    images = [pywt.waverec2(tree, "db1", "periodization") for tree in trees]
    return np.stack(images)[:, : x.shape[1], : x.shape[2]]


@pytest.mark.parametrize("size", [(16, 24), (17, 23), (28, 14)])
@pytest.mark.parametrize(("levels", "ratio"), [(1, 0.5), (2, 0.25), (3, 0.5), (3, 0.125)])
def test_equals_the_definition_in_numpy(size: tuple[int, int], levels: int, ratio: float) -> None:
    layer = WaveletCompressedConv2d(5, 7, levels=levels, ratio=ratio, **FLOAT)
    x = image_like(2, 5, *size)
    weight = layer.weight.detach().numpy()[:, :, 0, 0]
    bias = layer.bias.detach().numpy()[:, None, None]
    expected = [numpy_wcc(image, weight, levels, ratio) + bias for image in x.numpy()]
    np.testing.assert_allclose(layer(x).detach(), np.stack(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "levels", "ratio", "k"),
    [
        ((16, 24), 3, 0.5, 192),
        ((16, 24), 3, 0.25, 96),
        ((17, 13), 1, 0.5, (4 * 9 * 7) // 2),
        ((17, 13), 3, 0.5, (3 * 9 * 7 + 3 * 5 * 4 + 4 * 3 * 2) // 2),
        ((8, 8), 3, 0.001, 1),
        ((8, 8), 3, 1, 64),
    ],
)
def test_number_of_positions_kept(size: tuple[int, int], levels: int, ratio: float, k: int) -> None:
    layer = WaveletCompressedConv2d(4, 4, levels=levels, ratio=ratio)
    positions = layer.selected(torch.randn(3, 4, *size))
    assert layer.kept(*size) == k
    assert positions.shape == (3, k)
    assert all(len(set(image.tolist())) == k for image in positions)


def test_strongest_positions_are_kept() -> None:
    layer = WaveletCompressedConv2d(4, 6, levels=2, ratio=0.25, **FLOAT)
    x = image_like(1, 4, 16, 16)
    low, (fine, coarse) = DWT2d(2)(x)
    flat = torch.cat([low.flatten(2), coarse.flatten(2), fine.flatten(2)], dim=2)
    energy = flat.square().sum(dim=1)[0]
    kept = torch.zeros(256, dtype=torch.bool)
    kept[layer.selected(x)[0]] = True
    assert energy[kept].min() > energy[~kept].max()

    low, (fine, coarse) = DWT2d(2)(layer(x) - layer.bias.reshape(1, -1, 1, 1))
    flat = torch.cat([low.flatten(2), coarse.flatten(2), fine.flatten(2)], dim=2)
    assert flat[:, :, ~kept].abs().max() < 1e-5, "nothing comes out where nothing was kept"
    assert flat[:, :, kept].abs().amin(dim=2).max() > 0


def test_bias_is_added_to_the_image() -> None:
    layer = WaveletCompressedConv2d(4, 6, ratio=0.25)
    y = layer(torch.zeros(1, 4, 13, 10))
    assert torch.equal(y, layer.bias.reshape(1, -1, 1, 1).expand_as(y))


def test_more_positions_are_closer_to_the_convolution() -> None:
    conv, x = nn.Conv2d(8, 8, 1), image_like(1, 8, 32, 32)
    errors = [
        (WaveletCompressedConv2d.from_conv(conv, ratio=ratio, **FLOAT)(x) - conv(x)).square().sum()
        for ratio in (0.05, 0.125, 0.25, 0.5, 0.9)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("tiles", [2, 4, 6])
def test_tiles_keep_the_same_share_and_nearly_the_same_positions(tiles: int) -> None:
    conv, x = nn.Conv2d(8, 8, 1), image_like(2, 8, 24, 40)
    whole = WaveletCompressedConv2d.from_conv(conv, ratio=0.25, **FLOAT)
    tiled = WaveletCompressedConv2d.from_conv(conv, ratio=0.25, tiles=tiles, **FLOAT)
    assert tiled.kept(24, 40) == whole.kept(24, 40) == 240
    agreement = [
        len(set(a.tolist()) & set(b.tolist())) / 240
        for a, b in zip(whole.selected(x), tiled.selected(x), strict=True)
    ]
    assert min(agreement) > 0.9
    per_tile = tiled.selected(x)[0] % tiles
    assert per_tile.bincount().tolist() == [240 // tiles] * tiles


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (250, 333), (512, 1024)])
@pytest.mark.parametrize("ratio", [0.5, 0.125])
def test_tiles_for_stays_below_the_limit(size: tuple[int, int], ratio: float) -> None:
    layer = WaveletCompressedConv2d(1, 1, ratio=ratio)
    tiles = layer.tiles_for(*size)
    positions = layer.positions(*size)
    assert positions == pytest.approx(size[0] * size[1], rel=0.02)
    layer.tiles = tiles
    assert layer.kept(*size) // tiles <= 3840
    assert layer.kept(*size) == pytest.approx(positions * ratio, abs=2 * tiles)
    layer.tiles = tiles - 1
    assert tiles == 1 or layer.kept(*size) // layer.tiles > 3840


def test_any_number_of_tiles_fits_any_size() -> None:
    layer = WaveletCompressedConv2d(2, 3, ratio=0.5, tiles=8, **FLOAT)
    x = image_like(2, 2, 13, 18)
    assert layer.positions(13, 18) % 8 > 0
    assert layer(x).shape == (2, 3, 13, 18)
    assert layer.selected(x).shape == (2, layer.kept(13, 18))
    layer.ratio = 1.0
    expected = nn.functional.conv2d(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


def test_quantizers_act_on_weight_and_kept_coefficients() -> None:
    layer = WaveletCompressedConv2d(4, 6, ratio=0.25, weight_bits=4, activation_bits=4)
    layer.activation_quantizer.scale.data.fill_(0.5)
    seen: list[torch.Tensor] = []
    layer.activation_quantizer.register_forward_hook(lambda *call: seen.append(call[1][0]))
    x = image_like(1, 4, 16, 16)
    y = layer(x)
    assert seen[0].shape == (1, 4, 64, 1)

    low, details = layer.transform(x)
    low = torch.clamp(torch.round(low / 0.5), -8, 7) * 0.5
    details = [torch.clamp(torch.round(detail / 0.5), -8, 7) * 0.5 for detail in details]
    plain = WaveletCompressedConv2d(4, 6, ratio=1, **FLOAT)
    plain.weight.data = layer.weight_quantizer(layer.weight).detach()
    plain.bias.data = layer.bias.detach()
    dense = plain(layer.inverse((low, details)))
    everything = WaveletCompressedConv2d(4, 6, ratio=1, weight_bits=4, activation_bits=4)
    everything.load_state_dict(layer.state_dict())
    torch.testing.assert_close(everything(x), dense, rtol=0, atol=1e-5)
    assert not torch.allclose(y, dense, atol=1e-2), "a quarter of the positions is not all"


def test_state_dict_is_that_of_a_convolution_and_scales() -> None:
    layer = WaveletCompressedConv2d(4, 6)
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == {
        "weight": (6, 4, 1, 1),
        "bias": (6,),
        "weight_quantizer.scale": (6,),
        "activation_quantizer.scale": (),
    }
    WaveletCompressedConv2d(4, 6, **FLOAT).load_state_dict(nn.Conv2d(4, 6, 1).state_dict())


def test_everything_learns() -> None:
    layer = WaveletCompressedConv2d(4, 6, levels=2, ratio=0.25, activation_bits=4)
    layer.activation_quantizer.scale.data.fill_(0.3)
    x = torch.randn(1, 4, 9, 14, requires_grad=True)
    layer(x).square().sum().backward()
    for name, parameter in [("x", x), *layer.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.usefixtures("double")
def test_gradient_of_the_input_is_exact_while_the_selection_holds() -> None:
    layer = WaveletCompressedConv2d(3, 4, levels=2, ratio=0.5, **FLOAT)
    x = image_like(1, 3, 6, 8).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,), eps=1e-8, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0}, "ratio is 0"),
        ({"ratio": 1.5}, "ratio is 1.5"),
        ({"ratio": float("nan")}, "ratio is nan"),
        ({"levels": 0}, "levels is 0"),
        ({"tiles": 0}, "0 tiles"),
        ({"weight_bits": 9}, "cannot quantize to 9 bits"),
        ({"activation_bits": 1}, "cannot quantize to 1 bits"),
        ({"wavelet": "cake"}, "'cake' is not a discrete wavelet"),
    ],
)
def test_wrong_options_of_wcc_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        WaveletCompressedConv2d(2, 2, **options)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 1, stride=2),
        nn.Conv2d(4, 4, 1, padding=1),
        nn.Conv2d(4, 4, 1, groups=2),
    ],
)
def test_only_plain_1x1_convolutions_are_replaced(conv: nn.Conv2d) -> None:
    with pytest.raises(RecipeError, match="cannot replace"):
        WaveletCompressedConv2d.from_conv(conv)


@pytest.mark.parametrize("bias", [True, False])
def test_turns_back_into_the_convolution(bias: bool) -> None:
    conv, x = nn.Conv2d(3, 4, 1, bias=bias).eval(), torch.randn(1, 3, 5, 5)
    back = WaveletCompressedConv2d.from_conv(conv, ratio=0.1, weight_bits=2).to_conv()
    assert torch.equal(back(x), conv(x))
    assert not back.training


def test_odd_sizes_do_not_tie() -> None:
    layer = WaveletCompressedConv2d(8, 2, levels=3)
    for size in ((17, 23), (9, 31), (13, 13)):
        coefficients = layer._tiled(*layer._transform(image_like(20, 8, *size)))
        energy = coefficients.square().sum(dim=1).flatten(1).sort(dim=1).values
        matters = energy[:, :-1] > 1e-9
        gaps = energy.diff(dim=1)[matters] / energy[:, 1:][matters]
        assert 0.7 < matters.float().mean() < 1, "what lies in repeated rows alone is zero"
        assert (gaps < 1e-7).float().mean() < 1e-3, size


def test_compressing_a_convolution_leaves_it_alone() -> None:
    conv = nn.Conv2d(3, 4, 1).double().eval()
    before = conv.weight.clone()
    layer = WaveletCompressedConv2d.from_conv(conv)
    assert not layer.training
    assert layer.weight.dtype == torch.float64
    layer.weight.data.zero_()
    assert torch.equal(conv.weight, before)


PUBLISHED = [
    ("wcc_l3_r50_w8a8", {"levels": 3, "ratio": 0.5, "weight_bits": 8, "bias": True}),
    ("wcc_l2_r25_w4a8", {"levels": 2, "ratio": 0.25, "weight_bits": 4, "bias": False}),
]


@pytest.mark.parametrize(("name", "options"), PUBLISHED)
def test_reproduces_the_published_wcc(golden: Any, name: str, options: dict[str, Any]) -> None:
    state, x, y = golden(name)
    layer = PublishedWCC(x.shape[1], y.shape[1], **options)
    layer.load_state_dict(state, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-5)


def test_published_wcc_pads_any_size_and_learns(golden: Any) -> None:
    name, options = PUBLISHED[0]
    state, x, _ = golden(name)
    layer = PublishedWCC(8, 12, **options)
    layer.load_state_dict(state)
    x = x[..., :13, :18].clone().requires_grad_()
    y = layer(x)
    assert y.shape == (2, 12, 13, 18)
    y.square().sum().backward()
    learnt = {name for name, parameter in layer.named_parameters() if parameter.grad is not None}
    assert learnt == {"weight", "bias", "weight_quant.w_alpha", "act_quant.a_alpha"}


def test_published_wcc_is_no_convolution_even_at_ratio_one() -> None:
    layer = PublishedWCC(3, 2, bias=True, ratio=1, weight_bits=16, activation_bits=16)
    normal = (layer.weight - layer.weight.mean()) / layer.weight.std()
    x = torch.rand(1, 3, 16, 16)
    without_bias = nn.functional.conv2d(x, normal.unsqueeze(-1))
    biased = layer(x) - without_bias
    assert biased.std() > 0.1 * layer.bias.abs().max(), "its bias is not constant over the image"
    layer.bias.data.zero_()
    torch.testing.assert_close(layer(x), without_bias, rtol=0, atol=2e-3)


@pytest.mark.parametrize("options", [{"levels": 0}, {"ratio": 0}, {"weight_bits": 1}])
def test_wrong_options_of_published_wcc_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="PublishedWCC"):
        PublishedWCC(2, 2, **options)
