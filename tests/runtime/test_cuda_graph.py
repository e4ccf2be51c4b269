"""CUDA graphs of engines: captured once, launched after, and refused with the reason."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from waveedge.errors import WaveedgeError
from waveedge.runtime import benchmark
from waveedge.runtime.cuda import Cuda
from waveedge.runtime.cuda_graph import CudaGraph
from waveedge.runtime.engine import EngineBackend
from waveedge.runtime.pairs import bootstrap_ratio, device_ratio, timing


def engine_in(folder: Path) -> EngineBackend:
    path = folder / "model.engine"
    path.write_bytes(b"enterprise")
    return EngineBackend(path)


def image(seed: int, batch: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((batch, 3, 4, 4)).astype(np.float32)


def test_a_graph_is_captured_once_and_computes_the_same(driver: Any, tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    for seed in range(3):
        (found,) = engine.run_graph(image(seed))
        np.testing.assert_array_equal(found, 2 * image(seed))
        assert engine.times == (2.5, 2.5, 2.5)
    assert (len(driver.graphs), driver.launched) == (1, 3)
    assert len(driver.graphs[0]) == 1, "the execution, and no copies"
    engine.run(image(9))
    assert driver.launched == 3, "run() launches kernel by kernel"


def test_another_shape_is_captured_again(driver: Any, tmp_path: Path) -> None:
    """Its buffers may have moved, and a graph keeps addresses."""
    engine = engine_in(tmp_path)
    for batch in (1, 4, 1):
        (found,) = engine.run_graph(image(batch, batch))
        np.testing.assert_array_equal(found, 2 * image(batch, batch))
    assert (len(driver.graphs), driver.executables) == (3, 1)
    engine.run(image(0, 8))  # grows the buffers
    (found,) = engine.run_graph(image(5))
    np.testing.assert_array_equal(found, 2 * image(5))
    assert len(driver.graphs) == 4


def test_what_cannot_be_captured_is_an_error_and_the_engine_runs_on(
    driver: Any, tmp_path: Path
) -> None:
    engine = engine_in(tmp_path)
    engine._context.capturable = False
    with pytest.raises(WaveedgeError, match="failed to run the engine"):
        engine.run_graph(image(0))
    assert driver.capturing is None, "the stream left its capture"
    np.testing.assert_array_equal(engine.run(image(1))[0], 2 * image(1))


def test_a_driver_of_cuda_11_takes_the_older_call(driver: Any, gpu: ModuleType) -> None:
    class Older:
        """Has all but the call that came with CUDA 11.4."""

        def __getattr__(self, name: str) -> Any:
            if name == "cuGraphInstantiateWithFlags":
                raise AttributeError(name)
            return getattr(driver, name)

        def cuGraphInstantiate_v2(
            self, executable: Any, graph: Any, node: Any, log: Any, size: Any
        ) -> int:
            assert (node.value, log.value, size.value) == (None, None, 0)
            none: int = driver.cuGraphInstantiateWithFlags(executable, graph, size)
            return none

    ran: list[int] = []
    graph = CudaGraph(Cuda(Older()), lambda: driver.queue(lambda: ran.append(1)))
    assert ran == []
    graph.launch()
    assert ran == [1]


@pytest.mark.usefixtures("driver")
def test_the_report_has_times_with_and_without(tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(b"enterprise")
    result = benchmark(path, path, runs=4, warmup=1, memory=False)
    graph = result.a.cuda_graph
    assert graph is not None
    assert graph.off is not None
    assert graph.on is not None
    assert len(graph.off.samples) == len(graph.on.samples) == 4
    assert graph.device_on is not None
    assert graph.device_on.samples == (2.5,) * 4
    assert graph.ratio is not None
    assert graph.ratio.low <= graph.ratio.value <= graph.ratio.high
    values = result.to_dict()["a"]
    assert values["cuda_graph"]["on"]["median"] == graph.on.median
    assert values["to_device"]["median"] == values["to_host"]["median"] == 2.5
    titles = [row[0] for row in result.rows()]
    assert "wall time with CUDA graph" in titles
    assert "GPU: copy back, median" in titles


def test_the_report_says_why_there_is_no_graph(
    driver: Any, gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(b"enterprise")
    monkeypatch.setattr(driver, "cuStreamBeginCapture_v2", lambda stream, mode: 900)
    result = benchmark(path, path, runs=3, warmup=0, memory=False)
    assert result.a.cuda_graph is not None
    assert result.a.cuda_graph.on is None
    said = "No CUDA graph for A: the GPU refused: cuStreamBeginCapture_v2 returned CUDA error 900."
    assert said in result.notes
    assert "wall time with CUDA graph" not in [row[0] for row in result.rows()]


def test_times_on_the_gpu_are_compared_in_pairs(
    driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = np.random.default_rng(0).lognormal(0, 0.2, 10_000)
    record, seen = driver.cuEventRecord, iter(steps)

    def jitters(event: Any, stream: Any) -> Any:
        driver.clock += next(seen)
        return record(event, stream)

    monkeypatch.setattr(driver, "cuEventRecord", jitters)
    path = tmp_path / "model.engine"
    path.write_bytes(b"enterprise")
    result = benchmark(path, path, runs=8, warmup=1, memory=False)
    found, a, b = result.device_ratio, result.a.device, result.b and result.b.device
    assert found is not None
    assert a is not None
    assert b is not None
    assert found == bootstrap_ratio(np.array(b.samples), np.array(a.samples), seed=0)
    assert found.low < found.value < found.high
    (row,) = (row for row in result.rows() if row[0] == "GPU: execution, median")
    assert row[3] == f"{found.value:.2f}x ({found.low:.2f} to {found.high:.2f})"
    values = result.to_dict()
    assert set(values["device_ratio"]) == {"value", "low", "high"}
    assert values["a"]["device"]["median"] <= values["a"]["device"]["p90"]
    assert values["a"]["device"]["p90"] <= values["a"]["device"]["p99"]


def test_what_slows_both_does_not_widen_the_ratio_on_the_gpu() -> None:
    drift = np.linspace(1, 3, 31)
    a, b = timing(2 * drift), timing(5 * drift)
    ratio = device_ratio(a, b, seed=0)
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.5, 2.5, 2.5))
    assert device_ratio(a, None, seed=0) is None
    assert device_ratio(a, timing(0 * drift), seed=0) is None, "shorter than events can tell"


def test_on_the_cpu_there_are_no_graphs(chain: Path) -> None:
    result = benchmark(chain, chain, runs=3, warmup=0, memory=False)
    assert result.a.cuda_graph is None
    assert result.device_ratio is None
    assert not [row for row in result.rows() if "GPU" in row[0] or "CUDA" in row[0]]
