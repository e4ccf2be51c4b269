"""The OpenVINO target: verified on OpenVINO, run by it, and told apart from onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import waveedge
from waveedge.compression.compressed import Compressed
from waveedge.decibels import snr_db
from waveedge.errors import ArtifactError, InputError, RecipeError
from waveedge.export.lowering import lower
from waveedge.export.targets import TARGETS
from waveedge.runtime import Session

openvino = pytest.importorskip("openvino", reason="pip install openvino")

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def small() -> Compressed:
    return waveedge.compress(waveedge.load(GOLDEN / "wavemix_sisr_l1.pth"), IMAGES, bits=8)


@pytest.fixture(scope="module")
def bundle(small: Compressed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("openvino") / "net"
    return waveedge.export(small, out, target="openvino", images=IMAGES).path


def test_a_session_runs_it_on_openvino(bundle: Path, small: Compressed, tmp_path: Path) -> None:
    session = Session(bundle)
    assert session.backend.startswith("OpenVINO 20")
    assert session.provider == "openvino"
    image = IMAGES[:1].numpy()
    found = session.run(image)
    same = Session(bundle, provider="cpu")
    assert same.backend.startswith("onnxruntime")
    with torch.no_grad():
        wanted = small.graph(IMAGES[:1]).numpy()
    # OpenVINO's int8 kernels are off by a step of the output's grid here and there.
    for result, bound in ((found, 0.02), (same.run(image), 0.01)):
        assert isinstance(result, np.ndarray)
        assert np.abs(result - wanted).max() < bound * np.abs(wanted).max()
        assert snr_db(wanted, result) > 35


def test_the_report_says_what_it_was_verified_on(bundle: Path) -> None:
    report = json.loads((bundle / "verification.json").read_text())
    assert report["runtime"].startswith("OpenVINO 20")


def test_the_baseline_runs_on_what_the_bundle_runs_on(bundle: Path) -> None:
    comparison = waveedge.benchmark(bundle, runs=3, memory=False)
    assert comparison.a.backend == comparison.b.backend
    assert "OpenVINO" in comparison.a.backend


def test_executed_bits_are_those_of_openvinos_kernels(bundle: Path) -> None:
    """uint8 weights, as on processors without VNNI, have kernels of floating point alone."""
    manifest = waveedge.runtime.Session(bundle).manifest
    assert manifest is not None
    bits = {layer["executed"]["weight_bits"] for layer in manifest["layers"]}
    assert bits == {32} if manifest["weights"] == "uint8" else 8 in bits


def test_reduced_precision_is_refused_where_the_processor_has_none(
    small: Compressed, tmp_path: Path
) -> None:
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in capabilities:
        made = waveedge.export(
            small, tmp_path / "bf", target="openvino", precision="bfloat16", images=IMAGES
        )
        assert made.manifest["precision"] == "bfloat16"
        assert Session(made.path).backend.endswith("bfloat16)")
        return
    with pytest.raises(InputError, match="does not compute in"):
        waveedge.export(small, tmp_path / "bf", target="openvino", precision="bfloat16")
    assert not (tmp_path / "bf").exists()


def column() -> torch.nn.Module:
    """What a border piece is: a strided convolution with one output across."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 48, (6, 4), 2), torch.nn.Conv2d(48, 4, 1)).eval()


def test_strided_pieces_one_column_wide_are_right_in_bfloat16(tmp_path: Path) -> None:
    """OpenVINO's kernel for AMX reads beyond them."""
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not compute in bfloat16")
    images = torch.rand(4, 3, 60, 4)
    made = waveedge.export(
        column(), tmp_path / "bf", target="openvino", precision="bfloat16", images=images
    )
    with torch.no_grad():
        wanted = column()(images[:1]).numpy()
    session = Session(made.path)
    for _ in range(3):
        assert snr_db(wanted, session.run(images[:1].numpy())) > 40  # type: ignore[arg-type]


def test_strided_pieces_one_column_wide_are_right_in_int8(tmp_path: Path) -> None:
    images = torch.rand(4, 3, 60, 4)
    compressed = waveedge.compress(column(), images, bits=8, shrink=False)
    made = waveedge.export(compressed, tmp_path / "int8", target="openvino", images=images)
    session = Session(made.path)
    for _ in range(3):
        found = session.run(images[:1].numpy())
        assert snr_db(compressed(images[:1]).numpy(), found) > 35  # type: ignore[arg-type]


def test_averages_that_count_zeros_are_right_in_int8(tmp_path: Path) -> None:
    """OpenVINO pads the bytes of a map with 0, which stands for the lowest number of its grid."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 1), torch.nn.AvgPool2d(3, 1, 1), torch.nn.Conv2d(8, 3, 1)
    ).eval()
    images = torch.rand(6, 3, 24, 20)
    small = waveedge.compress(network, images, bits=8, warn=lambda _: None)
    made = waveedge.export(small, tmp_path / "b", target="openvino", images=images.numpy())
    found = Session(made.path).run(images[:1].numpy())
    assert snr_db(small(images[:1]).numpy(), found) > 30  # type: ignore[arg-type]


def test_other_targets_have_no_such_precision(small: Compressed, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the target ort has no precision 'bfloat16'"):
        waveedge.export(small, tmp_path / "bf", target="ort", precision="bfloat16")


def test_a_broken_file_is_one_message(tmp_path: Path) -> None:
    model = concatenated(np.uint8, 128)
    model.graph.node[-1].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match=r"OpenVINO .* cannot load"):
        Session(tmp_path / "model.onnx", provider="openvino")


def concatenated(dtype: type, zero: int) -> onnx.ModelProto:
    """Two quantized inputs, joined, and a 1x1 convolution that copies them."""
    tensors = {
        "scale": np.float32(0.01),
        "zero": np.array(zero, dtype),
        "integers": (100 * np.eye(4) + 128).astype(np.uint8).reshape(4, 4, 1, 1),
        "weight_zero": np.array(128, np.uint8),
    }
    weight = ["integers", "scale", "weight_zero"]
    nodes = [helper.make_node("DequantizeLinear", weight, ["weight"])]
    for name in "ab":
        grid = ["scale", "zero"]
        nodes.append(helper.make_node("QuantizeLinear", [name, *grid], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *grid], [f"{name}_d"]))
    nodes.append(helper.make_node("Concat", ["a_d", "b_d"], ["joined"], axis=1))
    nodes.append(helper.make_node("Conv", ["joined", "weight"], ["y"]))
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, channels, 4, 4))
        for name, channels in (("a", 2), ("b", 2), ("y", 4))
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        infos[:2],
        infos[2:],
        [numpy_helper.from_array(t, n) for n, t in tensors.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9)


@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 128), (np.int8, 0)])
def test_what_the_encoding_is_chosen_for(tmp_path: Path, dtype: type, zero: int) -> None:
    """Where OpenVINO mends int8, the second case fails: then the note of ``onnx`` can go.

    Its kernel for AMX is right already.
    """
    onnx.save(concatenated(dtype, zero), tmp_path / "net.onnx")
    values = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 1, 2, 4, 4)).astype(np.float32)
    joined = np.concatenate(list(values), 1)
    error = np.abs(Session(tmp_path / "net.onnx", provider="openvino").run(*values) - joined).max()
    right = dtype is np.uint8 or "amx_int8" in Path("/proc/cpuinfo").read_text()
    assert error < 0.006 if right else error > 0.1


def test_its_graph_is_onnxruntimes_in_the_encoded_stage(small: Compressed) -> None:
    from waveedge.export.torch_to_onnx import to_onnx

    traced = to_onnx(small.graph, (3, 32, 32))
    encoded = [lower(traced, name).encoded.graph.node for name in ("ort", "openvino")]
    assert [node.op_type for node in encoded[0]] == [node.op_type for node in encoded[1]]
    assert set(TARGETS) >= {"ort", "openvino"}
