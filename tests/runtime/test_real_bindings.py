"""What a device does with a bundle, by the names of NVIDIA's real bindings, on a strict fake."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import waveedge
from waveedge.runtime.child import environment

VERSIONS = {"10.3.0": "JetPack 6.1", "10.13.3.9": "7.0", "10.16.1.11": "7.2", "11.4.0.106": "7.2.2"}
WHOLE = "10.3.0"
"""Where that is done too which calls nothing else of the bindings."""
ALWAYS = (WHOLE, "11.4.0.106")
"""The oldest and the newest; the others where ``WAVEEDGE_BINDINGS`` is ``all``."""
SYMBOLS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL"),
    *("createInferRuntime_INTERNAL", "createNvOnnxParser_INTERNAL"),
    *("createNvOnnxParserRefitter_INTERNAL", "getBuilderPluginRegistry", "getPluginRegistry"),
    *("getNvOnnxParserVersion", "initLibNvInferPlugins"),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1)
    )
    images = torch.rand(4, 3, 16, 16)
    small = waveedge.compress(network.eval(), images, bits=8)
    out = tmp_path_factory.mktemp("bundle") / "net.trt"
    return waveedge.export(small, out, target="trt", images=images).path


def bindings(version: str, folder: Path) -> dict[str, str]:
    """Environment in which the bindings of a version import; skips where they cannot be had."""
    compiler = shutil.which("cc")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("needs a C compiler, and x86-64")
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder))
    fetched = subprocess.run(
        [*pip, "--disable-pip-version-check", f"tensorrt-cu12-bindings=={version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"the bindings of {version} cannot be had: {fetched.stderr.strip()[-200:]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    source = folder / "nothing.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in SYMBOLS))
    major = version.partition(".")[0]
    for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        name = f"lib{library}.so.{major}"
        command = [compiler, "-shared", "-fPIC", "-o", str(folder / name), str(source)]
        subprocess.run([*command, f"-Wl,-soname,{name}"], check=True)
    found = environment()
    found["PYTHONPATH"] = os.pathsep.join([str(folder), found["PYTHONPATH"]])
    return {**found, "LD_LIBRARY_PATH": str(folder)}


@pytest.fixture(scope="module")
def free(bundle: Path) -> Path:
    """A bundle of a free batch, beside the other."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    images = torch.rand(2, 3, 16, 16)
    out = bundle.with_name("free.trt")
    return waveedge.export(network, out, target="trt", images=images, batch="dynamic").path


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: f"{version}-{VERSIONS[version]}")
def test_a_bundle_is_built_run_and_refused(
    version: str, bundle: Path, free: Path, tmp_path: Path
) -> None:
    if version not in ALWAYS and os.environ.get("WAVEEDGE_BINDINGS") != "all":
        pytest.skip("between the oldest and the newest bindings: WAVEEDGE_BINDINGS=all runs it")
    here = tmp_path / "net.trt"
    shutil.copytree(bundle, here)
    shutil.copytree(free, tmp_path / free.name)
    program = Path(__file__).with_name("strict_tensorrt.py")
    (tmp_path / "bindings").mkdir()
    done = subprocess.run(
        [sys.executable, str(program), str(here), "whole" if version == WHOLE else "calls"],
        env=bindings(version, tmp_path / "bindings"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert set(found["forms"]) == {
        f"{network}-{precision}"
        for network in ("w8a8", "published", "rewritten")
        for precision in ("float32", "float16", "bfloat16")
    }
    assert all(quality == 200 for quality in found["forms"].values())  # the fake is onnxruntime
    assert found["manifest"]["library"] == f"tensorrt {version}"
    assert found["manifest"]["gpu"] == "Orin"
    assert found["manifest"]["compute_capability"] == "8.7"
    assert found["manifest"]["precision"] == "float32"
    assert found["manifest"]["executed"] == found["executed"] == {"0": [8, 8], "2": [8, 8]}
    assert found["precisions"] == [name.rpartition("-")[2] for name in found["forms"]]
    assert found["manifest"]["layers"] == 2
    assert found["strongly_typed"]
    assert found["workspace"] == 2**20
    assert found["level"] == 2
    assert found["verbosity"] == "ProfilingVerbosity.DETAILED"  # else the inspector tells names
    assert found["progress"][0] == ["Building", 1, 2]
    assert (found["cache_first"], found["cache_then"]) == ("measured", "measured")
    assert found["free"] == [[1, 3, 16, 16], [1, 3, 16, 16], [8, 3, 16, 16]]
    assert found["profile"] == [[1, 3, 16, 16], [1, 3, 32, 48], [8, 3, 64, 64]]
    assert found["profile_of_4"] == [[1, 3, 16, 16], [4, 3, 32, 48], [8, 3, 64, 64]]
    assert found["reused"] == [True] * 9
    laps = {lap["form"]: lap for lap in found["race"]}
    assert set(laps) == set(found["forms"])
    # Of 100 dB only the float32 forms of the network itself.
    good = {name for name, lap in laps.items() if lap["admitted"]}
    assert good == {"published-float32", "rewritten-float32"}
    (chosen,) = (lap for lap in laps.values() if lap["chosen"])
    assert chosen["form"] in good
    assert chosen["slower"][0] == 1
    assert chosen["ms"] == min(laps[name]["ms"] for name in good)
    assert found["raced"] == chosen["file"].replace(".onnx", ".engine")
    assert found["raced_bits"] == "w8a8"  # the fake's inspector says so of every form
    assert "no engine of" in found["too_much"]
    assert "model.engine was built for the GPU Orin" in found["not_here"]  # the race is forgotten
    assert found["backend"] == f"tensorrt {version}"
    assert found["same"]
    assert found["baseline"] == "published-float16.engine"
    assert found["on_gpu"] == [True, 4096]
    counts = tuple(int(part) for part in version.split(".")[:2]) >= (10, 16)
    memory = found["memory"]
    assert memory["weights_bytes"] == (777 if counts else (bundle / "model.onnx").stat().st_size)
    assert (memory["activation_bytes"], memory["context_bytes"]) == (4096, 0)
    # The fake lives in this process alone: one of its own finds no TensorRT, and says so.
    assert (memory["process_bytes"], memory["board_bytes"]) == (None, None)
    assert "the probe ended with status 1: running " in memory["how"]["process"]
    assert found["alone"]["process_bytes"] > 2**20
    assert found["graph"] == ["", True]
    assert "built for the GPU Orin, and here is Thor" in found["other_gpu"]
    assert f"built by tensorrt {version}, and here is tensorrt 10.99" in found["other_version"]
    assert "TensorRT 8.6.1 is too old" in found["old"]
    assert "JetPack 6.1" in found["old"]
    assert "model.engine is damaged" in found["damaged"]
    for refused in ("other_gpu", "other_version", "damaged", "no_manifest"):
        assert "waveedge build " in found[refused]
    assert "dB from onnxruntime" in found["wrong_numbers"]
    assert found["kept"]
    assert "does not build the form w8a8-float32: no such operator" in found["refused"]
    assert "has no manifest" in found["no_manifest"]
    for foreign in ("foreign", "replaced", "foreign_json"):
        assert "was not built by waveedge" in found[foreign]
    assert found["not_eaten"]
    assert found["json_not_eaten"]
    assert found["memory_left"] == 0
    assert "dB from its form" in found["bfloat16"]["wrong"]
    assert re.fullmatch(r"[a-z0-9]+-bfloat16\.engine", found["bfloat16"]["raced"])
    dla = found["dla"]
    assert f"tensorrt {version} sees no DLA core here" in dla["none"]
    assert "from 11.4.1 on" in dla["none"]
    assert "sees 1 DLA cores here, and no core 1" in dla["one"]
    assert (dla["built"]["dla_core"], dla["built"]["on_dla"]) == (1, 2)  # its convolutions
    assert dla["built"]["on_gpu"]
    assert dla["manifest"] == {"core": 1, "on_dla": 2, "on_gpu": dla["built"]["on_gpu"]}
    assert dla["flag"] == "BuilderFlag.GPU_FALLBACK"
    assert dla["session"] == [f"tensorrt {version}, DLA core 1", 1]
    beside = "rewritten-float16.dla1.engine"
    assert dla["kept"] == [[beside, True, 1], ["rewritten-float16.engine", True, None]]
    raced = [(lap["form"], lap["dla_core"]) for lap in dla["race"]]
    assert len(raced) == 10
    assert {("rewritten-float16", 1), ("rewritten-float16", None)} < set(raced)
    assert dla["raced"] == [beside, f"tensorrt {version}, DLA core 1", 1]
    assert dla["bits"] == "w8a8"  # as the fake's inspector says
    assert dla["of_no_form"] == "model.onnx"
    assert dla["replaceable"]
    assert "the DLA runs no layer of it" in dla["nothing"]
    assert "--form rewritten-float16" in dla["nothing"]
    if version == WHOLE:
        check_the_rest(found)


def check_the_rest(found: dict[str, Any]) -> None:
    """What is the same for every version."""
    # Two engines, each with its manifest, and nothing half written but what the next run clears.
    number, named, hidden = found["after_a_kill"]
    assert (number, len(named), hidden) == (signal.SIGKILL, 4, 1)
    assert found["hidden"] == []
    lies, reused = found["after_a_cut"]
    assert set(named) < set(lies)
    assert len(lies) == 8
    assert reused == [*[True] * 4, *[False] * 5]
    assert found["from_the_desk"] == [8]  # as the inspector says
    # A race that is cut short chooses nothing, and the next one builds nothing again.
    assert found["race_cut"] == [False, [True] * 9]
    (warned,) = found["set_otherwise"]
    assert "was built in JetPack 6.1, and here is 7: " in warned
