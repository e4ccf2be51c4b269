"""Where a network takes memory, apart: each figure, or why there is none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from waveedge.runtime import Session, benchmark, footprint, memory
from waveedge.runtime.figures import Footprint
from waveedge.runtime.memory import PeakMemory

MIB = 2**20


def taken(path: Path, **options: Any) -> Footprint:
    return footprint.footprint(Session(path, **options), threads=1, shape=(1, 3, 32, 32))


def engine_in(folder: Path) -> Path:
    path = folder / "model.engine"
    path.write_bytes(b"enterprise")
    return path


def alone(monkeypatch: pytest.MonkeyPatch, **figures: Any) -> None:
    """What a process of its own would say."""
    found = PeakMemory(None, None, **figures)
    monkeypatch.setattr(memory, "peak_memory", lambda *_, **__: found)


def test_onnxruntime_on_the_cpu(chain: Path) -> None:
    found = taken(chain)
    assert found.weights_bytes == chain.stat().st_size
    assert (found.context_bytes, found.board_bytes) == (None, None)
    assert found.process_bytes is not None
    # Python with numpy and onnxruntime.
    assert 30 * MIB < found.process_bytes < 400 * MIB
    assert found.how["context"] == "only an engine has an execution context"
    assert found.how["board"] == "no GPU shares this memory"


def test_the_process_is_at_least_what_runs_add(tmp_path: Path, make_chain: Any) -> None:
    path = make_chain(tmp_path / "wide.onnx", width=64, shape=(1, 3, 256, 256))
    found = memory.peak_memory(path)
    assert found.peak_bytes is not None
    assert found.loaded_bytes is not None
    assert found.process_bytes is not None
    assert found.process_bytes >= found.loaded_bytes + found.peak_bytes


@pytest.mark.usefixtures("driver")
def test_an_engine_has_all_five_where_memory_is_shared(
    driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.integrated = True
    alone(monkeypatch, process_bytes=90 * MIB, board_bytes=120 * MIB)
    found = taken(engine_in(tmp_path))
    assert found.weights_bytes == 777
    assert found.activation_bytes == 12345
    assert found.context_bytes == 1000
    assert found.process_bytes == 90 * MIB
    assert found.board_bytes == 120 * MIB
    assert set(found.how) == {"weights", "activation", "context", "process", "board"}
    assert all(found.how.values())


@pytest.mark.usefixtures("driver")
def test_a_card_has_memory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch, process_bytes=90 * MIB, board_bytes=120 * MIB)
    found = taken(engine_in(tmp_path))
    assert found.board_bytes is None
    assert found.how["board"] == "the GPU has memory of its own"


@pytest.mark.usefixtures("driver")
def test_what_shrank_meanwhile_is_no_figure(
    driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.integrated = True
    alone(monkeypatch, board_bytes=-5)
    session = Session(engine_in(tmp_path))
    assert session.engine is not None
    session.engine.context_bytes = -4096
    found = footprint.footprint(session, threads=1, shape=(1, 3, 4, 4))
    assert (found.context_bytes, found.board_bytes) == (None, None)
    assert "other programs gave memory back" in found.how["context"]
    assert "other programs gave memory back" in found.how["board"]


@pytest.mark.usefixtures("driver")
def test_before_10_16_weights_are_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["tensorrt"], "EngineStat")
    alone(monkeypatch)
    found = taken(engine_in(tmp_path))
    assert found.weights_bytes == len(b"enterprise")
    assert "kernels included" in found.how["weights"]


@pytest.mark.usefixtures("driver")
def test_the_report_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch, process_bytes=90 * MIB)
    path = engine_in(tmp_path)
    result = benchmark(path, path, runs=3, warmup=0)
    rows = {row[0]: row[1] for row in result.rows()}
    assert rows["weights"] == "0.8 KiB"
    assert rows["execution context"] == "1.0 KiB"
    assert rows["process, peak resident memory"] == "90.00 MiB"
    assert "the board's memory" not in rows
    assert result.to_dict()["a"]["memory"]["how"]["board"] == "the GPU has memory of its own"


def test_openvino_has_a_process_and_no_peak(chain: Path) -> None:
    pytest.importorskip("openvino")
    found = taken(chain, provider="openvino")
    assert found.activation_bytes is None
    assert "OpenVINO keeps its memory" in found.how["activation"]
    assert found.process_bytes is not None
