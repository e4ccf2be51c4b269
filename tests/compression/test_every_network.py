"""Every published network goes the whole way: rewritten, quantized, saved, loaded, exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import waveedge
from waveedge.calibration import open_images
from waveedge.compression.compress import compress
from waveedge.nn import WaveletCompressedConv2d

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
NETWORKS = {
    "wavemix_cls_l1_strided": (32, 32),
    "wavemix_cls_l3_patch": (64, 64),
    "wavemix_cityscapes_head": (64, 32),
    "wavemix_seg_l2": (32, 48),
    "wavemix_seg_l4": (64, 64),
    "wavemix_sisr_l1": (32, 48),
    "wavemix_v1_token_mixer": (32, 32),
    "wavemix_v3_pixelshuffle": (64, 64),
    "wtconvnext_micro": (64, 64),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_8_bits_keep_the_output_and_the_artifact_keeps_the_bits(name: str, tmp_path: Path) -> None:
    model = waveedge.load(GOLDEN / f"{name}.pth")
    images = open_images(None, spec=model.spec, size=NETWORKS[name], limit=4, held_out=2)
    small = compress(model, images=images, bits=8)
    assert small.report.quality.snr_db > 20
    # WTConv layers stay in floating point, and weigh much in a network as small as this one.
    saved = 2 if name.startswith("wtconv") else 8
    assert small.report.bops_after * saved < small.report.bops_before
    waveedge.save_artifact(small, tmp_path / "a.safetensors")
    x = torch.from_numpy(images.held_out[0])
    assert torch.equal(waveedge.load_artifact(tmp_path / "a.safetensors")(x), small(x))


def test_wcc_goes_the_whole_way(tmp_path: Path) -> None:
    model = waveedge.load(GOLDEN / "wavemix_seg_l2.pth")
    images = open_images(None, spec=model.spec, size=(32, 48), limit=4, held_out=2)
    small = compress(
        model, images=images, bits=8, wcc_ratio=0.5, wcc_select="topk", wcc_levels=1, tune=0
    )
    layers = [m for m in small.graph.modules() if isinstance(m, WaveletCompressedConv2d)]
    chosen = [item for item in small.decisions if item.compressed]
    assert len(layers) == len(chosen) > 1
    bundle = waveedge.export(small, tmp_path / "a", target="ort", images=images)
    figures = bundle.verification["figures"]
    assert figures["equal_positions"] > 0.9
    requested = {
        layer["name"]: layer["requested"]["ratio"]
        for layer in bundle.manifest["layers"]
        if layer["requested"]["ratio"] < 1
    }
    assert requested == {item.name: 0.5 for item in chosen}


def test_ratio_1_is_no_wcc_and_more_ratio_is_more_quality() -> None:
    model = waveedge.load(GOLDEN / "wavemix_sisr_l1.pth")
    images = open_images(None, spec=model.spec, size=(16, 16), limit=4, held_out=2)
    quality = {
        ratio: compress(
            model, images=images, bits=32, wcc_ratio=ratio, wcc_select="topk", wcc_levels=2
        ).report.quality.snr_db
        for ratio in (0.25, 0.5, 1.0)
    }
    assert quality[0.25] < quality[0.5] < quality[1.0]
    assert quality[1.0] > 100
