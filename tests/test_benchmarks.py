"""The benchmark's parts on small inputs, and one measurement from command line to tables."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

ROOT = Path(__file__).parents[1]
# At the end: the installed waveedge comes first, not the folder of that name.
sys.path.append(str(ROOT))

from benchmarks import networks, settings, trials  # noqa: E402
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.costs import account, quantized_by_peer  # noqa: E402
from benchmarks.peers import PEERS, Peer, run_peer  # noqa: E402
from benchmarks.records import Records  # noqa: E402
from benchmarks.roofline import Peaks, measure_peaks  # noqa: E402
from benchmarks.weights import unit_variance  # noqa: E402
from waveedge.cost import profile  # noqa: E402
from waveedge.errors import ExportError, MissingDependencyError  # noqa: E402
from waveedge.models.families import network  # noqa: E402


def small_onnx(folder: Path) -> Path:
    """A 3x3 convolution called ``0``, from 2 to 4 channels on 8x8 maps."""
    weight = np.random.default_rng(0).standard_normal((4, 2, 3, 3), np.float32)
    node = helper.make_node("Conv", ["input", "w"], ["y"], name="0/Conv", pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 2, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, 8, 8))],
        [numpy_helper.from_array(weight, "w")],
    )
    path = folder / "small.onnx"
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def test_records_survive_and_replace(tmp_path: Path) -> None:
    path = tmp_path / "results" / "speed.json"
    records = Records(path, ("network", "threads"))
    records.add({"network": "a", "threads": 1, "snr_db": math.inf})
    records.add({"network": "a", "threads": 2, "ratio": 2.123456789})
    records.add({"network": "a", "threads": 1, "error": "it broke"})
    again = Records(path, ("network", "threads"))
    assert again.rows == [
        {"network": "a", "threads": 1, "error": "it broke"},
        {"network": "a", "threads": 2, "ratio": 2.1235},
    ]
    assert again.find(threads=3) is None
    again.drop(threads=2)
    assert len(json.loads(path.read_text())) == 1


@pytest.mark.parametrize(
    ("config", "released"),
    [
        (networks._SUPER_RESOLUTION, "wavemix_sisr_144_4"),
        (networks._classifier(16), "wavemix_imagenet_192_16"),
        (networks._WTCONVNEXT_T, "wtconvnext_tiny"),
    ],
)
def test_full_size_networks_are_the_released_ones(config: Any, released: str) -> None:
    shapes = json.loads((ROOT / "tests/data/golden/released_shapes.json").read_text())[released]
    with torch.device("meta"):
        state = network(config).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == shapes["state_dict"]


def test_random_weights_keep_unit_variance_and_every_branch() -> None:
    config = networks._SUPER_RESOLUTION.model_copy(update={"dim": 16, "ff_channels": 16})
    images = list(np.random.default_rng(0).standard_normal((2, 1, 3, 16, 16), np.float32))
    model = unit_variance(network(config).eval(), images)
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(
                lambda _m, _x, y, name=name: seen.update({name: float(y.std())})
            )
    with torch.no_grad():
        model(torch.from_numpy(np.concatenate(images)))
    assert len(seen) == 4 * 4 + 4
    assert all(0.5 < deviation < 2 for deviation in seen.values()), seen


def test_account_by_hand(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)).eval()
    cost = profile(model, (8, 8))
    plain = account(cost, image_elements=128, output_elements=256)
    assert plain.macs == 64 * 4 * 2 * 9
    assert plain.bops == plain.macs * 32 * 32
    assert plain.feature_bits == 128 * 32
    assert plain.minimal_bytes == 4 * (76 + 128 + 256)
    assert plain.layer_bytes == plain.minimal_bytes  # one layer: it moves what the network does
    float_model = small_onnx(tmp_path)
    assert account(quantized_by_peer(cost, float_model), 128, 256) == plain


def test_onnxruntime_peer_quantizes_and_is_counted(tmp_path: Path) -> None:
    model, images = small_onnx(tmp_path), tmp_path / "images.npz"
    np.savez(images, images=np.random.default_rng(1).standard_normal((4, 2, 8, 8), np.float32))
    peer = next(peer for peer in PEERS if peer.name == "onnxruntime")
    out = tmp_path / "out.onnx"
    versions = run_peer(peer, peer.settings["MinMax"], model, images, out)
    assert "onnxruntime" in versions
    cost = profile(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)).eval(), (8, 8))
    quantized = account(quantized_by_peer(cost, out), 128, 256)
    assert quantized.bops == cost.macs * 8 * 8
    with pytest.raises(ExportError, match="Nonsense"):
        run_peer(peer, {"method": "Nonsense"}, model, images, out)


def test_a_missing_peer_says_how_to_get_it(tmp_path: Path) -> None:
    peer = Peer("nowhere", "Nowhere", ("nowhere==1",), {"default": {}})
    with pytest.raises(MissingDependencyError) as caught:
        run_peer(peer, {}, tmp_path, tmp_path, tmp_path / "out.onnx")
    assert caught.value.hint == "python -m benchmarks.peers nowhere"


def test_a_peer_gets_its_fastest_accurate_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"fast, bad": (3.0, 10.0), "slow, best": (1.0, 31.0), "fast, good": (2.0, 29.0)}
    peer = Peer("p", "P", (), {name: {"name": name} for name in (*figures, "broken")})

    def run(_peer: Peer, options: dict[str, str], *_: Path) -> tuple[Path, dict[str, str]]:
        if options["name"] == "broken":
            raise ExportError("it broke")
        return Path(options["name"]), {}

    monkeypatch.setattr(trials, "_run", run)
    monkeypatch.setattr(
        trials, "measure", lambda file, *_, **__: {"cpu_ratio": {"value": figures[file.name][0]}}
    )
    monkeypatch.setattr(trials, "fidelity", lambda file, *_: {"snr_db": figures[file.name][1]})
    best = trials.best_setting(peer, tmp_path, tmp_path, [], cache=tmp_path)
    assert best.setting == "fast, good"
    assert best.tried[-1] == {"setting": "broken", "error": "it broke"}
    assert len(best.tried) == 4


def test_roofline_is_the_larger_bound() -> None:
    peaks = Peaks(threads=1, float32_gmacs=10, int8_gmacs=40, copy_gb=5)
    assert peaks.seconds(1e9, 1e6, int8=False) == pytest.approx(0.1)
    assert peaks.seconds(1e9, 1e6, int8=True) == pytest.approx(0.025)
    assert peaks.seconds(1e6, 1e9, int8=True) == pytest.approx(0.2)
    measured = measure_peaks(1, sizes=(64,), repeats=1)
    assert min(measured.float32_gmacs, measured.int8_gmacs, measured.copy_gb) > 0


def test_command_line_measures_resumes_and_writes_tables(tmp_path: Path) -> None:
    arguments = ["--quick", "--runs", "1", "--only", "wtconv_l2", "--stage", "speed"]
    arguments += ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    main(arguments)
    path = tmp_path / "out" / "speed.json"
    rows = {row["variant"]: row for row in json.loads(path.read_text())}
    exact = rows["exact"]
    assert (exact["network"], exact["threads"], exact["runs"]) == ("wtconv_l2", 1, 1)
    for ratio in (exact["cpu_ratio"], exact["wall_ratio"]):
        assert 0 < ratio["low"] <= ratio["value"] <= ratio["high"]
    assert exact["max_error"] < 1e-4
    assert exact["peak_ratio"] is None or exact["peak_ratio"] > 0
    # A peer that is not installed here is recorded with the reason.
    assert "onnxslim" in rows
    assert "WTConv layer" in (tmp_path / "out" / "speed.md").read_text()
    assert (tmp_path / "out" / "speed.png").stat().st_size > 1000

    main([*arguments, "--resume"])
    again = {row["variant"]: row for row in json.loads(path.read_text())}
    assert again["exact"] == exact


def test_memory_settings_are_measured_and_tabulated(tmp_path: Path) -> None:
    model = small_onnx(tmp_path)
    rows = [
        {"network": "segmenter_128x4", "variant": "int8", "setting": name}
        | {"peak_bytes": settings._peak(model, name)}
        for name in settings.SETTINGS
    ]
    assert all(0 <= row["peak_bytes"] < 1 << 26 for row in rows)
    rows[-1]["cpu_ratio"] = {"value": 1.05, "low": 1.02, "high": 1.1}
    lines = [line for line in settings._render(rows).splitlines() if "segmenter" in line]
    assert lines[0].endswith("| 1.05 [1.02, 1.10] |")
    assert len(lines) == 2
    assert lines[1].count("B |") == 4
