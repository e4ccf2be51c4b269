"""float16 in the graph: every type of it, its numbers, and that TensorRT-RTX builds it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import waveedge
from waveedge.decibels import snr_db
from waveedge.export.layers import layers_of, seen_in_engine
from waveedge.export.lowering import lower
from waveedge.export.onnx_runner import run_onnxruntime
from waveedge.export.passes import half_precision
from waveedge.export.passes.half_precision import widened
from waveedge.runtime import Session, benchmark
from waveedge.runtime.engine_builder import backend_version, build_engine

from .conftest import SHAPE

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


def kinds(graph: onnx.ModelProto) -> tuple[set[int], set[int]]:
    """Floating-point types inside a graph, and of its inputs and outputs."""
    inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True).graph
    ends = {value.name for value in (*inferred.input, *inferred.output)}
    inside = {t.data_type for t in inferred.initializer} | {
        value.type.tensor_type.elem_type for value in inferred.value_info if value.name not in ends
    }
    outside = {value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.output)}
    return inside & FLOATS, outside


def test_all_between_input_and_outputs_is_float16_and_close(everything):
    wide = lower(everything.traced, "trt").shipped
    half = lower(everything.traced, "trt", "float16").shipped
    assert kinds(half) == ({TensorProto.FLOAT16}, {TensorProto.FLOAT})
    x = np.random.default_rng(0).random((1, *SHAPE), dtype=np.float32)
    wanted, got = (run_onnxruntime(graph, [x])[0] for graph in (wide, half))
    for a, b in zip(wanted, got, strict=True):
        assert 30 < snr_db(a, b) < 100  # rounded, and no worse than that
    back = ir.to_proto(widened(ir.from_proto(half)))
    inside, _ = kinds(back)
    assert inside == {TensorProto.FLOAT}


@pytest.mark.skipif(
    backend_version("tensorrt_rtx") is None, reason="TensorRT-RTX (extra [rtx]) is not installed"
)
def test_tensorrt_rtx_builds_it_with_the_same_layers_in_int8(everything):
    layers = layers_of(everything.traced, everything.model)
    integer = []
    for precision in ("float32", "float16"):
        graph = lower(everything.traced, "trt", precision).shipped
        build = build_engine(graph.SerializeToString(), "tensorrt_rtx")
        assert build.errors == []
        integer.append(seen_in_engine(build.kernels, layers))
    assert integer[0] == integer[1] != set()


def made(nodes, shape, initializers):
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", "c", "d"][: len(shape)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_numbers_beyond_float16_are_its_ends():
    """A bound at the end of float32, a tiny scale, and a Resize, whose sizes stay float32."""
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["b"]),
        helper.make_node("Resize", ["b", "", "double"], ["y"]),
    ]
    wide = made(
        nodes,
        [1, 1, 2, 3],
        {
            "low": np.float32(-3e38),
            "high": np.float32(3e38),
            "step": np.float32(1e-9),
            "zero": np.int8(0),
            "double": np.array([1, 1, 2, 2], np.float32),
        },
    )
    half = ir.to_proto(half_precision()(ir.from_proto(wide)).model)
    stored = {t.name: numpy_helper.to_array(t) for t in half.graph.initializer}
    assert stored["high"] == -stored["low"] == 65504
    assert stored["step"].dtype == np.float16
    assert 0 < stored["step"] < 1e-7
    (sizes,) = [value for value in stored.values() if value.dtype == np.float32]
    assert sizes.tolist() == [1, 1, 2, 2]
    (y,) = run_onnxruntime(half, [np.ones((1, 1, 2, 3), np.float32)])[0]
    assert y.shape == (1, 1, 4, 6)


def test_a_bundle_in_float16_says_so_and_runs(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 3, 1)).eval()
    images = torch.rand(4, 3, 16, 16)
    waveedge.export(network, tmp_path / "net.trt", target="trt", precision="float16", images=images)
    manifest = json.loads((tmp_path / "net.trt" / "manifest.json").read_text())
    assert manifest["precision"] == "float16"
    assert {layer["executed"]["weight_bits"] for layer in manifest["layers"]} == {16}
    assert {layer["requested"]["weight_bits"] for layer in manifest["layers"]} == {32}
    report = json.loads((tmp_path / "net.trt" / "verification.json").read_text())
    assert 50 < report["figures"]["snr_db"] < 100
    got = Session(tmp_path / "net.trt").run(images[:1].numpy())
    wanted = network(images[:1]).detach().numpy()
    assert snr_db(wanted, np.asarray(got)) > 50
    comparison = benchmark(tmp_path / "net.trt", runs=1, warmup=0)
    assert comparison.a.peak_bytes is None
    assert any("widens float16" in note for note in comparison.notes)
    assert comparison.a.bits.executed == "w16a16"
