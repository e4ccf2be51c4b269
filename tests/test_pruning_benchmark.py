"""The comparison with torch-pruning, as far as it goes without that."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
# At the end: the installed waveedge comes first, not the folder of that name.
sys.path.append(str(ROOT))

from benchmarks.environments import Environment  # noqa: E402
from benchmarks.pruning import __main__ as pruning_main  # noqa: E402
from benchmarks.pruning import peer  # noqa: E402
from benchmarks.pruning.distil import Distillation, adapt  # noqa: E402
from benchmarks.pruning.equal import matches  # noqa: E402
from benchmarks.pruning.followed import Hidden, followed, keep_channels, restore  # noqa: E402
from benchmarks.pruning.forms import our_forms, their_forms, title_of  # noqa: E402
from benchmarks.pruning.page import render  # noqa: E402
from benchmarks.quality_tables.campaign import KEY  # noqa: E402
from benchmarks.records import Record, Records  # noqa: E402
from waveedge.models.wavemix_blocks import LadderBlock  # noqa: E402
from waveedge.nn import WTConv2d  # noqa: E402


def row(variant: str, value: float, speed: float | None) -> Record:
    made: Record = {"network": "trained_super_resolution", "variant": variant, "seed": 0}
    made |= {"metric": "psnr_db", "value": value, "baseline": 32.0, "count": 6}
    made |= {"loss": 34.0 - value, "macs": 1000, "cpu_minutes": 2.0}
    if speed is not None:
        made |= {"cpu_ratio": {"value": speed, "low": speed, "high": speed}, "runs": 30}
    return made


FEW = ("int8_whole", "macs50-0steps")
ROWS = [
    row("int8_whole", 33.9, 1.0),
    row("macs70-0steps", 33.8, 1.2),
    row("macs50-200steps", 33.7, 1.5),
    row("pruned70-200steps", 33.8, 1.1),
    row("pruned70-1000steps", 33.75, 1.25),
    row("pruned50-0steps", 30.0, 1.6),
]


def test_a_form_is_matched_with_the_fastest_that_is_no_worse() -> None:
    first, second = matches(ROWS, ours=True)
    assert first.other == ROWS[3]
    assert first.ratio == pytest.approx(1.2 / 1.1)
    assert second.other == ROWS[4]
    found = {match.form["variant"]: match.other for match in matches(ROWS, ours=False)}
    assert found == {
        "pruned70-200steps": ROWS[1],
        "pruned70-1000steps": ROWS[1],
        "pruned50-0steps": ROWS[2],
    }
    better = [row("macs70-0steps", 33.9, 1.2), *ROWS[3:]]
    assert [match[1:] for match in matches(better, ours=True)] == [(None,)]
    assert matches(better, ours=True)[0].ratio is None


def test_the_page_says_what_the_records_say(tmp_path: Path) -> None:
    records = Records(tmp_path / "pruning.json", KEY)
    tried = {"magnitude, all layers": 0.01, "as it is": "RuntimeError: sizes differ"}
    setting: Record = {"share": 0.7, "setting": "magnitude, all layers", "rate": 0.01}
    setting |= {"search_minutes": 3.0}
    for made in ROWS:
        if made["variant"].startswith("pruned70"):
            made = {**made, "published_macs": 1200, "setting": {**setting, "tried": tried}}
        records.add(made)
    records.add({**row("pruned35-0steps", 0.0, None), "error": "it failed"})
    lines = render(records, tmp_path).splitlines()
    assert "| waveedge, 70%, untuned | 0 | torch-pruning, 70%, 200 steps | 1.09 |" in lines
    assert "| torch-pruning, 50%, untuned | 0 | waveedge, 50%, 200 steps | 1.07 |" in lines
    assert any("| 1.00 | RuntimeError: sizes differ |" in line for line in lines)
    assert "* trained WaveMix x2, torch-pruning, 35%, untuned, seed 0: it failed" in lines


def test_every_form_has_the_title_that_it_was_made_under() -> None:
    for name, form in {**our_forms(), **their_forms()}.items():
        assert title_of(name) == form.title


class Net(nn.Module):
    """A block of two levels, and one WTConv layer."""

    def __init__(self) -> None:
        super().__init__()
        self.block = LadderBlock(8, 4, mult=1, levels=2)
        self.spatial = WTConv2d(8, 8, kernel_size=3, wt_levels=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.spatial(self.block(x) + x)
        return y


@torch.no_grad()
def test_what_can_be_followed_computes_the_same_and_goes_back() -> None:
    torch.manual_seed(0)
    net = Net().eval()
    x = torch.randn(1, 8, 16, 16)
    other = copy.deepcopy(net)
    followed(other)
    assert isinstance(other.spatial, Hidden)
    torch.testing.assert_close(other(x), net(x))
    restore(other)
    assert isinstance(other.block, LadderBlock)
    for one, two in zip(net.state_dict().items(), other.state_dict().items(), strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1])


@torch.no_grad()
def test_a_wtconv_layer_keeps_what_it_makes_of_the_channels_that_are_left() -> None:
    torch.manual_seed(0)
    layer, kept = WTConv2d(6, 6, kernel_size=3, wt_levels=2), [0, 2, 5]
    x = torch.randn(1, 6, 12, 12)
    wanted = layer(x)[:, kept]
    keep_channels(layer, kept)
    torch.testing.assert_close(layer(x[:, kept]), wanted)


def test_distillation_comes_nearer_and_statistics_are_taken_anew() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    teacher.eval()
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((1, 3, 16, 16), np.float32) for _ in range(8)]
    student = adapt(teacher, images)
    norm = student[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    with torch.no_grad():
        mean = teacher[0](torch.from_numpy(np.concatenate(images))).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, mean)
    distillation = Distillation(teacher, images[:6], images[6:], (), 0)
    before = distillation.error(student)
    best, error = distillation.train(student, 24, 0.01)
    assert error == distillation.error(best) < before
    assert distillation.error(student) == before


@pytest.mark.usefixtures("one_block")
def test_without_torch_pruning_its_rows_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "TORCH_PRUNING", Environment("nowhere", ("nowhere==1",)))
    # Two of waveedge's forms are enough to see that a row that fails keeps no other from its time.
    few = {name: form for name, form in our_forms((0.5,), 2).items() if name in FEW}
    monkeypatch.setattr(pruning_main, "our_forms", lambda *_: few)
    out = tmp_path / "out"
    arguments = ["--quick", "--no-install", "--runs", "2", "--out", str(out)]
    assert pruning_main.main([*arguments, "--work", str(tmp_path / "work")]) == 1
    held = json.loads((out / "pruning.json").read_text())["records"]
    rows = {made["variant"]: made for made in held}
    for name in ("pruned50-0steps", "pruned50-2steps"):
        assert rows.pop(name)["error"] == "the environment nowhere is not installed"
    assert list(rows) == ["published", *FEW]
    assert rows["macs50-0steps"]["macs"] <= 0.5 * rows["int8_whole"]["macs"]
    assert all("cpu_ratio" in made for made in rows.values())
    assert "the environment nowhere is not installed" in (out / "pruning.md").read_text()
