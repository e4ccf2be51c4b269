"""Several runs under way at once: what runs them, and what is counted."""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from waveedge.errors import InputError
from waveedge.runtime import Session, benchmark
from waveedge.runtime.throughput import default_streams, measure_throughput


class Sleeper:
    """A backend whose runs take a while, on a machine that does several of them at once."""

    parallel = "sleepers"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.inside = 0
        self.most = 0
        self.lock = threading.Lock()

    def streams(self, count: int) -> list[Sleeper]:
        return [self] * count

    def run(self, *_: object) -> list[Any]:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(self.seconds)
        with self.lock:
            self.inside -= 1
        return []


def test_streams_run_at_once_and_each_image_counts() -> None:
    fast, slow = Sleeper(0.004), Sleeper(0.012)
    image = np.zeros((2, 3, 4, 4), np.float32)
    found = measure_throughput([fast, slow], [image], streams=3, seed=0, seconds=0.05)  # type: ignore[arg-type]
    assert (fast.most, slow.most) == (3, 3)
    assert (found.streams, found.batch, len(found.a.samples)) == (3, 2, 10)
    # Three streams of two images: never more than sleeping allows, and not a whole machine less.
    assert 0.02 * 6 / 0.004 < found.a.value <= 6 / 0.004
    assert found.a.low <= found.a.value <= found.a.high
    assert found.ratio.value > 1.5, "above 1, A is the faster one"
    assert found.a.how == "sleepers"


def test_one_network_alone_is_kept_busy_without_another() -> None:
    backend = Sleeper(0.002)
    image = np.zeros((1, 3, 4, 4), np.float32)
    found = measure_throughput([backend], [image], streams=2, seed=0, seconds=0.0)  # type: ignore[list-item]
    assert backend.most == 2
    assert len(found.a.samples) == 10
    assert 0 < found.a.low <= found.a.value <= found.a.high <= 2 / 0.002
    assert (found.b, found.ratio) == (None, None)


def test_one_stream_is_a_run_after_the_other() -> None:
    backend = Sleeper(0.002)
    image = np.zeros((1, 3, 4, 4), np.float32)
    measure_throughput([backend, backend], [image], streams=1, seed=0, seconds=0.0)  # type: ignore[arg-type]
    assert backend.most == 1


@pytest.mark.parametrize("streams", [0, 65])
def test_streams_have_bounds(chain: Path, streams: int) -> None:
    session = Session(chain)
    with pytest.raises(InputError, match=f"streams is {streams}\nUse 1 to 64"):
        measure_throughput([session, session], session.example_inputs(), streams=streams, seed=0)


def test_by_default_they_fill_the_machine() -> None:
    cpu, gpu = SimpleNamespace(engine=None), SimpleNamespace(engine=object())
    assert default_streams(cpu, cpu, threads=1, cores=6) == 6  # type: ignore[arg-type]
    assert default_streams(cpu, cpu, threads=4, cores=6) == 1  # type: ignore[arg-type]
    assert default_streams(cpu, cpu, threads=8, cores=6) == 1  # type: ignore[arg-type]
    assert default_streams(cpu, gpu, threads=1, cores=6) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_streams_compute_the_same(chain: Path, provider: str) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino")
    session = Session(chain, provider=provider)
    x = session.example_inputs()
    wanted = session.run(*x)
    backends = session.streams(3)
    assert len({id(backend) for backend in backends}) == 3
    for backend in backends:
        np.testing.assert_allclose(backend.run(*x)[0], wanted, atol=1e-6)


def test_contexts_of_one_engine(driver: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(b"enterprise")
    session = Session(path)
    x = np.ones((1, 3, 4, 4), np.float32)
    session.run(x)
    backends = session.streams(3)
    assert backends[0] is session.engine
    engines: list[Any] = list(backends)
    assert len({id(one._engine) for one in engines}) == 1, "one engine, its weights once"
    assert len({id(one._context) for one in engines}) == 3
    assert len({one._cuda.stream for one in engines}) == 3
    for number, engine in enumerate(engines):
        np.testing.assert_array_equal(engine.run(number * x)[0], 2 * number * x)
    assert len(driver.blocks) == 6, "buffers of their own"


def test_the_report_says_how(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = partial(measure_throughput, seconds=0.05)  # the report has the length of a window, too
    monkeypatch.setattr(sys.modules[benchmark.__module__], "measure_throughput", short)
    result = benchmark(chain, chain, runs=3, memory=False, throughput=True, streams=2)
    assert result.throughput is not None
    table = result.table()
    assert "A / B (95 % interval)" in table
    assert "Throughput: 2 runs of 1 at once, in threads, 10 windows of 0.05 s of each side" in table
    assert "A and B: onnxruntime sessions of their own" in table
    assert result.to_dict()["throughput"]["b"]["value"] == result.throughput.b.value
    assert benchmark(chain, chain, runs=3, memory=False).to_dict()["throughput"] is None


@pytest.mark.usefixtures("driver")
def test_memory_for_fewer_streams_is_told(driver: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(b"enterprise")
    driver.memory = 9000  # two sessions are loaded three times, and a context takes 1000
    result = benchmark(path, path, runs=3, memory=False, throughput=True, streams=9)
    assert result.throughput is None
    (note,) = (note for note in result.notes if note.startswith("No throughput with 9 streams"))
    assert "cuMemAlloc_v2 returned CUDA error 2" in note


def test_streams_alone_make_no_sense(chain: Path) -> None:
    with pytest.raises(InputError, match="streams are for throughput"):
        benchmark(chain, chain, streams=2)
