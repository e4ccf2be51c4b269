"""The main path: a verified folder, whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from waveedge.errors import ExportError, RecipeError, VerificationError
from waveedge.export import export_model, write_bundle
from waveedge.export.graph_editing import constant
from waveedge.export.layers import layers_of
from waveedge.export.passes.integer_weights import Int8Weights
from waveedge.export.passes.tiling import TileActivations
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.files import sha256
from waveedge.nn import WaveletCompressedConv2d
from waveedge.runtime import open_bundle
from waveedge.runtime.engine_builder import backend_version
from waveedge.spec import ModelSpec


@pytest.fixture(scope="module")
def trt(integers, photos, tmp_path_factory):
    """A bundle for TensorRT with a baseline, and the steps that were reported."""
    torch.manual_seed(2)
    published = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1)).eval()
    steps: list[tuple[str, int, int]] = []
    out = tmp_path_factory.mktemp("trt") / "net.trt"
    integers.model.spec = ModelSpec(family="custom", task="restoration", input_size=(32, 32))
    try:
        bundle = export_model(
            integers.model,
            out,
            target="trt",
            images=photos,
            published=published,
            recipe={"bits": 8},
            source_sha256="ab" * 32,
            artifact_sha256="cd" * 32,
            progress=lambda *step: steps.append(step),
        )
    finally:
        del integers.model.spec
    return bundle, steps


def test_the_folder_holds_what_the_manifest_says(trt):
    bundle, _ = trt
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    assert manifest == bundle.manifest
    present = {file.name for file in bundle.path.iterdir()}
    assert present == {
        "build_engine.sh",
        "images.npy",
        "manifest.json",
        "model.onnx",
        "published-bfloat16.npz",
        "published-bfloat16.onnx",
        "published-float16.onnx",
        "published.onnx",
        "rewritten-bfloat16.npz",
        "rewritten-bfloat16.onnx",
        "rewritten-float16.onnx",
        "rewritten-float32.onnx",
        "verification.json",
    }
    assert set(manifest["files"]) == present - {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert sha256(bundle.path / name) == digest
    opened = open_bundle(bundle.path)
    assert opened.manifest == manifest
    assert opened.baseline == bundle.path / "published.onnx"
    assert manifest["format"] == "waveedge-bundle/5"
    assert manifest["images"] == "images.npy"
    forms = {form["name"]: (form["file"], form["precision"]) for form in manifest["forms"]}
    assert forms == {
        "w8a8-float32": ("model.onnx", "float32"),
        "rewritten-float32": ("rewritten-float32.onnx", "float32"),
        "rewritten-float16": ("rewritten-float16.onnx", "float16"),
        "rewritten-bfloat16": ("rewritten-bfloat16.onnx", "bfloat16"),
        "published-float32": ("published.onnx", "float32"),
        "published-float16": ("published-float16.onnx", "float16"),
        "published-bfloat16": ("published-bfloat16.onnx", "bfloat16"),
    }
    # The integers here are of another network than the one called published, and far from it.
    quality = {form["name"]: form["snr_db"] for form in manifest["forms"]}
    assert quality.pop("w8a8-float32") < 20 < min(quality.values())
    assert any("waveedge compress --cost gpu" in note for note in manifest["notes"])
    assert any("left out: the form w8a8-float16" in note for note in manifest["notes"])
    assert manifest["input"] == {"name": "input", "shape": [1, 3, 32, 32], "dtype": "float32"}
    assert manifest["outputs"] == [{"name": "output", "shape": [1, 8, 32, 32]}]
    assert manifest["preprocessing"]["std"] == [1.0]
    assert (manifest["source_sha256"], manifest["artifact_sha256"]) == ("ab" * 32, "cd" * 32)
    assert (manifest["task"], manifest["engine"]) == ("restoration", None)
    assert {"waveedge", "torch", "onnxruntime"} <= set(manifest["versions"])


def test_requested_and_executed_bits_stand_side_by_side(trt):
    bundle, _ = trt
    rows = {row["name"]: row for row in bundle.manifest["layers"]}
    assert set(rows) == {"first", "second"}
    for row in rows.values():
        assert row["type"] == "QuantizedConv2d"
        assert row["requested"] == {"weight_bits": 8, "activation_bits": 8, "ratio": 1.0}
        if backend_version("tensorrt_rtx"):
            assert row["executed"] == {"weight_bits": 8, "activation_bits": 8}


def test_both_graphs_were_verified(trt):
    bundle, _ = trt
    report = json.loads((bundle.path / "verification.json").read_text())
    assert report == bundle.verification
    assert report["passed"]
    assert report["published"]["passed"]
    assert report["images"] == 4
    assert report["figures"]["psnr_db"] > 60
    onnx.checker.check_model(onnx.load(bundle.path / "published.onnx"), full_check=True)


def test_a_proxy_is_called_a_proxy(trt):
    bundle, _ = trt
    notes = " ".join(bundle.manifest["notes"])
    assert "build_engine.sh" in notes
    if backend_version("tensorrt_rtx"):
        assert "proxy: tensorrt_rtx" in notes
        assert bundle.verification["engine"]["proxy"]
        assert bundle.verification["engine"]["built"]


def test_progress_counts_to_the_end(trt):
    _, steps = trt
    assert [done for _, done, _ in steps] == list(range(7))
    assert steps[-1] == ("done", 6, 6)


def test_ort_executes_what_it_fuses(everything, photos, tmp_path):
    """Four bits were asked for, eight are executed; what stays float says so."""
    bundle = export_model(everything.model, tmp_path / "net", target="ort", images=photos, batch=2)
    rows = {row["name"]: row for row in bundle.manifest["layers"]}
    assert rows["mix"]["requested"]["weight_bits"] == 4
    assert rows["depthwise"]["requested"] == {
        "weight_bits": 8,
        "activation_bits": 4,
        "ratio": 1.0,
    }
    assert rows["depthwise"]["executed"] == {"weight_bits": 8, "activation_bits": 8}
    assert rows["wcc"]["requested"]["ratio"] == 0.5
    for name in ("deconv", "wcc"):
        assert rows[name]["executed"] == {"weight_bits": 32, "activation_bits": 32}
    assert bundle.manifest["baseline"] is None
    assert bundle.manifest["input"]["shape"] == [2, 3, 32, 32]


def test_executed_bits_are_those_of_the_file_that_ships(everything, photos, tmp_path, monkeypatch):
    """A made-up last pass: it writes the weight of one layer as floats."""

    def depthwise_in_float(_: TileActivations, model: ir.Model) -> ir.passes.PassResult:
        convs = (node for node in model.graph if node.op_type == "Conv")
        node = next(node for node in convs if node.name.startswith("depthwise"))
        integers, scale, _ = node.inputs[1].producer().inputs
        data = integers.const_value.numpy() * scale.const_value.numpy().reshape(-1, 1, 1, 1)
        weight = constant(model.graph, "in_float", data)
        node.replace_input_with(1, weight)
        return ir.passes.PassResult(model, True)

    monkeypatch.setattr(TileActivations, "call", depthwise_in_float)
    bundle = export_model(everything.model, tmp_path / "net", target="ort", images=photos)
    rows = {row["name"]: row["executed"] for row in bundle.manifest["layers"]}
    assert rows["stem"] == {"weight_bits": 8, "activation_bits": 8}
    assert rows["depthwise"] == {"weight_bits": 32, "activation_bits": 32}
    assert open_bundle(bundle.path).manifest == bundle.manifest


class ComputedWeight(nn.Module):
    """A convolution whose weight is standardised anew in each run, too large to be folded early."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 3, 9, 9))
        self.head = nn.Conv2d(64, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        y = self.head(F.conv2d(x, weight))
        return y * (y.flatten(2) @ y.flatten(2).transpose(1, 2)).mean()


def test_a_layer_with_a_computed_weight_is_listed_in_float_and_activations_are_no_layer():
    model = ComputedWeight().eval()
    rows = [
        layer.to_dict(False, "float32") for layer in layers_of(to_onnx(model, (3, 16, 16)), model)
    ]
    assert [row["type"] for row in rows] == ["Conv", "Conv2d"]
    for row in rows:
        assert row["executed"] == {"weight_bits": 32, "activation_bits": 32}


@pytest.mark.skipif(backend_version("tensorrt_rtx") is None, reason="needs extra [rtx]")
def test_rtx_bundle_has_an_engine(integers, photos, tmp_path):
    bundle = export_model(integers.model, tmp_path / "net", target="trt-rtx", images=photos)
    assert bundle.manifest["engine"] == "model.engine"
    assert (bundle.path / "model.engine").stat().st_size > 10_000
    assert not (bundle.path / "build_engine.sh").exists()


def test_failed_verification_leaves_the_old_folder_and_nothing_else(
    integers, photos, tmp_path, monkeypatch
):
    out = tmp_path / "net"
    out.mkdir()
    (out / "manifest.json").write_text('{"format": "waveedge-bundle/1", "files": {"old": ""}}')
    (out / "old").write_text("kept")

    def faulty(pass_, model):
        result = right(pass_, model)
        weight = model.graph.initializers["second.weight_int8"]
        weight.const_value = ir.tensor(-weight.const_value.numpy(), name=weight.name)
        return result

    right = Int8Weights.call
    monkeypatch.setattr(Int8Weights, "call", faulty)
    with pytest.raises(VerificationError):
        export_model(integers.model, out, target="ort", images=photos)
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert (out / "old").read_text() == "kept"


def test_a_graph_that_tensorrt_refuses_names_layer_rule_and_mend(photos, tmp_path):
    model = nn.Sequential(WaveletCompressedConv2d(3, 3, ratio=1, levels=1)).eval()
    model.append(TooManyCoefficients())
    big = [np.tile(photo, (1, 1, 4, 4)) for photo in photos]
    with pytest.raises(ExportError) as caught:
        export_model(model, tmp_path / "net", target="trt", images=big)
    assert "1/TopK" in caught.value.what
    assert "[topk-limit]" in caught.value.what
    assert "tiles" in caught.value.what
    assert list(tmp_path.iterdir()) == []


class TooManyCoefficients(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).topk(4000).values


class DependsOnData(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_torch_cannot_trace_is_explained(photos, tmp_path):
    with pytest.raises(ExportError, match="torch cannot export this network") as caught:
        export_model(DependsOnData(), tmp_path / "net", target="onnx", images=photos)
    assert "no Python decision" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_images_of_another_size_are_refused(integers, photos, tmp_path):
    with pytest.raises(RecipeError, match="does not fit"):
        export_model(
            integers.model, tmp_path / "net", target="ort", images=photos, input_size=(64, 64)
        )


def test_an_unknown_target_is_refused(integers, tmp_path):
    with pytest.raises(RecipeError, match="'tflite'"):
        export_model(integers.model, tmp_path / "net", target="tflite")  # type: ignore[arg-type]


def test_without_spec_and_images_noise_is_used_and_said(integers, tmp_path):
    with pytest.raises(RecipeError, match="input size"):
        export_model(integers.model, tmp_path / "net", target="ort")


def test_killed_in_the_middle_leaves_no_bundle(tmp_path, monkeypatch):
    """SIGKILL while the graph is being written: no folder of the final name."""
    out, image = tmp_path / "net", np.zeros((1, 3, 8, 8), np.float32)
    reader, writer = os.pipe()

    def stop(*_, **__):
        os.write(writer, b"in the middle")
        time.sleep(60)

    monkeypatch.setattr(write_bundle, "verify", stop)
    child = os.fork()  # a process of its own, with everything loaded
    if not child:
        try:
            export_model(nn.Conv2d(3, 3, 1).eval(), out, target="onnx", images=[image])
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 99) == b"in the middle"
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    time.sleep(0.05)
    assert not out.exists()
    leftovers = list(tmp_path.iterdir())
    assert all(path.name.startswith(".waveedge-") for path in leftovers)
