"""The peak-memory probe, against activations of known size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from waveedge.runtime import memory
from waveedge.runtime.memory import PeakMemory, peak_memory

Make = Callable[..., Path]
MIB = 2**20

pytestmark = pytest.mark.skipif(
    not memory._CLEAR_REFS.exists(), reason="the protocol needs /proc/self/clear_refs of Linux"
)


@pytest.fixture
def big_map(tmp_path: Path, make_graph: Make) -> Path:
    """A network whose one large activation has exactly 32 MiB: (1, 8, 1024, 1024) float32."""
    nodes = [
        helper.make_node("Expand", ["image", "shape"], ["map"]),
        helper.make_node("ReduceMax", ["map"], ["peak"]),
    ]
    weights = {"shape": np.array([1, 8, 1024, 1024])}
    return make_graph(tmp_path / "big.onnx", nodes, (1, 1, 1, 1), ["peak"], weights=weights)


def test_a_known_activation_is_seen(big_map: Path) -> None:
    result = peak_memory(big_map)
    assert result.note == ""
    assert result.peak_bytes == pytest.approx(32 * MIB, rel=0.1)
    assert result.loaded_bytes is not None
    assert result.loaded_bytes > 0


def test_what_is_freed_in_between_does_not_count_twice(tmp_path: Path, make_graph: Make) -> None:
    """Four maps of 16 MiB in a row, of which two are alive at a time: 32 MiB, not 64."""
    names = ["map", "one", "two", "three"]
    nodes = [helper.make_node("Expand", ["image", "shape"], ["map"])]
    # A cumulative sum cannot be done in place, so each needs its input and its output.
    nodes += [helper.make_node("CumSum", [a, "axis"], [b]) for a, b in pairwise(names)]
    nodes.append(helper.make_node("ReduceMax", ["three"], ["peak"]))
    weights = {"shape": np.array([1, 4, 1024, 1024]), "axis": np.array(3)}
    path = make_graph(tmp_path / "sums.onnx", nodes, (1, 1, 1, 1), ["peak"], weights=weights)
    assert peak_memory(path).peak_bytes == pytest.approx(32 * MIB, rel=0.1)


def test_weights_do_not_count_and_next_to_nothing_is_not_given(
    tmp_path: Path, make_graph: Make
) -> None:
    """An output of 8 KiB beside a weight of 16 MiB: the kernel's counters do not resolve it."""
    nodes = [helper.make_node("MatMul", ["image", "weight"], ["y"])]
    weight = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    path = make_graph(tmp_path / "w.onnx", nodes, (1, 2048), ["y"], weights={"weight": weight})
    result = peak_memory(path)
    assert result.peak_bytes is None
    assert "less than 0.5 MiB" in result.note
    assert result.loaded_bytes is not None
    assert result.loaded_bytes > weight.nbytes


def test_the_shape_can_be_given(tmp_path: Path, make_chain: Make) -> None:
    path = make_chain(tmp_path / "free.onnx", width=32, shape=("batch", 3, "height", "width"))
    small, large = (peak_memory(path, shape=(1, 3, size, size)).peak_bytes for size in (128, 512))
    assert small is not None
    assert large is not None
    assert 8 < large / small < 24  # 16 times the pixels
    refused = peak_memory(path)
    assert refused.peak_bytes is None
    assert "Give images" in refused.note or "size open" in refused.note


def test_as_a_program(big_map: Path) -> None:
    command = [sys.executable, "-m", "waveedge.runtime.memory", str(big_map), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    values = json.loads(done.stdout)
    assert values["peak_bytes"] == pytest.approx(32 * MIB, rel=0.1)
    assert (values["threads"], values["runs"], values["note"]) == (1, 2, "")
    assert done.stderr == ""


def test_the_program_refuses_a_missing_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.main(["absent.onnx"]) == 1
    assert "no file or folder absent.onnx" in capsys.readouterr().err


def test_without_clear_refs_there_is_no_figure_but_a_reason(
    chain: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "no" / "clear_refs")
    result = memory.measure_here(chain, threads=1, shape=None, runs=1)
    assert (result.peak_bytes, result.loaded_bytes) == (None, None)
    assert "clear_refs of Linux" in result.note


def test_a_result_is_printed_as_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, chain: Path
) -> None:
    results = iter([PeakMemory(3 * MIB, 0), PeakMemory(None, None, "no Linux")])
    monkeypatch.setattr(memory, "peak_memory", lambda *_, **__: next(results))
    memory.main([str(chain)])
    memory.main([str(chain)])
    assert capsys.readouterr().out == ("3.0 MiB of activations at the peak\nno figure: no Linux\n")
