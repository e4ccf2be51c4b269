"""Engines: a real build without a GPU where TensorRT-RTX is installed, and the device's script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import waveedge
from waveedge.errors import MissingDependencyError
from waveedge.export.device_script import write_build_script
from waveedge.export.layers import layers_of, seen_in_engine
from waveedge.export.lint import lint
from waveedge.export.lowering import lower
from waveedge.runtime.build import build
from waveedge.runtime.cuda import gpu_count
from waveedge.runtime.engine_builder import backend_version, build_engine

rtx = pytest.mark.skipif(
    backend_version("tensorrt_rtx") is None, reason="TensorRT-RTX (extra [rtx]) is not installed"
)


@rtx
def test_every_layer_of_the_graph_is_built(everything):
    """Also shows that the lint is not stricter than the builder, and which kernels are int8."""
    graph = lower(everything.traced, "trt").encoded
    assert [finding for finding in lint(graph) if finding.level == "error"] == []
    build = build_engine(graph.SerializeToString(), "tensorrt_rtx")
    assert build.errors == []
    assert build.proxy
    assert build.targets == ("8.6", "8.9")
    assert build.engine
    layers = layers_of(everything.traced, everything.model)
    integer = seen_in_engine(build.kernels, layers)
    # A transposed convolution runs in float on TensorRT, quantized or not.
    wanted = {"stem/Conv", "depthwise/Conv", "mix/Conv", "up/MatMul", "down/MatMul", "wcc/Conv"}
    assert integer == wanted
    assert build.to_dict()["int8_kernels"] >= len(wanted)


@rtx
def test_a_dynamic_batch_is_built():
    relu = helper.make_node("Relu", ["input"], ["output"])
    shape = ["batch", 3, 8, 8]
    graph = helper.make_graph(
        [relu],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert build_engine(model.SerializeToString(), "tensorrt_rtx").engine


@rtx
def test_a_graph_that_parses_and_does_not_build_is_reported():
    """The limit of top-k shows only when building: why a bundle for TensorRT is built for real."""
    top = helper.make_node("TopK", ["input", "k"], ["output", "indices"], axis=1)
    graph = helper.make_graph(
        [top],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 8000])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 4000])],
        [numpy_helper.from_array(np.array([4000]), "k")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    build = build_engine(model.SerializeToString(), "tensorrt_rtx")
    assert build.engine is None
    assert build.errors
    assert not build.to_dict()["built"]
    assert [finding.rule for finding in lint(model)] == ["topk-limit"]


@pytest.mark.parametrize(
    ("backend", "extra"),
    [("tensorrt", "JetPack"), ("tensorrt_rtx", 'pip install "tensorrt-rtx-cu13==')],
)
def test_a_missing_backend_names_what_installs_it(monkeypatch, backend, extra):
    monkeypatch.setitem(sys.modules, backend, None)
    assert backend_version(backend) is None
    with pytest.raises(MissingDependencyError) as caught:
        build_engine(b"", backend)
    assert extra in caught.value.hint


@rtx
def test_engines_are_not_built_where_nothing_can_check_them(tmp_path):
    network = torch.nn.Conv2d(3, 4, 3).eval().requires_grad_(False)
    images = torch.rand(2, 3, 8, 8)
    waveedge.export(network, tmp_path / "net.rtx", target="trt-rtx", images=images)
    before = {file.name: file.read_bytes() for file in (tmp_path / "net.rtx").iterdir()}
    if gpu_count():
        pytest.skip("there is a GPU here")
    with pytest.raises(MissingDependencyError, match="no NVIDIA GPU here"):
        build(tmp_path / "net.rtx")
    assert {file.name: file.read_bytes() for file in (tmp_path / "net.rtx").iterdir()} == before


NEW, OLD = "[TensorRT v100300] [b26]", "[TensorRT v8601]"


def fake_trtexec(folder: Path, help: str = "--stronglyTyped") -> dict[str, str]:
    """A trtexec that prints its folder and its arguments."""
    tool = folder / "trtexec"
    tool.write_text(
        f'#!/bin/sh\n[ "$1" != --help ] || {{ echo "{help}"; exit; }}\n'
        'pwd\nfor a in "$@"; do echo "$a"; done\n'
    )
    tool.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_the_script_calls_trtexec_with_a_strongly_typed_network(tmp_path):
    bundle = tmp_path / "a bundle"
    bundle.mkdir()
    script = write_build_script(bundle, "input", [1, 3, 8, 8])
    done = subprocess.run(
        [script, "--trtexec", "--skipInference"],
        env=fake_trtexec(tmp_path),
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    where, *arguments = done.stdout.splitlines()
    assert Path(where) == bundle
    assert arguments == [
        "--onnx=model.onnx",
        "--saveEngine=model.engine",
        "--stronglyTyped",
        "--profilingVerbosity=detailed",
        "--useCudaGraph",
        "--noDataTransfers",
        "--skipInference",
    ]


@pytest.mark.parametrize(
    ("help", "builds"),
    [
        (f"&&&& RUNNING TensorRT.trtexec {OLD} --fp16 --int8", False),
        (f"&&&& RUNNING TensorRT.trtexec {NEW} --fp16", True),
        ("--stronglyTyped", True),
    ],
)
def test_the_script_refuses_the_trtexec_of_jetpack_6_0_in_one_line(tmp_path, help, builds):
    script = write_build_script(tmp_path, "input", [1, 3, 8, 8])
    done = subprocess.run(
        [script, "--trtexec"], env=fake_trtexec(tmp_path, help), capture_output=True, text=True
    )
    assert done.returncode == (0 if builds else 1)
    assert ("--stronglyTyped" in done.stdout) == builds
    (*said,) = done.stderr.splitlines()
    assert len(said) == (0 if builds else 1)
    assert all("JetPack 6.1" in line for line in said)


def test_the_script_gives_the_range_of_a_dynamic_batch(tmp_path):
    script = write_build_script(tmp_path, "input", ["batch", 3, 8, 16])
    done = subprocess.run(
        [script, "--trtexec"],
        env=fake_trtexec(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--minShapes=input:1x3x8x16" in done.stdout
    assert "--maxShapes=input:8x3x8x16" in done.stdout


def test_the_script_is_waveedge_build_where_that_is_installed(tmp_path):
    bundle = tmp_path / "a bundle"
    bundle.mkdir()
    script = write_build_script(bundle, "input", [1, 3, 8, 8])
    python = tmp_path / "python3"  # a fake: it knows waveedge, and prints what it shall do
    python.write_text('#!/bin/sh\n[ "$1" = -c ] || for a in "$@"; do echo "$a"; done\n')
    python.chmod(0o755)
    done = subprocess.run(
        [script, "--form", "a"],
        env=fake_trtexec(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["-m", "waveedge", "build", str(bundle), "--form", "a"]


def test_the_script_without_trtexec_says_what_to_install(tmp_path):
    script = write_build_script(tmp_path, "input", [1, 3, 8, 8])
    done = subprocess.run(
        ["/bin/sh", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "nvidia-jetpack" in done.stderr


def test_checker_accepts_what_is_built(everything):
    onnx.checker.check_model(lower(everything.traced, "trt").encoded, full_check=True)
