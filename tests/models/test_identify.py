from __future__ import annotations

import pytest
import torch

from waveedge.errors import CheckpointError, InputError
from waveedge.models import build, check_input_size, identify

from .conftest import Golden, released


@pytest.mark.parametrize("name", list(released()))
def test_every_released_network_is_identified(name: str) -> None:
    case = released()[name]
    spec = identify(case["state_dict"])
    with torch.device("meta"):
        model, published = build(spec), build(spec)
        state = {key: torch.empty(shape) for key, shape in case["state_dict"].items()}
    model.load_state_dict(state, strict=True, assign=True)
    trained = sum(p.numel() for p in published.parameters() if p.requires_grad)
    assert trained == case["parameters"]
    check_input_size(spec, (case["input"][2], case["input"][3]))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("wavemix_imagenet_192_16", {"depth": 16, "dim": 192, "levels": 3, "stem": "patch"}),
        ("wavemix_cifar10_320_8", {"depth": 8, "levels": 1, "stem": "strided", "stride": 1}),
        ("wavemix_cityscapes_83.04", {"head": "dense-pool", "head_widths": [128, 64]}),
        ("wavemix_seg_256_16", {"head": "expand", "levels": 4, "stride": 2, "num_classes": 20}),
        ("wavemix_sisr_144_4", {"head": "expand", "head_widths": [72], "stride": 1}),
        ("wtconvnext_small", {"depths": [3, 3, 27, 3], "wt_levels": [5, 4, 3, 2]}),
        ("wtconvnext_base", {"dims": [128, 256, 512, 1024], "layer_scale": True}),
    ],
)
def test_configuration_is_the_released_one(name: str, told: dict[str, object]) -> None:
    spec = identify(released()[name]["state_dict"])
    assert {key: spec.config[key] for key in told} == told


@pytest.mark.parametrize(
    ("name", "task", "multiple", "assumed"),
    [
        ("wavemix_imagenet_192_16", "classification", 32, {"dropout"}),
        ("wavemix_cifar10_320_8", "classification", 2, {"dropout", "stride"}),
        ("wavemix_seg_256_16", "segmentation", 64, {"dropout", "stride"}),
        ("wavemix_cityscapes_83.04", "segmentation", 32, {"dropout"}),
        ("wavemix_sisr_144_4", "super-resolution", 2, {"dropout", "stride"}),
        ("wtconvnext_tiny", "classification", 1, {"norm_eps", "output_stride"}),
    ],
)
def test_task_size_multiple_and_what_is_assumed(
    name: str, task: str, multiple: int, assumed: set[str]
) -> None:
    spec = identify(released()[name]["state_dict"])
    assert (spec.task, spec.size_multiple, set(spec.assumed)) == (task, multiple, assumed)
    check_input_size(spec, spec.input_size)


# One stage stands for four, one of two modules for both.
_LIKE_ANOTHER = ("stages.0", "stages.1", "stages.2", "wavemodules.0", "SR_blocks.0")


def sisr(golden: Golden) -> dict[str, tuple[int, ...]]:
    state, _, _ = golden("wavemix_sisr_l1")
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize(
    "case",
    [
        "wavemix_sisr_l1",
        "wavemix_seg_l4",
        "wavemix_timm_head_strided",
        "wtconvnext_micro",
        "wavemixsr",
        "wavemixsr_v2",
        "wavepaint",
        "wavemixlite_dodoseung_seg",
    ],
)
def test_any_missing_key_is_named(golden: Golden, case: str) -> None:
    state, _, _ = golden(case)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for missing in shapes:
        if missing.startswith(_LIKE_ANOTHER):
            continue
        rest = {name: shape for name, shape in shapes.items() if name != missing}
        if missing.endswith("num_batches_tracked"):  # older versions of torch wrote none
            assert identify(rest) == identify(shapes)
            continue
        with pytest.raises(CheckpointError, match="1 key is missing") as caught:
            identify(rest)
        assert missing in caught.value.what


@pytest.mark.parametrize(
    "case",
    [
        "wavemix_seg_l4",
        "wavemix_v1_token_mixer",
        "wtconvnext_micro",
        "wavemixsr",
        "wavemixsr_v2",
        "wavepaint_mask",
        "wavemixlite_dodoseung_cls",
    ],
)
def test_any_misshaped_key_is_named_with_both_shapes(golden: Golden, case: str) -> None:
    state, _, _ = golden(case)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    # These alone tell how many channels the image has: changed, it is another network.
    alone = {"conv.0.weight": 1, "stem.0.weight": 1}
    for name, shape in shapes.items():
        if len(shape) < 2 or name.startswith(_LIKE_ANOTHER):
            continue
        for axis in range(len(shape)):
            if alone.get(name) == axis:
                continue
            wrong = tuple(extent + (i == axis) for i, extent in enumerate(shape))
            with pytest.raises(CheckpointError) as caught:
                identify({**shapes, name: wrong})
            text = "x".join(map(str, shape)), "x".join(map(str, wrong))
            assert f"{name} (expected {text[0]}, found {text[1]})" in caught.value.what


def test_an_extra_key_is_named(golden: Golden) -> None:
    with pytest.raises(CheckpointError, match=r"1 key is extra: layers\.1\.attention\.weight"):
        identify({**sisr(golden), "layers.1.attention.weight": (16, 16)})


def test_message_names_the_family_and_what_was_read(golden: Golden) -> None:
    with pytest.raises(CheckpointError, match=r"nearest to WaveMix \(block ladder, levels 1"):
        identify({**sisr(golden), "more": (1,)})


def test_an_unknown_network_is_told_about_arch() -> None:
    with pytest.raises(CheckpointError, match=r"nearest family") as caught:
        identify({"layer1.0.conv1.weight": (64, 3, 3, 3), "fc.weight": (10, 64)})
    assert "--arch" in caught.value.hint


def test_plain_convnext_is_not_taken_for_wtconvnext(golden: Golden) -> None:
    state, _, _ = golden("wtconvnext_micro")
    shapes = {
        name.replace("conv_dw.base_conv.", "conv_dw."): tuple(tensor.shape)
        for name, tensor in state.items()
        if "wavelet_" not in name and "wt_filter" not in name and "base_scale" not in name
    }
    with pytest.raises(CheckpointError, match=r"nearest to WTConvNeXt .* missing: .*conv_dw"):
        identify(shapes)


@pytest.mark.parametrize("case", ["wcc_l3_r50_w8a8", "wtconv_k5_l2"])
def test_single_layers_are_recognised_as_such(golden: Golden, case: str) -> None:
    state, _, _ = golden(case)
    with pytest.raises(CheckpointError, match=r"WCC layers|one WTConv2d layer"):
        identify({name: tuple(tensor.shape) for name, tensor in state.items()})


def test_input_size_that_the_levels_do_not_divide_is_refused_with_a_near_one() -> None:
    spec = identify(released()["wavemix_seg_256_16"]["state_dict"])
    with pytest.raises(InputError, match="64 divides") as caught:
        check_input_size(spec, (250, 500))
    assert "256x512" in caught.value.hint


def test_input_size_below_the_smallest_is_refused() -> None:
    spec = identify(released()["wtconvnext_tiny"]["state_dict"])
    check_input_size(spec, (33, 47))
    with pytest.raises(InputError, match="too small"):
        check_input_size(spec, (31, 64))
