"""What the tables of quality conclude from records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
# At the end: the installed waveedge comes first, not the folder of that name.
sys.path.append(str(ROOT))

from benchmarks.networks import NETWORKS  # noqa: E402
from benchmarks.quality_tables import campaign  # noqa: E402
from benchmarks.quality_tables.__main__ import main  # noqa: E402
from benchmarks.quality_tables.campaign import KEY, Options  # noqa: E402
from benchmarks.quality_tables.curves import (  # noqa: E402
    Point,
    at_equal_bops,
    at_equal_time,
    front,
)
from benchmarks.quality_tables.forms import paper_forms, series  # noqa: E402
from benchmarks.quality_tables.judging import (  # noqa: E402
    TARGETS,
    against_float,
    median_row,
    spread,
)
from benchmarks.quality_tables.measure import Tables  # noqa: E402
from benchmarks.quality_tables.pages import render  # noqa: E402
from benchmarks.quality_tables.plots import _bound, save_plot  # noqa: E402
from benchmarks.records import Record, Records  # noqa: E402


def scored(metric: str, value: float, baseline: float | None) -> Record:
    return {"metric": metric, "value": value, "baseline": baseline, "count": 6}


def test_a_loss_is_in_decibels_or_points_and_the_gain_is_over_the_baseline() -> None:
    in_float = scored("psnr_db", 30.0, 20.0)
    found = against_float(scored("psnr_db", 29.5, 20.0), in_float)
    assert found == {"loss": pytest.approx(0.5), "share": pytest.approx(0.95)}
    found = against_float(scored("mean_iou", 0.74, 0.72), scored("mean_iou", 0.76, 0.72))
    assert found == {"loss": pytest.approx(2.0)}


def typed(variant: str, seed: int, loss: float, speed: float | None) -> Record:
    row = scored("psnr_db", 33.5 - loss, 32.2)
    row |= {"network": "trained_super_resolution", "variant": variant, "seed": seed}
    row |= against_float(row, scored("psnr_db", 33.5, 32.2))
    row |= {"bits": {"int8": 9, "float": 1}, "macs": 1000, "bops": 64000, "cpu_minutes": 7.0}
    if speed is not None:
        row["cpu_ratio"] = {"value": speed, "low": speed - 0.01, "high": speed + 0.01}
        row["runs"] = 30
    return row


def page_of(rows: list[Record], folder: Path, stage: str = "quality_targets") -> list[str]:
    records = Records(folder / f"{stage}.json", KEY)
    for row in rows:
        records.add(row)
    save_plot(stage, records, folder / f"{stage}.png")
    return render(stage, records, folder).splitlines()


def cells(lines: list[str], *words: str) -> list[str]:
    line = next(line for line in lines if all(word in line for word in words))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_target_is_met_by_the_median_of_the_seeds(tmp_path: Path) -> None:
    speeds = (1.2, 1.5, 1.39)
    rows = [typed("int8", seed, loss, speeds[seed]) for seed, loss in enumerate((0.04, 0.2, 0.05))]
    rows += [typed("line", 0, 0.08, None)]
    lines = page_of(rows, tmp_path)
    assert cells(lines, "loses at most 0.05 dB")[3:] == ["0.050 (0.040 .. 0.200)", "yes"]
    fast = "`--bits 8`", "at least 1.4 times as fast"
    assert cells(lines, *fast)[3:] == ["1.39 (1.20 .. 1.50)", "no"]
    line = "`--bits 4 --wcc-ratio 0.5`"
    assert cells(lines, line, "keeps at least 93%")[3:] == ["93.8%", "yes"]
    assert cells(lines, line, "at least 1.4 times")[3:] == ["not measured", "-"]
    assert cells(lines, line, "at most 6 CPU minutes")[3:] == ["7.00", "no"]
    # The interval of a ratio is that of the seed whose ratio is shown.
    assert cells(lines, "| `--bits 8` | 33.4")[-1] == "1.39 [1.38, 1.40] (1.20 .. 1.50)"
    assert "6 test photos, 1 to 3 seeds; without a network 32.20 dB." in lines


def test_the_papers_page_ends_with_wcc_beside_plain_quantization(tmp_path: Path) -> None:
    rows = [
        {**typed(variant, 0, loss, speed), "bops": bops, "cpu_ms": 1 / speed}
        for variant, loss, speed, bops in (
            ("published", 0.0, 1.0, 64e6),
            ("w8a8", 0.1, 2.0, 4e6),
            ("w8a4", 0.3, 2.01, 1e6),
            ("w8a8-static50", 0.15, 2.5, 2e6),
            ("w8a8-topk50", 0.11, 0.5, 2e6),
        )
    ]
    lines = page_of(rows, tmp_path, "paper_table")
    beside = lines[lines.index("## WCC beside plain quantization") :]
    # In the logarithm, 2 lies in the middle between 1 and 4: plain quantization loses 0.2 dB there.
    assert cells(beside, "8/8, WCC 50 %, static")[2:] == ["+0.05 dB", "-"]
    assert cells(beside, "8/8, WCC 50 %, topk")[2:] == ["+0.09 dB", "-0.11 dB"]
    assert cells(lines, "| 8/8 |")[1:] == ["33.40", "0.100", "4.00 M", "0.5", "2.00 [1.99, 2.01]"]
    assert (tmp_path / "paper_table.png").stat().st_size > 1000


def test_a_share_of_the_gain_is_drawn_as_a_loss() -> None:
    row = typed("line", 0, 0.2, None)
    target = next(one for one in TARGETS if one[:3] == (row["network"], "line", "share"))
    assert _bound(target, "loss", row) == pytest.approx((1 - 0.93) * (33.5 - 32.2))
    assert _bound(target, "speed", row) is None


def test_spreads_and_median_seeds() -> None:
    assert spread([3.0, 1.0, 2.0]).text() == "2.00 (1.00 .. 3.00)"
    assert spread([1.0]).text("{:.0f}") == "1"
    rows: list[Record] = [{"cpu_ratio": {"value": value}} for value in (1.4, 1.1)]
    assert median_row([*rows, {"error": "it broke"}]) == rows[1]
    assert median_row([]) is None


PLAIN = [Point(10, 0.5, 1.0), Point(1000, 0.5, 3.0), Point(100, 0.51, 0.5)]


def test_plain_quantization_at_equal_bops_is_interpolated_between_its_best_forms() -> None:
    assert front(PLAIN) == PLAIN[:2]
    assert at_equal_bops(Point(100, 1.0, 2.5), PLAIN) == pytest.approx(0.5)
    assert at_equal_bops(Point(5000, 1.0, 2.5), PLAIN) == pytest.approx(-0.5)
    assert at_equal_bops(Point(9, 1.0, 2.5), PLAIN) is None
    assert at_equal_bops(Point(9, 1.0, 2.5), []) is None


def test_plain_quantization_at_equal_time_is_the_best_that_is_no_slower() -> None:
    assert at_equal_time(Point(1, 2.0, 2.5), [*PLAIN, Point(9, 1.0, 4.0)]) == -1.5
    assert at_equal_time(Point(1, 0.495, 2.5), [*PLAIN, Point(9, 1.0, 4.0)]) == -0.5
    assert at_equal_time(Point(1, 0.4, 2.5), PLAIN) is None


def test_the_papers_table_has_every_row_under_one_budget() -> None:
    forms = paper_forms()
    assert len(forms) == 2 * (4 + 3 * 2)
    recipes = [form.recipe or {} for form in forms.values()]
    assert {(recipe["tune"], recipe["shrink"]) for recipe in recipes} == {(50, False)}
    assert len({form.title for form in forms.values()}) == len(forms)
    assert series("w8a8-static12.5") == ("static", 8)
    assert series("w4a6") == ("plain", 4)
    assert forms["w4a8-topk25"].recipe == {
        "weight_bits": 4,
        "bits": 8,
        "wcc_ratio": 0.25,
        "wcc_select": "topk",
        "shrink": False,
        "tune": 50,
    }


def test_a_seed_draws_the_images() -> None:
    first, again, other = (NETWORKS["trained_fashion_mnist"].load(seed) for seed in (0, 0, 1))
    assert first.images.fingerprint == again.images.fingerprint
    assert first.images.fingerprint != other.images.fingerprint


def test_records_of_two_runs_are_merged(tmp_path: Path) -> None:
    for folder, network in (("a", "trained_denoiser"), ("b", "trained_super_resolution")):
        records = Records(tmp_path / folder / "quality_targets.json", KEY)
        records.add({**typed("int8", 0, 0.01, 1.5), "network": network})
    assert main(["--merge", str(tmp_path / "a"), "--out", str(tmp_path / "b")]) == 0
    merged = Records(tmp_path / "b" / "quality_targets.json", KEY)
    names = {"trained_denoiser", "trained_super_resolution"}
    assert {row["network"] for row in merged.rows} == names
    assert "trained WTConv denoiser" in (tmp_path / "b" / "quality_targets.md").read_text()
    with pytest.raises(SystemExit):
        main(["--merge", str(tmp_path / "nowhere"), "--out", str(tmp_path / "b")])


def test_weights_that_were_trained_again_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = NETWORKS["trained_fashion_mnist"]
    measured: list[str] = []

    def halved(_self: Any, _trial: Any, _halving: Any, name: str) -> Record:
        measured.append(name)
        return {"value": 0.5}

    monkeypatch.setattr(Tables, "_halved", halved)
    for checkpoint, total in (("old", 4), ("old", 4), ("new", 8)):
        monkeypatch.setattr(campaign, "checkpoint_of", lambda _, name=checkpoint: name)
        tables = Tables(Options([network], tmp_path / "out", tmp_path / "work", seeds=1))
        tables.begin(["redundancy"], resume=True)
        tables.redundancy()
        assert len(measured) == total
    assert {row["checkpoint"] for row in tables.records["redundancy"].rows} == {"new"}
