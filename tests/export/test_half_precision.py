"""16 bits in the graph: every type of it, its numbers, and that TensorRT-RTX builds it."""

from __future__ import annotations

import copy
import json

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import waveedge
from waveedge.decibels import snr_db
from waveedge.errors import InputError, RecipeError
from waveedge.export.layers import layers_of, seen_in_engine
from waveedge.export.lowering import lower
from waveedge.export.onnx_runner import run_onnxruntime, run_rounded
from waveedge.export.passes import half_precision
from waveedge.export.targets import find_target
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.export.widening import widened
from waveedge.runtime import Session, benchmark
from waveedge.runtime.engine_builder import backend_version, build_engine

from .conftest import SHAPE

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
HALVES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}

rtx = pytest.mark.skipif(
    backend_version("tensorrt_rtx") is None, reason="TensorRT-RTX (extra [rtx]) is not installed"
)


def kinds(graph: onnx.ModelProto) -> tuple[set[int], set[int]]:
    """Floating-point types inside a graph, and of its inputs and outputs."""
    inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True).graph
    ends = {value.name for value in (*inferred.input, *inferred.output)}
    inside = {t.data_type for t in inferred.initializer} | {
        value.type.tensor_type.elem_type for value in inferred.value_info if value.name not in ends
    }
    outside = {value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.output)}
    return inside & FLOATS, outside


def upsampler() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.ConvTranspose2d(8, 3, 4, 2, 1)
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.parametrize("precision", HALVES)
def test_all_between_input_and_outputs_has_16_bits_and_is_close(everything, precision):
    wide = lower(everything.traced, "trt").shipped
    half = lower(everything.traced, "trt", precision).shipped
    inside, outside = kinds(half)
    # ONNX knows no TopK in bfloat16: the one of the WCC layer lies between Casts.
    assert inside == {HALVES[precision], *([TensorProto.FLOAT] if precision == "bfloat16" else [])}
    assert outside == {TensorProto.FLOAT}
    onnx.checker.check_model(half, full_check=True)
    x = np.random.default_rng(0).random((1, *SHAPE), dtype=np.float32)
    run = find_target("trt").runner(precision)
    wanted, got = run_onnxruntime(wide, [x])[0], run(half, [x])[0]
    for a, b in zip(wanted, got, strict=True):
        assert 30 < snr_db(a, b) < 100  # rounded, and no worse than that
    back = ir.to_proto(widened(ir.from_proto(half)))
    inside, _ = kinds(back)
    assert inside == {TensorProto.FLOAT}


def by_layers_of_bfloat16(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What layers make that take and give bfloat16 and add up in float32, as GPUs do.

    torch's own on a CPU without such arithmetic adds up in bfloat16 here and there.
    """

    def rounded(y: torch.Tensor) -> torch.Tensor:
        return y.bfloat16().float()

    network = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.copy_(rounded(parameter))
    for layer in network.children():
        layer.register_forward_hook(lambda _layer, _inputs, y: rounded(y))
    return network(rounded(x))


def test_what_bfloat16_computes_is_what_layers_of_it_compute():
    """The twin in float32 has the loss of 7 bits of mantissa, whatever onnxruntime optimises."""
    network = upsampler()
    x = torch.rand(1, *SHAPE)
    graph = lower(to_onnx(network, SHAPE), "trt", "bfloat16").shipped
    ((found,),) = run_rounded(graph, [x.numpy()])
    wide = network(x).numpy()
    wanted = by_layers_of_bfloat16(network, x).numpy()
    assert 40 < snr_db(wide, wanted) < 60
    assert 40 < snr_db(wide, found) < 60
    assert snr_db(wanted, found) > snr_db(wide, wanted) + 10
    assert np.array_equal(found, found.astype(ml_dtypes.bfloat16).astype(np.float32))


@rtx
def test_tensorrt_rtx_builds_it_with_the_same_layers_in_int8(everything):
    layers = layers_of(everything.traced, everything.model)
    integer = []
    for precision in ("float32", "float16"):
        graph = lower(everything.traced, "trt", precision).shipped
        build = build_engine(graph.SerializeToString(), "tensorrt_rtx")
        assert build.errors == []
        integer.append(seen_in_engine(build.kernels, layers))
    assert integer[0] == integer[1] != set()


@rtx
def test_tensorrt_rtx_builds_int8_between_bfloat16(integers):
    graph = lower(integers.traced, "trt-rtx", "bfloat16").shipped
    assert find_target("trt-rtx").refusal(graph, "bfloat16") == ""
    build = build_engine(graph.SerializeToString(), "tensorrt_rtx")
    assert build.errors == []
    layers = layers_of(integers.traced, integers.model)
    assert seen_in_engine(build.kernels, layers) == {layer.node for layer in layers}


@rtx
def test_a_transposed_convolution_in_bfloat16_is_left_out_where_it_is_refused():
    """Should this fail with a later TensorRT-RTX, the refusal has had its day."""
    traced = to_onnx(upsampler(), SHAPE)
    for precision, built in (("float16", True), ("bfloat16", False)):
        graph = lower(traced, "trt-rtx", precision).shipped
        assert (build_engine(graph.SerializeToString(), "tensorrt_rtx").engine is not None) == built
        assert (find_target("trt-rtx").refusal(graph, precision) == "") == built
        assert find_target("trt").refusal(graph, precision) == ""  # NVIDIA's table has it


def made(nodes, shape, initializers):
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", "c", "d"][: len(shape)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(("precision", "most"), [("float16", 65504), ("bfloat16", 3.3895e38)])
def test_numbers_beyond_the_type_are_its_ends(precision, most):
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
            "low": np.float32(-3.4e38),
            "high": np.float32(3.4e38),
            "step": np.float32(1e-9),
            "zero": np.int8(0),
            "double": np.array([1, 1, 2, 2], np.float32),
        },
    )
    dtype = ir.DataType(HALVES[precision])
    half = half_precision(dtype)(ir.from_proto(wide)).model
    stored = {name: value.const_value.numpy() for name, value in half.graph.initializers.items()}
    assert float(stored["high"]) == -float(stored["low"]) == pytest.approx(most, rel=1e-4)
    assert stored["step"].dtype == dtype.numpy()
    assert 0 < stored["step"] < 1e-7
    (sizes,) = [value for value in stored.values() if value.dtype == np.float32]
    assert sizes.tolist() == [1, 1, 2, 2]
    run = find_target("trt").runner(precision)
    (y,) = run(ir.to_proto(half), [np.ones((1, 1, 2, 3), np.float32)])[0]
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


def test_a_bundle_carries_bfloat16_beside_with_what_it_computes(tmp_path):
    network = upsampler()
    images = torch.rand(4, *SHAPE)
    with pytest.raises(RecipeError, match=r"no precision 'bfloat16'(.|\n)*published-bfloat16"):
        waveedge.export(network, tmp_path / "net.trt", target="trt", precision="bfloat16")
    waveedge.export(network, tmp_path / "net.trt", target="trt", images=images)
    manifest = json.loads((tmp_path / "net.trt" / "manifest.json").read_text())
    forms = {form["name"]: form for form in manifest["forms"]}
    assert {name for name, form in forms.items() if form["outputs"]} == {
        "published-bfloat16",
        "rewritten-bfloat16",
    }
    form = forms["published-bfloat16"]
    assert 35 < form["snr_db"] < forms["published-float16"]["snr_db"] - 10
    with np.load(tmp_path / "net.trt" / form["outputs"]) as found:
        (outputs,) = (found[name] for name in found.files)
    travelling = torch.from_numpy(np.load(tmp_path / "net.trt" / "images.npy"))
    wanted = network(travelling).numpy()
    assert outputs.shape == wanted.shape
    assert 35 < snr_db(wanted, outputs) < 60
    for missing in ("published-bfloat16.onnx", "published-bfloat16.npz"):
        assert missing in manifest["files"]
    with pytest.raises(InputError, match=r"computes in bfloat16(.|\n)*waveedge build"):
        Session(tmp_path / "net.trt" / form["file"])
