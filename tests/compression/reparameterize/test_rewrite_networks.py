"""Whole networks: every published variant, levels and sizes, and what a result must support."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn

import waveedge
from waveedge.compression.reparameterize import CPU, GPU, REWRITES, reparameterize
from waveedge.models import WaveMix, WaveMixConfig
from waveedge.nn import DWT2d, WaveletCompressedConv2d

from .conftest import MACS_ALONE

Check = Callable[..., fx.GraphModule]
Randomize = Callable[[nn.Module], nn.Module]

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
_OTHER_HEADS = ("wtconvnext_head_norm_first", "wtconvnext_head_hidden")
"""They differ from others behind the last map, where no rewrite reaches."""
PUBLISHED: dict[str, Any] = {
    name: entry
    for name, entry in json.loads((GOLDEN / "index.json").read_text()).items()
    if entry["family"] in ("wavemix", "wtconvnext") and name not in _OTHER_HEADS
}
SMALL = {
    "super-resolution": {"stem": "strided", "stride": 1, "head": "expand", "head_widths": (8,)},
    "classifier": {"stem": "patch", "patch_size": 2},
    "embedded": {"stem": "patch", "patch_size": 2, "embedding": 12},
    "segmenter": {"stem": "strided", "stride": 2, "head": "expand", "head_widths": (12, 8)},
    "first paper": {"block": "shared", "stem": "strided", "stride": 1},
    "third version": {"block": "pixelshuffle", "mult": 4, "stem": "patch", "patch_size": 1},
}


def small(kind: str, levels: int = 1, depth: int = 2) -> WaveMix:
    torch.manual_seed(0)
    options: dict[str, Any] = {"dim": 16, "ff_channels": 12, "num_classes": 3, **SMALL[kind]}
    dim = 24 if kind == "first paper" and levels == 3 else 16
    return WaveMix(WaveMixConfig(depth=depth, levels=levels, **{**options, "dim": dim}))


shared = functools.cache(small)
"""One network for all tests that leave it as it is, and so one normal form."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_variant_computes_the_same(check: Check, name: str) -> None:
    _, channels, *size = PUBLISHED[name]["input"]
    model = waveedge.load(GOLDEN / f"{name}.pth")
    result = check(model, tuple(size), channels=channels)
    assert result.spec == model.spec
    kinds = {type(module) for module in result.modules()}
    assert not kinds & {DWT2d, nn.Dropout, nn.Identity}
    if "wtconv" not in name:  # where multiply-adds alone decide, more is rewritten
        check(model, tuple(size), channels=channels, cost=MACS_ALONE, in_float32=False)


@pytest.mark.parametrize("kind", ["super-resolution", "classifier"])
def test_a_gpu_gets_fewer_operators_that_compute_the_same(check: Check, kind: str) -> None:
    """There a border piece of a few pixels costs a launch."""
    many, few = (check(shared(kind), (32, 64), cost=cost) for cost in (CPU, GPU))
    assert operators(few) <= operators(many)
    if kind == "super-resolution":
        assert operators(few) < 0.7 * operators(many)


def operators(graph: fx.GraphModule) -> int:
    return sum(node.op.startswith("call") for node in graph.graph.nodes)


LEVELS = [
    *(("super-resolution", levels) for levels in (1, 2, 3, 4)),
    *(("first paper", levels) for levels in (1, 3, 4)),
    *((kind, levels) for kind in ("classifier", "embedded", "segmenter") for levels in (1, 3)),
]
"""All levels of one kind of head, and of the block that shares its layers between levels."""


@pytest.mark.parametrize(("kind", "levels"), LEVELS)
def test_levels_one_to_four(check: Check, kind: str, levels: int) -> None:
    model = shared(kind, levels)
    multiple = model.config.size_multiple
    check(model, (multiple, multiple * 2), cost=MACS_ALONE, in_float32=False)


@pytest.mark.parametrize("kind", SMALL)
def test_the_smallest_map_that_a_network_takes(check: Check, kind: str) -> None:
    model = shared(kind, 1)
    check(model, (model.config.size_multiple, model.config.size_multiple))


@pytest.mark.parametrize("kind", SMALL)
def test_the_form_depends_on_structure_alone(randomize: Randomize, kind: str) -> None:
    """A saved network is loaded into the rewritten form of an untrained one."""
    trained, fresh = randomize(small(kind)), small(kind).eval()
    for parameter in fresh.parameters():
        parameter.data.zero_()
    expected, loaded = (reparameterize(model, (32, 32)) for model in (trained, fresh))
    loaded.load_state_dict(expected.state_dict(), strict=True)
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(x), expected(x))
    assert loaded.code == expected.code


def test_a_result_survives_copying_with_what_it_says_about_itself() -> None:
    result = reparameterize(waveedge.load(GOLDEN / "wavemix_sisr_l1.pth"), (24, 40))
    twin = copy.deepcopy(result)
    assert twin.spec == result.spec
    assert twin.applied == result.applied
    x = torch.randn(1, 3, 24, 40)
    assert torch.equal(twin(x), result(x))


@pytest.mark.parametrize("rewrite", [rewrite.name for rewrite in REWRITES])
def test_any_rewrite_can_be_left_out(check: Check, rewrite: str) -> None:
    result = check(shared("classifier", 2), (16, 24), skip=[rewrite])
    assert not any(item.rule.startswith(f"{rewrite}.") for item in result.applied)  # type: ignore[union-attr]


def test_a_module_can_be_kept_as_it_is(check: Check) -> None:
    kept = ["layers.1.reduction", "layers.0.feedforward1.0", "conv.1"]
    result = check(small("segmenter", 2), (32, 32), skip=kept)
    for name in kept:
        assert isinstance(result.get_submodule(name), nn.Conv2d)
        assert any(node.target == name for node in result.graph.nodes)


@pytest.mark.parametrize("where", ["layers.0.reduction", "layers.1.feedforward1.0"])
def test_wavelet_compressed_layers_are_worked_around(check: Check, where: str) -> None:
    model = small("segmenter", 2)
    conv = model.get_submodule(where)
    assert isinstance(conv, nn.Conv2d)
    wcc = WaveletCompressedConv2d.from_conv(
        conv, levels=1, ratio=1.0, weight_bits=32, activation_bits=32
    )
    model.set_submodule(where, wcc)
    result = check(model, (32, 32))
    assert isinstance(result.get_submodule(where), WaveletCompressedConv2d)


def test_multiply_adds_are_accounted_for() -> None:
    model = WaveMix(
        WaveMixConfig(
            depth=4, dim=48, ff_channels=48, num_classes=3, stem="strided", stride=1,
            head="expand", head_widths=(24,),
        )
    )  # fmt: skip
    applied: Any = reparameterize(model.eval(), (64, 64)).applied
    stream = next(item for item in applied if item.rule == "residual.1")
    assert stream.macs_after < 0.65 * stream.macs_before
