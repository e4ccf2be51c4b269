"""Small real ONNX networks, and bundles around them."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from waveedge.files import sha256
from waveedge.runtime import conditions, cuda, engine_manifest, race
from waveedge.runtime.bundle import Bundle, open_bundle
from waveedge.runtime.manifest import FORMAT, MANIFEST, seal


def save_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    outputs: Sequence[str],
    *,
    weights: dict[str, Any] | None = None,
    inputs: Sequence[str] = ("image",),
) -> Path:
    """Write a float32 ONNX model whose output shapes are left to inference."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def conv_chain(
    path: Path,
    *,
    depth: int = 3,
    channels: int = 3,
    width: int = 8,
    shape: Sequence[int | str] = (1, 3, 32, 32),
) -> Path:
    """Write ``depth`` 3x3 convolutions with ReLU, ``channels`` in and out, ``width`` between."""
    rng = np.random.default_rng(0)
    sizes = [channels, *[width] * (depth - 1), channels]
    nodes, weights, source = [], {}, "image"
    for index in range(depth):
        weight, conv, relu = f"w{index}", f"conv{index}", f"relu{index}"
        kernel = rng.standard_normal((sizes[index + 1], sizes[index], 3, 3))
        weights[weight] = (kernel / np.sqrt(9 * sizes[index])).astype(np.float32)
        nodes.append(helper.make_node("Conv", [source, weight], [conv], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [conv], [relu]))
        source = relu
    return save_graph(path, nodes, shape, [source], weights=weights)


def fields_of(folder: Path, name: str = "net", **changes: Any) -> dict[str, Any]:
    """Return a manifest's fields for the files in a folder, as export fills them, unsealed."""
    layer = {
        "name": "conv1",
        "type": "Conv",
        "requested": {"weight_bits": 8, "activation_bits": 4, "ratio": 1.0},
        "executed": {"weight_bits": 8, "activation_bits": 8},
    }
    return {
        "format": FORMAT,
        "name": name,
        "target": "ort",
        "task": "restoration",
        "model": "model.onnx",
        "baseline": "published.onnx",
        "engine": None,
        "provider": "cpu",
        "precision": "float32",
        "weights": "float32",
        "input": {"name": "image", "shape": [1, 3, 32, 32], "dtype": "float32"},
        "sizes": None,
        "outputs": [{"name": "relu2", "shape": ["batch", 3, 32, 32]}],
        "preprocessing": {
            "colour": "rgb",
            "range": [0.0, 1.0],
            "mean": [0.5],
            "std": [0.25, 0.5, 1.0],
        },
        "recipe": {"bits": 4, "skip": ["head"], "layers": {"a.*": {"wcc_ratio": 0.5}}},
        "autotune": None,
        "forms": [],
        "images": None,
        "layers": [layer],
        "files": {file.name: sha256(file) for file in folder.iterdir() if file.name != MANIFEST},
        "versions": {"waveedge": "0.1.0"},
        "source_sha256": "a" * 64,
        "artifact_sha256": None,
        "verification": "verification.json",
        "notes": ["verified on photos"],
        **changes,
    }


def write_bundle(folder: Path, *, name: str = "net", **changes: Any) -> Path:
    """Write a bundle with a slim model, a wide baseline, and the manifest that export writes."""
    folder.mkdir()
    conv_chain(folder / "model.onnx")
    conv_chain(folder / "published.onnx", width=16)
    (folder / "verification.json").write_text('{"passed": true}')
    (folder / MANIFEST).write_text(json.dumps(seal(fields_of(folder, name, **changes))))
    return folder


# Tests cannot import from here (folders of tests are no packages), so fixtures hand these out.


@pytest.fixture
def make_graph() -> Callable[..., Path]:
    return save_graph


@pytest.fixture
def make_chain() -> Callable[..., Path]:
    return conv_chain


@pytest.fixture
def make_bundle() -> Callable[..., Path]:
    return write_bundle


@pytest.fixture
def make_fields() -> Callable[..., dict[str, Any]]:
    return fields_of


DEVICE = {"library": "tensorrt 10.3.0", "gpu": "Orin", "compute_capability": "8.7"}
FORMS = ("w8a4-float32", "model.onnx", 40.0), ("published-float32", "published.onnx", 200.0)


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle with an engine for its own form and the published one, as built on this device."""
    forms = [
        {"name": name, "file": file, "precision": "float32", "snr_db": quality, "outputs": None}
        for name, file, quality in FORMS
    ]
    bundle = open_bundle(write_bundle(tmp_path / "net.trt", target="trt", forms=forms))
    for _, file, _ in FORMS:
        engine = bundle.path / file.replace(".onnx", ".engine")
        engine.write_bytes(b"engine")
        fields = {
            "onnx": file,
            "onnx_sha256": sha256(bundle.path / file),
            "engine_sha256": sha256(engine),
            "precision": "float32",
            **DEVICE,
            "profile": [],
            "snr_db": 60.0,
            "power_mode": "15W",
            "jetpack": "6.2",
            "clocks": {"cpu_hz": 10**9, "cpu_fixed": 1, "gpu_hz": 6 * 10**8, "gpu_fixed": None},
            "layers": 2,
            "executed": {"conv1": [8, 8]},
            "dla": None,
        }
        engine_manifest.sidecar(engine).write_text(engine_manifest.seal_engine(fields))
    for module in (engine_manifest, race):
        monkeypatch.setattr(module, "device_of", lambda library: DEVICE)
    settings = {"power_mode": None, "jetpack": None}
    monkeypatch.setattr(conditions, "_settings", lambda: settings)
    return bundle


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    return conv_chain(tmp_path / "chain.onnx")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "net.ort")


@pytest.fixture(scope="session")
def gpu() -> ModuleType:
    """The module of fakes, ``fake_gpu.py``."""
    spec = importlib.util.spec_from_file_location(
        "fake_gpu", Path(__file__).with_name("fake_gpu.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def driver(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A machine with one GPU, tensorrt and tensorrt_rtx."""
    driver = gpu.FakeDriver()
    monkeypatch.setattr(cuda, "_driver", lambda: driver)
    monkeypatch.setitem(sys.modules, "tensorrt", gpu.fake_tensorrt("tensorrt", b"enterprise"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", gpu.fake_tensorrt("tensorrt_rtx", b"rtx"))
    yield driver
    assert driver.blocks == {}, "all device memory was given back"
    assert driver.executables == 0, "and all graphs"
