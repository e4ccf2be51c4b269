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

from benchmarks import comparison, networks, peer_runner, roofline, settings, variants  # noqa: E402
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.choices import best_alternative, best_of  # noqa: E402
from benchmarks.contest import contest  # noqa: E402
from benchmarks.costs import account, quantized_by_peer  # noqa: E402
from benchmarks.environments import Environment  # noqa: E402
from benchmarks.machine import describe, name_of  # noqa: E402
from benchmarks.peer_tables import peers_page  # noqa: E402
from benchmarks.peers import Attempt, Peer, attempts, make  # noqa: E402
from benchmarks.quality_tables.__main__ import main as quality_main  # noqa: E402
from benchmarks.records import Record, Records  # noqa: E402
from benchmarks.roofline import Peaks, measure_peaks  # noqa: E402
from benchmarks.runners import InProcess, Served, Timed  # noqa: E402
from benchmarks.weights import unit_variance  # noqa: E402
from waveedge.cost import profile  # noqa: E402
from waveedge.errors import ExportError, MissingDependencyError, OutputError  # noqa: E402
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
    assert again.machine == describe()
    assert again.find(threads=3) is None
    again.drop(lambda row: row["threads"] == 2)
    assert len(json.loads(path.read_text())["records"]) == 1


CPUINFO = """processor\t: 0
cpu family\t: 25
model\t\t: {model}
model name\t: Some CPU
stepping\t: 1
flags\t\t: fpu sse avx2 avx512f avx512_vnni

processor\t: 1
cpu family\t: 99
"""


def machine(root: Path, model: int) -> dict[str, Any]:
    (root / "proc").mkdir(parents=True, exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(CPUINFO.format(model=model))
    return describe(root)


def test_a_machine_is_told_by_family_model_stepping_and_flags(tmp_path: Path) -> None:
    found = machine(tmp_path, 17)
    assert [found[name] for name in ("family", "model", "stepping")] == [25, 17, 1]
    assert found["isa"] == ["avx2", "avx512f", "avx512_vnni"]
    assert "Some CPU, family 25, model 17, stepping 1" in name_of(found)
    nowhere = describe(tmp_path / "nowhere")
    assert nowhere["family"] is None
    assert "family" not in name_of(nowhere)


def test_a_result_file_never_mixes_two_machines(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    old = Records(path, ("network",), machine(tmp_path, 1))
    old.add({"network": "a"})
    old.add({"network": "b"})
    new = Records(path, ("network",), machine(tmp_path, 17))
    written = path.read_text()
    with pytest.raises(OutputError, match="another machine: Some CPU, family 25, model 1,"):
        new.add({"network": "c"})
    with pytest.raises(OutputError, match="another machine"):
        new.drop(lambda row: row["network"] == "a")
    assert path.read_text() == written
    new.drop(lambda row: True)  # all that is to be measured again
    new.add({"network": "a"})
    held = json.loads(path.read_text())
    assert (held["machine"]["model"], held["records"]) == (17, [{"network": "a"}])


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


def attempt_of(name: str) -> Attempt:
    return next(attempt for attempt in attempts(int8=True) if attempt.name == name)


def test_onnxruntime_peer_quantizes_and_is_counted(tmp_path: Path) -> None:
    model, images = small_onnx(tmp_path), tmp_path / "images.npz"
    np.savez(images, images=np.random.default_rng(1).standard_normal((4, 2, 8, 8), np.float32))
    attempt = attempt_of("onnxruntime: MinMax, 7 bits of weights")
    out, versions = make(attempt, model, images, tmp_path / "cache")
    assert "onnxruntime" in versions
    cost = profile(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)).eval(), (8, 8))
    quantized = account(quantized_by_peer(cost, out), 128, 256)
    assert quantized.bops == cost.macs * 8 * 8
    nonsense = Peer(
        "onnxruntime", "", "onnxruntime", Environment(""), {"a": {"method": "Nonsense"}}
    )
    with pytest.raises(ExportError, match="Nonsense"):
        make(Attempt(nonsense, "a"), model, images, tmp_path / "cache")


def test_a_missing_peer_says_how_to_get_it(tmp_path: Path) -> None:
    peer = Peer("nowhere", "Nowhere", "onnxruntime", Environment("nowhere", ("nowhere==1",)))
    with pytest.raises(MissingDependencyError) as caught:
        make(Attempt(peer, "default"), tmp_path, tmp_path, tmp_path)
    assert caught.value.hint == "python -m benchmarks.peers nowhere"


def test_a_peer_calls_programs_of_its_own_and_installs_nothing(tmp_path: Path) -> None:
    """MNN's converter installs packages with the first pip on the path."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, shutil, subprocess, sys\n"
        "line = [shutil.which('python'), '-m', 'pip', 'install', '-q', 'absent-of-course']\n"
        "done = subprocess.run(line, capture_output=True)\n"
        "print(json.dumps({'python': line[0], 'status': done.returncode}))\n"
    )
    here = Environment("")
    found = here.run(worker, (), tmp_path / "log", "Nothing", 60)
    assert Path(found["python"]).parent == here.python.parent
    assert found["status"] == 1
    assert here.variables["PIP_NO_INDEX"] == "1"


def test_a_network_is_served_by_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model, image = small_onnx(tmp_path), np.ones((1, 2, 8, 8), np.float32)
    settings = {"float32": {"precision": "f32"}, "nonsense": {"precision": "f8"}}
    peer = Peer("openvino", "OpenVINO", "openvino", Environment(""), settings, ("precision",))
    served = Served(Attempt(peer, "float32"), model)
    wanted = InProcess(model).run(image).output
    for scale in (1, 2):
        found = served.run(scale * image)
        np.testing.assert_allclose(found.output, scale * wanted, rtol=1e-4, atol=1e-5)
        assert found.cpu_ms >= 0
        assert found.wall_ms > 0
    served.close()
    broken = Served(Attempt(peer, "nonsense"), model)
    with pytest.raises(ExportError, match="OpenVINO cannot run it: "):
        broken.run(image)


def test_arrays_pass_through_a_pipe_whole(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    arrays = [np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.float64([0.5, 2])]
    with path.open("wb") as stream:
        for array in arrays:
            peer_runner.send(stream, array)
    with path.open("rb") as stream:
        for array in arrays:
            np.testing.assert_array_equal(peer_runner.receive(stream), array)
        assert peer_runner.receive(stream) is None


class Counting:
    """A runner whose n-th run takes n times a unit; notes who ran on what."""

    runtime = "none"

    def __init__(self, name: str, unit: float, log: list[tuple[str, int]]) -> None:
        self.name, self.unit, self.log, self.count = name, unit, log, 0

    def run(self, image: np.ndarray[Any, Any]) -> Timed:
        self.count += 1
        self.log.append((self.name, int(image[0])))
        return Timed(image, self.count * self.unit, 0.0)

    def close(self) -> None:
        """Holds nothing."""


def test_a_contest_runs_every_form_once_a_round_in_random_order() -> None:
    log: list[tuple[str, int]] = []
    runners = {name: Counting(name, unit, log) for name, unit in (("a", 1), ("b", 10), ("c", 100))}
    images = [np.array([0]), np.array([1])]
    times = contest(runners, images, rounds=20, warmup=2, seed=0)
    np.testing.assert_array_equal(times["a"], np.arange(3, 23))  # warm-up is not counted
    np.testing.assert_array_equal(times["c"], 100 * times["a"])
    rounds = [log[start : start + 3] for start in range(0, len(log), 3)]
    assert all({name for name, _ in one} == {"a", "b", "c"} for one in rounds)
    assert all(len({image for _, image in one}) == 1 for one in rounds)
    assert len({one[0][0] for one in rounds}) == 3


def row(variant: str, speed: float, snr_db: float | None, **more: Any) -> Record:
    ratio = {"value": speed, "low": 0.9 * speed, "high": 1.1 * speed}
    fields = {"network": "wtconvnext_t", "variant": variant, "runtime": "r", "cpu_ms": 1 / speed}
    return {**fields, "cpu_ratio": ratio, "snr_db": snr_db, **more}


def against(rows: list[Record]) -> list[Record]:
    """Fills in what a contest would have measured: own / other."""
    own = {one["variant"]: one for one in rows if one["variant"] in ("exact", "int8")}
    for one in rows:
        speed = one["cpu_ratio"]["value"]
        one["against"] = {
            name: {"value": other["cpu_ratio"]["value"] / speed, "low": 0.0, "high": 9.0}
            for name, other in own.items()
        }
    return rows


CONTEST = (
    row("published", 1.0, None),
    row("exact", 2.0, 119.0),
    row("int8", 6.0, 28.0),
    row("openvino: float32", 3.0, 130.0),
    row("nncf: mixed preset", 7.0, 20.0),
    row("nncf: performance preset", 4.0, 28.5),
    row("nncf: mixed preset, transformer", 2.5, 30.0),
    row("inductor: frozen weights", 9.0, 22.0),
)


def test_the_best_alternative_is_no_worse_in_quality() -> None:
    rows = list(CONTEST)
    assert best_alternative(rows, rows[2])["variant"] == "nncf: performance preset"
    # 119 and 130 dB are both float32's rounding: neither is the better.
    assert best_alternative(rows, rows[1])["variant"] == "openvino: float32"
    failed = {"network": "wtconvnext_t", "variant": "mnn: default", "error": "it broke"}
    assert best_alternative([*rows[:3], failed], rows[2])["variant"] == "published"


def test_a_peer_is_shown_with_its_fastest_accurate_setting() -> None:
    best = best_of(CONTEST, "nncf")
    assert best is not None
    assert best["variant"] == "nncf: performance preset"
    assert best_of(CONTEST, "mnn") is None


def test_the_page_of_peers_names_the_best_alternative_and_what_is_faster_but_worse() -> None:
    page = "\n".join(peers_page(against(list(CONTEST))))
    line = next(line for line in page.splitlines() if "| waveedge w8a8 |" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2] == "6.00 (28.0 dB)"
    assert cells[3] == (
        "NNCF int8, performance preset; worse: torch.compile, float32, frozen weights"
    )
    assert cells[4] == "4.00 (28.5 dB); 9.00 (22.0 dB)"
    assert cells[5].startswith("1.50 [0.00, 9.00]; 0.67")


def test_roofline_is_the_larger_bound() -> None:
    peaks = Peaks(
        threads=1,
        float32_gmacs=10,
        int8_gmacs=40,
        int8_instructions="sdot",
        float32_library_gmacs=8,
        int8_library_gmacs=20,
        copy_gb=5,
    )
    assert peaks.seconds(1e9, 1e6, int8=False) == pytest.approx(0.1)
    assert peaks.seconds(1e9, 1e6, int8=True) == pytest.approx(0.025)
    assert peaks.seconds(1e6, 1e9, int8=True) == pytest.approx(0.2)


def test_peaks_are_the_registers_or_else_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "COPY_BYTES", 1 << 20)
    measured = measure_peaks(1, sizes=(64,), repeats=1)
    assert min(measured.float32_library_gmacs, measured.int8_library_gmacs, measured.copy_gb) > 0
    if measured.int8_instructions:  # a product of 64x64 spends much of its time on other things
        assert measured.float32_gmacs > measured.float32_library_gmacs
        assert measured.int8_gmacs > measured.float32_gmacs
    monkeypatch.setenv("PATH", "")
    without = measure_peaks(1, sizes=(64,), repeats=1)
    assert without.int8_instructions is None
    assert without.float32_gmacs == without.float32_library_gmacs


def test_command_line_measures_resumes_and_writes_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Peer("onnxslim", "onnxslim", "onnxruntime", Environment("nowhere", ("nowhere==1",)))
    monkeypatch.setattr(comparison, "attempts", lambda **_: iter([Attempt(missing, "default")]))
    for name in ("exact_openvino", "bf16_openvino"):  # one form is enough here
        monkeypatch.delitem(variants.OWN, name)
    arguments = ["--quick", "--runs", "1", "--only", "wtconv_l2", "--no-install"]
    arguments += ["--stage", "speed", "--stage", "peers"]
    arguments += ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    main(arguments)
    path = tmp_path / "out" / "speed.json"
    rows = {row["variant"]: row for row in json.loads(path.read_text())["records"]}
    exact = rows["exact"]
    assert (exact["network"], exact["threads"], exact["runs"]) == ("wtconv_l2", 1, 1)
    for ratio in (exact["cpu_ratio"], exact["wall_ratio"]):
        assert 0 < ratio["low"] <= ratio["value"] <= ratio["high"]
    assert exact["max_error"] < 1e-4
    assert exact["peak_ratio"] is None or exact["peak_ratio"] > 0
    assert "WTConv layer" in (tmp_path / "out" / "speed.md").read_text()
    assert (tmp_path / "out" / "speed.png").stat().st_size > 1000

    contest = json.loads((tmp_path / "out" / "peers.json").read_text())["records"]
    forms = {row["variant"]: row for row in contest}
    assert forms["published"]["cpu_ratio"]["value"] == 1
    ratios = forms["published"]["against"]["exact"], forms["exact"]["cpu_ratio"]
    assert ratios[0] == ratios[1]
    assert forms["exact"]["runtime"].startswith("onnxruntime")
    # A peer that is not installed here is recorded with the reason.
    assert forms["onnxslim: default"]["error"] == "the environment nowhere is not installed"
    page = (tmp_path / "out" / "peers.md").read_text()
    assert "| waveedge exact, float32 |" in page
    assert "onnxslim: default: the environment nowhere is not installed" in page

    main([*arguments, "--resume"])
    again = {row["variant"]: row for row in json.loads(path.read_text())["records"]}
    assert again["exact"] == exact


@pytest.mark.usefixtures("one_block")
def test_tables_of_quality_are_measured_resumed_and_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--quick", "--runs", "2", "--out", str(out), "--work", str(tmp_path / "work")]
    assert quality_main(arguments) == 0

    def rows(table: str) -> dict[str, Record]:
        held = json.loads((out / f"{table}.json").read_text())["records"]
        return {row["variant"]: row for row in held}

    typed, paper, halves = map(rows, ("quality_targets", "paper_table", "redundancy"))
    assert list(typed) == ["published", "int8_whole", "int8", "line"]
    assert typed["published"]["loss"] == 0
    for name in ("int8_whole", "int8", "line"):
        row, published = typed[name], typed["published"]
        lost = 100 * (published["value"] - row["value"])
        assert row["loss"] == pytest.approx(lost, abs=0.01)
        assert 0 < row["cpu_minutes"] < 5
        assert row["count"] == 200
        assert row["bits"]["int8"] > 0
    assert typed["int8"]["macs"] < typed["int8_whole"]["macs"]
    assert typed["line"]["bops"] < typed["int8"]["bops"]
    assert typed["int8_whole"]["cpu_ratio"]["value"] == 1
    assert typed["line"]["cpu_ratio"]["value"] != 1
    assert paper["published"]["cpu_ratio"]["value"] == 1
    for row in (typed["published"], paper["published"]):
        assert row["bops"] == pytest.approx(32 * 32 * row["macs"], rel=0.01)
    assert paper["w8a8"]["bops"] == pytest.approx(8 * 8 * paper["w8a8"]["macs"], rel=0.2)
    as_it_is, *halved, both = halves.values()
    assert as_it_is["value"] == typed["published"]["value"]
    for row in (*halved, both):
        assert row["channels_before"] == 2 * row["channels"] > 0
    assert both["channels"] == sum(row["channels"] for row in halved)
    assert both["macs"] < min(row["macs"] for row in halved)

    page = (out / "quality_targets.md").read_text()
    assert "| `--bits 4 --wcc-ratio 0.5` | takes at most 6 CPU minutes |" in page
    assert f"| `--bits 8` | {100 * typed['int8']['value']:.2f} |" in page
    paper_row = f"| 8/8, WCC 50 %, topk | {100 * paper['w8a8-topk50']['value']:.2f} |"
    assert paper_row in (out / "paper_table.md").read_text()
    assert "| half of both |" in (out / "redundancy.md").read_text()
    for table in ("quality_targets", "paper_table", "redundancy"):
        assert (out / f"{table}.png").stat().st_size > 1000

    # What was lost is measured again, and nothing else.
    path = out / "redundancy.json"
    held = json.loads(path.read_text())
    held["records"] = [row for row in held["records"] if row is not held["records"][1]]
    held["records"][0]["count"] = 2001
    path.write_text(json.dumps(held))
    assert quality_main([*arguments, "--resume"]) == 0
    assert rows("quality_targets") == typed
    assert rows("paper_table") == paper
    again = rows("redundancy")
    assert again.pop(as_it_is["variant"])["count"] == 2001
    assert again == {row["variant"]: row for row in (*halved, both)}


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
