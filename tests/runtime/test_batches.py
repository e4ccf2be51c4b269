"""Several batches in one report: a row each, or why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from waveedge.errors import InputError
from waveedge.runtime import Comparison, benchmark

FREE = ("batch", 3, 16, 16)


def measured(a: Path, b: Path, *batches: int, **options: Any) -> Comparison:
    return benchmark(a, b, runs=4, warmup=1, memory=False, batches=batches, **options)


def test_a_row_for_each_batch(tmp_path: Path, make_chain: Any) -> None:
    narrow = make_chain(tmp_path / "narrow.onnx", shape=FREE)
    wide = make_chain(tmp_path / "wide.onnx", width=64, shape=FREE)
    result = measured(narrow, wide, 1, 8)
    assert [row.batch for row in result.batches] == [1, 8]
    assert result.input_shape == (1, 3, 16, 16), "the comparison itself is of one image"
    for row in result.batches:
        assert row.a.wall is not None
        assert len(row.a.wall.samples) == 4
        assert row.a.images_per_second == pytest.approx(1000 * row.batch / row.a.wall.median)
        assert row.wall_ratio is not None
        assert row.wall_ratio.value > 1, "64 channels take longer than 8"
    one, eight = (row.b.wall for row in result.batches)
    assert one is not None
    assert eight is not None
    assert eight.median > 2 * one.median, "eight images were run"
    values = result.to_dict()["batches"][1]
    assert values["a"]["images_per_second"] == result.batches[1].a.images_per_second
    assert values["wall_ratio"]["low"] <= values["wall_ratio"]["high"]


def test_a_fixed_batch_is_refused_and_not_cut(tmp_path: Path, make_chain: Any) -> None:
    free = make_chain(tmp_path / "free.onnx", shape=FREE)
    fixed = make_chain(tmp_path / "fixed.onnx", shape=(1, 3, 16, 16))
    result = measured(free, fixed, 1, 2)
    one, two = result.batches
    assert (one.a.reason, one.b.reason) == ("", "")
    assert two.a.wall is not None
    assert two.b.wall is None
    assert two.b.images_per_second is None
    assert two.wall_ratio is None
    assert "its batch must be 1, not 2" in two.b.reason
    assert "--batch dynamic" in two.b.reason
    table = result.table()
    assert "Batch 2, B: the input has shape (2, 3, 16, 16)" in table
    (line,) = (line for line in table.splitlines() if line.startswith("2 "))
    assert line.split()[-2:] == ["refused", "-"]


@pytest.mark.usefixtures("driver")
def test_beyond_an_engines_profile(tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(b"enterprise")
    row = measured(path, path, 9).batches[0]
    for side in (row.a, row.b):
        assert side.wall is None
        assert "does not take an input of shape (9, 3, 4, 4)" in side.reason
        assert "built for shapes from (1, 3, 4, 4) to (8, 3, 4, 4)" in side.reason


def test_images_fill_a_batch_in_turn(
    tmp_path: Path, make_chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from waveedge.runtime import batches

    free = make_chain(tmp_path / "free.onnx", shape=FREE)
    images = [np.full((1, 3, 16, 16), value, np.float32) for value in (1, 2)]
    seen: list[list[float]] = []
    refusal = batches._refusal

    def look(session: Any, arrays: Any) -> str:
        seen.append(arrays[0][:, 0, 0, 0].tolist())
        return refusal(session, arrays)

    monkeypatch.setattr(batches, "_refusal", look)
    measured(free, free, 1, 5, images=images)
    assert seen == [[1.0]] * 2 + [[1.0, 2.0, 1.0, 2.0, 1.0]] * 2


def test_what_no_machine_should_hold_is_refused(tmp_path: Path, make_chain: Any) -> None:
    free = make_chain(tmp_path / "free.onnx", shape=("batch", 3, 512, 512))
    row = measured(free, free, 4096).batches[0]
    assert "too large to be measured" in row.a.reason
    for wrong in (0, 4097):
        with pytest.raises(InputError, match=r"batches are .*\nEach is 1 to 4096"):
            measured(free, free, wrong)


def test_progress_counts_rows_and_windows(tmp_path: Path, make_chain: Any) -> None:
    free = make_chain(tmp_path / "free.onnx", shape=FREE)
    seen: list[tuple[int, int]] = []
    measured(free, free, 1, 2, progress=lambda *counts: seen.append(counts))
    assert seen == [(done, 15) for done in range(1, 16)]
