"""One network measured alone: as a comparison is, without another and without ratios."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from waveedge.cli import main
from waveedge.errors import InputError
from waveedge.runtime import Session, benchmark
from waveedge.runtime.pairs import time_pairs, timing

Make = Callable[..., Path]

RATIOS = ("cpu_ratio", "wall_ratio", "memory_ratio", "size_ratio")


def test_runs_go_through_the_loop_of_pairs_without_another() -> None:
    seen: list[int] = []
    steps = [lambda image=image: seen.append(image) for image in range(3)]  # type: ignore[misc]
    counts: list[tuple[int, int]] = []
    cpu, wall, order = time_pairs(
        steps, runs=4, warmup=2, seed=0, progress=lambda *done: counts.append(done)
    )
    assert cpu.shape == wall.shape == (4, 1)
    assert order == ("A",) * 4
    assert seen == [1, 2, 0, 1, 2, 0], "images take turns, and nothing runs twice"
    assert counts == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("runs", [6, 7, 8, 9, 16, 30, 31, 100, 500])
def test_the_interval_of_a_median_is_as_wide_as_it_says(runs: int) -> None:
    # Of the times 1 ... n, the interval's lower end is the place that it has in their order.
    found = timing(np.random.default_rng(runs).permutation(np.arange(1.0, runs + 1)))
    place = int(found.low)
    assert found.high == runs + 1 - place
    assert found.low <= found.median <= found.high

    def missed(place: int) -> float:
        """How often a median of anything lies outside, by the binomial distribution."""
        return 2 * sum(comb(runs, below) for below in range(place)) / 2**runs

    assert missed(place) <= 0.051
    assert missed(place + 1) > 0.049, "a narrower one would not do"


def test_of_few_runs_the_interval_is_their_range() -> None:
    found = timing(np.array([3.0, 1.0, 2.0]))
    assert (found.low, found.median, found.high) == (1, 2, 3)


def test_a_file_is_measured_alone(chain: Path) -> None:
    result = benchmark(chain, runs=6, warmup=1, batches=(1, 2))
    assert (result.runs, result.order) == (6, ("A",) * 6)
    assert len(result.a.cpu.samples) == len(result.a.wall.samples) == 6
    values = json.loads(json.dumps(result.to_dict()))
    assert [values[name] for name in ("b", *RATIOS)] == [None] * 5
    one, two = values["batches"]
    assert one["b"] is one["wall_ratio"] is two["b"] is two["a"]["wall"] is None
    assert one["a"]["images_per_second"] == pytest.approx(1000 / one["a"]["wall"]["median"])
    assert "its batch must be 1, not 2" in two["a"]["reason"]
    assert values["a"]["memory"]["process_bytes"] or "process" in values["a"]["memory"]["how"]

    table = result.table()
    assert "B" not in {word.strip(":,") for word in table.split()}
    assert "6 runs after 1 to warm up" in table
    assert "Batch 2: the input has shape" in table
    rows = {row[0]: row[1:] for row in result.rows()}
    wall = result.a.wall
    interval = f"{wall.low:.2f} to {wall.high:.2f} ms"
    assert rows["wall time, median"] == (f"{wall.median:.2f} ms", interval)
    assert rows["wall time, p99"] == (f"{wall.p99:.2f} ms", "")


def test_its_throughput_has_an_interval_and_no_ratio(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from waveedge.runtime import throughput

    monkeypatch.setattr(throughput, "WINDOWS", 2)
    result = benchmark(chain, runs=3, memory=False, throughput=True, streams=2)
    found = result.to_dict()["throughput"]
    assert found["a"]["low"] <= found["a"]["value"] <= found["a"]["high"]
    assert found["b"] is found["ratio"] is None
    table = result.table()
    assert "A: images/s (95 % interval)" in table
    assert "2 windows of 0.5 s; copies are in it.\nA: onnxruntime sessions of their own" in table


def test_a_bundle_is_measured_alone_where_that_is_asked_for(bundle: Path) -> None:
    result = benchmark(bundle, alone=True, runs=3, warmup=0, memory=False)
    assert (result.a.name, result.b) == ("net", None)
    assert result.a.bits is not None
    assert ("bits, requested", "w8a4", "") in result.rows()
    assert not [note for note in result.notes if "as published" in note]


def test_a_bundle_without_a_published_network_says_so(tmp_path: Path, make_bundle: Make) -> None:
    result = benchmark(
        make_bundle(tmp_path / "lone.ort", baseline=None), runs=3, warmup=0, memory=False
    )
    assert result.b is None
    assert "The bundle carries no network as published: it was measured alone." in result.notes


def test_a_file_in_onnxruntimes_own_format(chain: Path, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "chain.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(chain), options, providers=["CPUExecutionProvider"])
    result = benchmark(tmp_path / "chain.ort", runs=3, warmup=0, memory=False)
    assert (result.a.name, result.b) == ("chain", None)


@pytest.mark.usefixtures("driver")
def test_an_engine_has_its_times_on_the_gpu_and_a_cuda_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(b"enterprise")
    result = benchmark(path, runs=4, warmup=1, memory=False)
    assert result.b is None
    rows = {row[0]: row[1:] for row in result.rows()}
    for part in ("copy to it", "execution", "copy back"):
        assert rows[f"GPU: {part}, median"] == ("2.50 ms", "2.50 to 2.50 ms")
    graph = result.a.cuda_graph
    assert graph is not None
    assert graph.on is not None
    interval = f"{graph.on.low:.2f} to {graph.on.high:.2f} ms"
    assert rows["wall time with CUDA graph"] == (f"{graph.on.median:.2f} ms", interval)
    assert rows["without / with"][0].endswith(")")


def test_its_drift_is_watched(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from waveedge.runtime.drift import Watch

    module = importlib.import_module("waveedge.runtime.benchmark")  # the name is the function's too
    zone = tmp_path / "sys/class/thermal/thermal_zone0/temp"
    zone.parent.mkdir(parents=True)
    zone.write_text("50000\n")
    monkeypatch.setattr(module, "Watch", lambda warmup: Watch(warmup, tmp_path))
    run = Session.run
    ran: list[int] = []

    def heats(self: Session, *arrays: Any) -> Any:
        ran.append(1)
        zone.write_text("50000\n" if len(ran) < 3 else "61500\n")
        return run(self, *arrays)

    monkeypatch.setattr(Session, "run", heats)
    result = benchmark(chain, runs=4, warmup=2, memory=False)
    assert "The machine warmed up: thermal_zone0 from 50.0 to 61.5 °C." in result.notes
    assert result.drift.temperatures == {"thermal_zone0": (50.0, 61.5)}


def test_the_plot_shows_one(chain: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    benchmark(chain, runs=3, memory=False).save_plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_alone_and_against_another_exclude_each_other(chain: Path) -> None:
    with pytest.raises(InputError, match="Give one of them"):
        benchmark(chain, chain, alone=True)


def test_the_command_line(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bundle.parent)
    for arguments in ([str(bundle), "--alone"], [str(bundle / "model.onnx")]):
        with pytest.raises(SystemExit) as left:
            main(["bench", *arguments, "--runs", "3", "--json"])
        printed = capfd.readouterr()
        assert left.value.code in (0, None), printed.err
        found = json.loads(printed.out)
        assert (found["b"], found["wall_ratio"], found["runs"]) == (None, None, 3)
