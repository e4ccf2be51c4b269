from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from waveedge.models import WaveMix, WaveMixConfig, WTConvNeXt, WTConvNeXtConfig, build, identify

from .conftest import Golden, golden_names


def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


@pytest.mark.parametrize("name", golden_names())
def test_identified_network_computes_what_the_published_one_does(golden: Golden, name: str) -> None:
    state, x, y = golden(name)
    model = build(identify(shapes(state)))
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(model(x), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", golden_names())
def test_keys_come_in_the_published_order(golden: Golden, name: str) -> None:
    state, _, _ = golden(name)
    assert list(build(identify(shapes(state))).state_dict()) == list(state)


def config(**fields: Any) -> WaveMixConfig:
    return WaveMixConfig(**{"depth": 1, "dim": 8, "ff_channels": 8, "num_classes": 4, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"head": "segment", "head_widths": (4, 2), "stem": "strided"},
        {"embedding": 12},
        {"levels": 2, "block": "shared", "stem": "strided", "stride": 1},
        {"levels": 3, "patch_size": 2, "in_channels": 1},
        {"head": "expand", "head_widths": (6,), "stem": "strided", "num_classes": 3, "stride": 1},
    ],
)
def test_a_variant_without_golden_case_is_identified_from_its_own_shapes(
    fields: dict[str, Any],
) -> None:
    wanted = config(**fields)
    spec = identify(shapes(WaveMix(wanted).state_dict()))
    told = {k: v for k, v in spec.config.items() if k != "dropout"}
    assert told == {k: v for k, v in wanted.model_dump(mode="json").items() if k in told}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_smallest_images_pass_where_size_multiple_says_so(size: int) -> None:
    wanted = config(levels=3, stem="strided", head="expand", head_widths=(4, 2))
    height, width = wanted.size_multiple * size, wanted.size_multiple
    assert WaveMix(wanted).eval()(torch.zeros(1, 3, height, width)).shape == (1, 4, height, width)


def test_a_size_between_the_multiples_breaks_the_published_blocks() -> None:
    wanted = config(levels=2, stem="strided", stride=1)
    assert wanted.size_multiple == 4
    with pytest.raises(RuntimeError):
        WaveMix(wanted).eval()(torch.zeros(1, 3, 6, 6))


@pytest.mark.parametrize("conv_mlp", [False, True])
@pytest.mark.parametrize("layer_scale", [False, True])
def test_wtconvnext_options_are_identified(conv_mlp: bool, layer_scale: bool) -> None:
    wanted = WTConvNeXtConfig(
        depths=(1, 2, 1, 1),
        dims=(4, 8, 12, 16),
        num_classes=3,
        kernel_sizes=(7, 5, 3, 3),
        wt_levels=(2, 1, 1, 1),
        patch_size=2,
        conv_mlp=conv_mlp,
        layer_scale=layer_scale,
    )
    model = WTConvNeXt(wanted).eval()
    assert identify(shapes(model.state_dict())).config == wanted.model_dump(mode="json")
    least = wanted.minimum_size
    assert model(torch.zeros(1, 3, least, least + 1)).shape == (1, 3)


def test_conv_mlp_equals_linear_layers() -> None:
    wanted = WTConvNeXtConfig(
        depths=(1, 1, 1, 1), dims=(4, 4, 4, 4), num_classes=3, wt_levels=(1, 1, 1, 1)
    )
    linear = WTConvNeXt(wanted).eval()
    conv = WTConvNeXt(wanted.model_copy(update={"conv_mlp": True})).eval()
    state = {
        name: tensor.reshape(conv.state_dict()[name].shape)
        for name, tensor in linear.state_dict().items()
    }
    conv.load_state_dict(state)
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(conv(x), linear(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"dim": 10},
        {"levels": 5},
        {"block": "pixelshuffle"},
        {"head": "expand"},
        {"head_widths": (4,)},
        {"depht": 3},
    ],
)
def test_a_configuration_that_makes_no_network_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**fields)
