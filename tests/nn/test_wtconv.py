from __future__ import annotations

from typing import Any

import pytest
import torch

from waveedge.errors import RecipeError
from waveedge.nn import WTConv2d
from waveedge.nn.kernels import analyse, synthesise, wavelet_kernels


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wtconv_k5_l2", {"kernel_size": 5, "wt_levels": 2}),
        ("wtconv_k3_l3_odd", {"kernel_size": 3, "wt_levels": 3}),
        ("wtconv_k5_l1_stride2", {"kernel_size": 5, "wt_levels": 1, "stride": 2}),
    ],
)
def test_reproduces_the_published_layer(golden: Any, name: str, options: dict[str, int]) -> None:
    state, x, y = golden(name)
    layer = WTConv2d(x.shape[1], y.shape[1], **options)
    layer.load_state_dict(state, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-5)


def test_one_level_is_convolutions_of_image_and_bands(reference: Any) -> None:
    layer = WTConv2d(3, 3, 3)
    x = torch.randn(2, 3, 12, 16)
    low, (detail,) = reference.DWTForward(1, "db1")(x)
    bands = torch.cat([low.unsqueeze(2), detail], dim=2).flatten(1, 2)
    bands = layer.wavelet_scale[0].weight * layer.wavelet_convs[0](bands)
    bands = bands.reshape(2, 3, 4, 6, 8)
    expected = reference.DWTInverse("db1")((bands[:, :, 0], [bands[:, :, 1:]]))
    expected = expected + layer.base_scale.weight * layer.base_conv(x)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wavelet", ["db1", "db2", "sym4", "bior2.2"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (15, 22), (7, 9), (1, 5)])
def test_any_size_and_stride(wavelet: str, stride: int, size: tuple[int, int]) -> None:
    layer = WTConv2d(4, 4, 3, stride, bias=False, wt_levels=3, wt_type=wavelet)
    x = torch.randn(2, 4, *size)
    y = layer(x)
    assert y.shape == (2, 4, -(-size[0] // stride), -(-size[1] // stride))
    torch.testing.assert_close(layer(3 * x), 3 * y, rtol=1e-4, atol=1e-5)
    layer.stride = 1
    torch.testing.assert_close(layer(x)[..., ::stride, ::stride], y)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("wavelet", ["db1", "db2", "sym4", "bior2.2"])
def test_kernels_invert_each_other_inside_the_image(wavelet: str) -> None:
    forward, backward = wavelet_kernels(wavelet, 2)
    x = torch.randn(1, 2, 32, 40)
    border = forward.shape[-1] - 2
    rebuilt = synthesise(analyse(x, forward), backward)
    inside = (..., slice(border, 32 - border), slice(border, 40 - border))
    torch.testing.assert_close(rebuilt[inside], x[inside], rtol=0, atol=1e-10)


def test_everything_but_the_wavelet_learns() -> None:
    layer = WTConv2d(4, 4, 3, wt_levels=2)
    layer(torch.randn(1, 4, 9, 9)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert (parameter.grad is None) == ("wt_filter" in name), name


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((4, 8), {}, "from 4 to 8 channels"),
        ((4, 4), {"wt_levels": 0}, "wt_levels=0"),
        ((4, 4), {"stride": 0}, "stride=0"),
        ((4, 4), {"wt_type": "none"}, "'none' is not a discrete wavelet"),
    ],
)
def test_wrong_options_of_wtconv_are_refused(
    arguments: tuple[int, int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        WTConv2d(*arguments, **options)
