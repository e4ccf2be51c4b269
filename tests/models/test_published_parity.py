from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from waveedge.models import (
    WaveMix,
    WaveMixConfig,
    WTConvNeXt,
    WTConvNeXtConfig,
    build,
    check_input_size,
    identify,
)
from waveedge.models.families import FAMILIES, network
from waveedge.models.settings import configure

from .conftest import Golden, golden_names, golden_settings


def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


@pytest.mark.parametrize("name", golden_names())
def test_identified_network_computes_what_the_published_one_does(golden: Golden, name: str) -> None:
    state, x, y = golden(name)
    spec = identify(shapes(state))
    assert golden_settings(name).keys() <= set(spec.assumed), "what no key tells must be said"
    model = build(configure(spec, golden_settings(name)))
    model.load_state_dict(state, strict=True)
    check_input_size(model.spec, (x.shape[2], x.shape[3]))
    with torch.no_grad():
        torch.testing.assert_close(model(x), y, rtol=0, atol=1e-5 * max(1.0, float(y.abs().max())))


@pytest.mark.parametrize("name", [name for name in golden_names() if golden_settings(name)])
def test_the_published_default_alone_would_compute_something_else(
    golden: Golden, name: str
) -> None:
    state, x, y = golden(name)
    model = build(identify(shapes(state)))
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        z = model(x)
    assert z.shape != y.shape or (z - y).abs().max() > 1e-3


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
        {"head": "head", "levels": 4, "in_channels": 1},
    ],
)
def test_a_variant_without_golden_case_is_identified_from_its_own_shapes(
    fields: dict[str, Any],
) -> None:
    wanted = config(**fields)
    spec = identify(shapes(WaveMix(wanted).state_dict()))
    told = {k: v for k, v in spec.config.items() if k != "dropout"}
    assert told == {k: v for k, v in wanted.model_dump(mode="json").items() if k in told}


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("wavemixsr", {"depth": 3, "dim": 8, "ff_channels": 12, "mult": 2}),
        ("wavemixsr", {"depth": 2, "dim": 8, "ff_channels": 32, "version": 2, "stages": 3}),
        ("wavepaint", {"modules": 3, "depth": 1, "dim": 8, "ff_channels": 4, "mult": 3}),
        ("wavepaint", {"modules": 1, "depth": 2, "dim": 8, "ff_channels": 4, "reads_mask": False}),
        ("wavemixlite", {"depth": 3, "dim": 8, "num_classes": 100, "mult": 3}),
        ("wavemixlite", {"depth": 1, "dim": 8, "num_classes": 2, "dense": True}),
    ],
)
def test_the_other_families_are_identified_from_their_own_shapes(
    family: str, fields: dict[str, Any]
) -> None:
    wanted = FAMILIES[family].config.model_validate(fields)
    model = network(wanted).eval()
    spec = identify(shapes(model.state_dict()))
    told = {k: v for k, v in spec.config.items() if k not in spec.assumed}
    assert told == {k: v for k, v in wanted.model_dump(mode="json").items() if k in told}
    assert spec.family == family
    assert not set(fields) & set(spec.assumed)
    smallest = torch.zeros(1, spec.channels, wanted.minimum_size, 2 * wanted.minimum_size)
    assert model(smallest).shape[0] == 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_wavemixsr_enlarges_by_the_scale_that_is_set(golden: Golden, scale: int) -> None:
    state, _, _ = golden("wavemixsr")
    spec = configure(identify(shapes(state)), {"scale": str(scale)})
    model = build(spec)
    model.load_state_dict(state)
    side = 6 * spec.size_multiple
    assert model(torch.zeros(1, 3, side, side)).shape == (1, 3, scale * side, scale * side)


def test_wavemixsr_takes_pictures_as_y_cb_cr(golden: Golden) -> None:
    state, _, _ = golden("wavemixsr_v2")
    assert identify(shapes(state)).preprocessing.colour == "ycbcr"


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


@pytest.mark.parametrize(
    "options",
    [
        {"patch_size": 2},
        {"patch_size": 2, "conv_mlp": True, "layer_scale": False},
        {"conv_mlp": True, "grn": True, "layer_scale": False},
        {"stem": "overlap", "stem_width": 6, "conv_bias": False, "grn": True},
        {"stem": "overlap", "stem_width": 4, "head_norm": "map", "in_channels": 1},
        {"conv_bias": False, "head_hidden": 5, "patch_size": 3},
        {"head_norm": "map", "num_classes": 0, "in_channels": 1},
    ],
)
def test_wtconvnext_options_are_identified(options: dict[str, Any]) -> None:
    fields = {
        "depths": (1, 2, 1, 1),
        "dims": (4, 8, 12, 16),
        "num_classes": 3,
        "kernel_sizes": (7, 5, 3, 3),
        "wt_levels": (2, 1, 1, 1),
    }
    wanted = WTConvNeXtConfig(**{**fields, **options})
    model = WTConvNeXt(wanted).eval()
    assert identify(shapes(model.state_dict())).config == wanted.model_dump(mode="json")
    least = wanted.minimum_size
    image = torch.zeros(1, wanted.in_channels, least, least + 1)
    assert model(image).shape == (1, wanted.num_classes or 16)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("stem", [{"patch_size": 2}, {"stem": "overlap", "stem_width": 4}, {}])
def test_smallest_image_of_wtconvnext_leaves_one_position(
    output_stride: int, stem: dict[str, Any]
) -> None:
    wanted = WTConvNeXtConfig(
        depths=(1, 1, 1, 1),
        dims=(4, 4, 4, 4),
        wt_levels=(1, 1, 1, 1),
        num_classes=1,
        output_stride=output_stride,
        **stem,
    )
    model, least = WTConvNeXt(wanted).eval(), wanted.minimum_size
    features = model.stages(model.stem(torch.zeros(1, 3, least, 4 * least)))
    assert features.shape[2] == 1
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        model(torch.zeros(1, 3, least - 1, least))


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
