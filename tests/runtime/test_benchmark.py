"""The paired benchmark: order, intervals, structure. No test asserts how long anything takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waveedge.errors import ArtifactError, InputError, MissingDependencyError
from waveedge.runtime import Comparison, Power, Ratio, Session, benchmark
from waveedge.runtime.pairs import bootstrap_ratio, time_pairs

Make = Callable[..., Path]


@pytest.fixture
def comparison(bundle: Path) -> Comparison:
    return benchmark(bundle, runs=6, warmup=1, memory=False, seed=3)


def record(runs: int, warmup: int, seed: int) -> tuple[list[str], tuple[str, ...]]:
    """Return the sequence of calls, and the order that time_pairs reports."""
    calls: list[str] = []
    a, b = [lambda: calls.append("A")], [lambda: calls.append("B")]
    cpu, wall, order = time_pairs(a, b, runs=runs, warmup=warmup, seed=seed)
    assert cpu.shape == wall.shape == (runs, 2)
    assert (wall > 0).all()
    return calls, order


def test_runs_are_interleaved_in_the_reported_order() -> None:
    calls, order = record(runs=40, warmup=3, seed=0)
    pairs = ["".join(calls[i : i + 2]) for i in range(0, len(calls), 2)]
    assert len(pairs) == 43
    assert tuple(pairs[3:]) == order
    # Each goes first equally often, and not simply in turn.
    assert order.count("AB") == order.count("BA") == 20
    assert any(one == two for one, two in pairwise(order))


def test_the_order_is_decided_by_the_seed() -> None:
    assert record(20, 0, seed=1)[1] == record(20, 0, seed=1)[1] != record(20, 0, seed=2)[1]


def test_both_sides_of_a_pair_see_the_same_image_and_images_take_turns() -> None:
    seen: list[tuple[str, int]] = []
    a, b = (
        [lambda side=side, i=i: seen.append((side, i)) for i in range(3)]  # type: ignore[misc]
        for side in "AB"
    )
    time_pairs(a, b, runs=6, warmup=0, seed=0)
    images = [{image for _, image in seen[i : i + 2]} for i in range(0, len(seen), 2)]
    assert images == [{0}, {1}, {2}, {0}, {1}, {2}]


def test_progress_counts_every_pair() -> None:
    calls: list[tuple[int, int]] = []
    time_pairs(
        [int], [int], runs=2, warmup=1, seed=0, progress=lambda *counts: calls.append(counts)
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]


times = st.floats(0.1, 1e3)
Pairs = list[tuple[float, float]]


@given(st.lists(st.tuples(times, times), min_size=1, max_size=25), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_the_interval_holds_the_ratio_and_repeats(
    pairs: list[tuple[float, float]], seed: int
) -> None:
    b, a = np.array(pairs).T
    ratio = bootstrap_ratio(b, a, seed=seed)
    assert ratio.low * (1 - 1e-12) <= ratio.value <= ratio.high * (1 + 1e-12)
    assert ratio.value == np.median(b) / np.median(a)
    assert ratio == bootstrap_ratio(b, a, seed=seed)


def test_the_interval_of_many_pairs_is_that_of_all_draws_at_once() -> None:
    b, a = np.random.default_rng(1).lognormal(0, 0.2, (2, 1001))
    draws = np.random.default_rng(7).integers(1001, size=(5000, 1001), dtype=np.int32)
    ratios = np.median(b[draws], axis=1) / np.median(a[draws], axis=1)
    ratio = bootstrap_ratio(b, a, seed=7)
    assert (ratio.low, ratio.high) == tuple(np.percentile(ratios, (2.5, 97.5)))


def test_drift_common_to_both_sides_does_not_widen_the_interval() -> None:
    drift = np.linspace(1, 3, 41)
    ratio = bootstrap_ratio(6 * drift, 2 * drift, seed=0)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((3, 3, 3))


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        b, a = rng.lognormal(0, 0.2, (2, 30))
        ratio = bootstrap_ratio(b, a, seed=trial)
        covered += ratio.low <= 1 <= ratio.high
    assert 50 <= covered <= 60


def test_a_network_against_itself_is_about_as_fast(chain: Path) -> None:
    ratio = benchmark(chain, chain, runs=15, warmup=2, memory=False).cpu_ratio
    assert 0.2 < ratio.low <= ratio.high < 5


def test_a_bundle_is_compared_with_its_own_baseline(comparison: Comparison) -> None:
    assert (comparison.a.name, comparison.b.name) == ("net", "published")
    assert comparison.runs == len(comparison.a.cpu.samples) == len(comparison.b.wall.samples) == 6
    assert comparison.b.path.endswith("published.onnx")
    assert comparison.size_ratio > 1
    assert comparison.input_shape == (1, 3, 32, 32)
    assert comparison.input_source == "random"
    assert comparison.memory_ratio is None
    # Fewer than 8 bits never pass for what was executed.
    assert comparison.a.bits is not None
    assert (comparison.a.bits.requested, comparison.a.bits.executed) == ("w8a4", "w8a8")
    for side in (comparison.a, comparison.b):
        for timing in (side.cpu, side.wall):
            assert min(timing.samples) <= timing.median <= timing.p90 <= timing.p99
            assert timing.p99 <= max(timing.samples)


def test_memory_is_measured_for_both(tmp_path: Path, make_chain: Callable[..., Path]) -> None:
    narrow, wide = (
        make_chain(tmp_path / f"{width}.onnx", width=width, shape=(1, 3, 128, 128))
        for width in (32, 64)
    )
    result = benchmark(narrow, wide, runs=1, warmup=0)
    assert result.a.peak_bytes is not None
    assert result.b.peak_bytes is not None
    assert result.memory_ratio == result.b.peak_bytes / result.a.peak_bytes


def test_the_result_is_plain_json(comparison: Comparison) -> None:
    values = json.loads(json.dumps(comparison.to_dict()))
    assert values == comparison.to_dict()
    assert values["a"]["cpu"]["median"] == comparison.a.cpu.median
    assert set(values["cpu_ratio"]) == {"value", "low", "high"}
    assert values["threads"] == 1
    assert values["runs"] == 6
    assert values["machine"]["cores"] >= 1
    assert set(values["drift"]) == {"temperatures", "clocks", "throttled", "time_ratio"}
    assert values["drift"]["time_ratio"] is None, "six runs are too few to tell"


def test_the_table_states_figures_and_conditions(comparison: Comparison) -> None:
    table = comparison.table()
    for text in (
        "A: net",
        "B: published",
        f"{comparison.a.cpu.median:.2f} ms",
        f"{comparison.cpu_ratio.value:.2f}x ({comparison.cpu_ratio.low:.2f} to",
        "bits, requested",
        "w8a4",
        "1 thread, input 1x3x32x32 (random), 6 interleaved pairs",
        "onnxruntime",
    ):
        assert text in table
    figures = table.split("\n\n")[0].splitlines()
    column = figures[0].index("B / A")
    ratios = [line[column:] for line in figures[2:] if len(line) > column]
    assert len(ratios) == 3, "CPU time, wall time and file size"
    assert all(ratio[0].isdigit() and "x" in ratio for ratio in ratios), "the columns are aligned"


def test_energy_is_in_the_report_or_a_reason_is(comparison: Comparison) -> None:
    told = [note.startswith("Energy of A") for note in comparison.notes]
    reasons = [note.startswith(("No energy: ", "No energy of A: ")) for note in comparison.notes]
    assert (any(told), any(reasons)) == (comparison.a.power is not None, comparison.a.power is None)

    # As an Orin Nano would give it.
    rounds = (0.049, 0.05, 0.052)
    power = Power(
        8.0, (3.0, 3.0), 0.05, 0.08, "VDD_IN", "INA3221 in sysfs", 60, 3.0, 300, 0.01, rounds
    )
    dearer = replace(
        power, joules_per_run=0.1, total_joules_per_run=0.16, rounds=(0.1, 0.099, 0.11)
    )
    measured = replace(
        comparison,
        a=replace(comparison.a, power=power),
        b=replace(comparison.b, power=dearer),
        energy_ratio=Ratio(2.0, 1.9, 2.25),
    )
    assert measured.rows()[-4:] == [
        (
            "energy of a run, above rest",
            "50.0 mJ",
            "100.0 mJ",
            "2.00x (1.90 to 2.25 over 3 rounds)",
        ),
        ("its least and most of 3 rounds", "49.0 to 52.0 mJ", "99.0 to 110.0 mJ", ""),
        ("energy of a run, in all", "80.0 mJ", "160.0 mJ", ""),
        ("power under load", "8.00 W", "8.00 W", ""),
    ]
    values = json.loads(json.dumps(measured.to_dict()))
    assert values["a"]["power"]["idle_watts"] == [3.0, 3.0]
    assert values["a"]["power"]["rail"] == "VDD_IN"
    assert values["a"]["power"]["rounds"] == [0.049, 0.05, 0.052]
    assert values["energy_ratio"] == {"value": 2.0, "low": 1.9, "high": 2.25}
    one = replace(measured, b=replace(comparison.b, power=None))
    assert one.rows()[-1] == ("power under load", "8.00 W", "-", "")
    lost = replace(
        measured,
        a=replace(comparison.a, power=replace(power, joules_per_run=-0.01, rounds=(-0.01,))),
        b=replace(comparison.b, power=replace(dearer, rounds=(0.1,))),
        energy_ratio=None,
    )
    assert lost.rows()[-3] == ("energy of a run, above rest", "-10.0 mJ", "100.0 mJ", "")


def test_the_plot_is_a_png(comparison: Comparison, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    comparison.save_plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.glob("*.p*")] == ["plot.png"]


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("a$\\frac{$b", "a$\\frac{$b"),
        ("$x$ 日本", "$x$ 日本"),
        ("\ud800.ort", "\\ud800.ort"),
        ("esc\x1b[31m\n", "esc\\x1b[31m\\n"),
        ("x" * 1000, "x" * 37 + "..."),
    ],
)
def test_any_name_is_plain_text(
    tmp_path: Path, make_bundle: Make, comparison: Comparison, name: str, seen: str
) -> None:
    bundle = make_bundle(tmp_path / "named.ort", name=name)
    session = Session(bundle)
    assert session.manifest is not None
    side = replace(comparison.a, name=session.manifest["name"])
    named = replace(comparison, a=side)
    assert f" A: {seen}  " in named.table().splitlines()[0]
    assert len(max(named.table().splitlines(), key=len)) < 300
    assert json.loads(json.dumps(named.to_dict()))["a"]["name"] == name
    pytest.importorskip("matplotlib")
    named.save_plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_without_matplotlib_the_message_says_how_to_get_it(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "matplotlib>='):
        comparison.save_plot(tmp_path / "plot.png")


def test_a_free_size_takes_the_other_networks(tmp_path: Path, make_chain: Make) -> None:
    free = make_chain(tmp_path / "free.onnx", shape=("batch", 3, "height", "width"))
    fixed = make_chain(tmp_path / "fixed.onnx", shape=(1, 3, 16, 24))
    result = benchmark(free, fixed, runs=1, warmup=0, memory=False)
    assert result.input_shape == (1, 3, 16, 24)
    with pytest.raises(InputError, match="input size open"):
        benchmark(free, free, runs=1, warmup=0, memory=False)
    images = [np.zeros((2, 3, 8, 8), np.float32)]
    result = benchmark(free, free, runs=1, warmup=0, memory=False, images=images)
    assert (result.input_shape, result.input_source) == ((2, 3, 8, 8), "images")


def test_a_graph_for_tensorrt_timed_elsewhere_is_told(tmp_path: Path, make_bundle: Make) -> None:
    result = benchmark(make_bundle(tmp_path / "net.trt", target="trt"), runs=1, memory=False)
    assert [note for note in result.notes if "A was exported for trt and ran on onnxrun" in note]
    assert "say nothing about" in result.table()


def test_a_gpu_without_events_is_told(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "CUDA events" not in benchmark(chain, runs=1, warmup=0, memory=False).table()
    monkeypatch.setattr(Session, "on_gpu", True)  # as with CUDAExecutionProvider
    result = benchmark(chain, runs=1, warmup=0, memory=False)
    assert result.a.device is None
    assert "A ran on a GPU without CUDA events: its wall time is from arrays" in result.table()


def test_what_cannot_be_compared(
    bundle: Path, chain: Path, tmp_path: Path, make_chain: Make
) -> None:
    other = make_chain(tmp_path / "other.onnx", shape=(1, 3, 16, 16))
    gray = make_chain(tmp_path / "gray.onnx", channels=1, shape=(1, 1, 32, 32))
    with pytest.raises(InputError, match="height must be 16, not 32"):
        benchmark(chain, other)
    with pytest.raises(InputError, match="number of channels must be 1, not 3"):
        benchmark(chain, gray)
    for runs in (0, 100_001, 10**11):
        with pytest.raises(InputError, match=rf"runs is {runs} .*\nMeasure 1 to 100,000 runs"):
            benchmark(bundle, runs=runs)
    with pytest.raises(InputError, match="threads is 1000000"):
        benchmark(bundle, threads=10**6)
    with pytest.raises(InputError, match="no images"):
        benchmark(bundle, images=[])
    (bundle / "published.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"published\.onnx"):
        benchmark(bundle)


def test_a_ratio_above_one_means_that_a_is_faster() -> None:
    slow, fast = np.full(9, 30.0), np.full(9, 10.0)
    assert bootstrap_ratio(slow, fast, seed=0) == Ratio(3.0, 3.0, 3.0)
