"""Tuning: nearer to the float network, never further, the same for one seed."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import waveedge
from waveedge.compression.compressed import Compressed
from waveedge.compression.tuning import tune_graph
from waveedge.nn import ActivationQuantizer, WeightQuantizer

IMAGES = np.random.default_rng(0).random((8, 3, 16, 16), np.float32)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(16, 8, 1),
        nn.ReLU(),
        nn.Conv2d(8, 3, 1),
    ).eval()


def small(steps: int, **fields: object) -> Compressed:
    return waveedge.compress(net(), IMAGES, bits=4, weight_bits=2, tune=steps, **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def untuned() -> Compressed:
    return small(0)


@pytest.fixture(scope="module")
def tuned() -> Compressed:
    return small(60)


def test_the_output_comes_nearer(untuned: Compressed, tuned: Compressed) -> None:
    assert untuned.report.tuned is None
    assert tuned.report.tuned is not None
    assert tuned.report.tuned.steps > 0
    assert tuned.report.tuned.snr_db_before == pytest.approx(untuned.report.quality.snr_db)
    assert tuned.report.tuned.snr_db == pytest.approx(tuned.report.quality.snr_db)
    assert tuned.report.quality.snr_db > untuned.report.quality.snr_db + 1


def test_what_ships_is_on_its_grids(tuned: Compressed, tmp_path: Path) -> None:
    for module in tuned.graph.modules():
        quantizer = getattr(module, "weight_quantizer", None)
        if isinstance(quantizer, WeightQuantizer):
            assert isinstance(module.weight, Tensor)
            assert torch.equal(quantizer(module.weight), module.weight)
    waveedge.save_artifact(tuned, tmp_path / "a.safetensors")
    x = torch.from_numpy(IMAGES[:1])
    assert torch.equal(waveedge.load_artifact(tmp_path / "a.safetensors")(x), tuned(x))
    bundle = waveedge.export(tuned, tmp_path / "b", target="ort", images=IMAGES)
    report = (bundle.path / "verification.json").read_text()
    assert '"passed": true' in report or "snr_db" in report


def test_steps_of_grids_stay_positive(tmp_path: Path) -> None:
    """A rate for the steps of large weights overshoots those of small ones beside them."""
    network = net()
    with torch.no_grad():
        network[0].weight[3] *= 1e-6  # type: ignore[index, operator, union-attr]
        network[0].bias[3] = 0  # type: ignore[index, operator, union-attr]
    compressed = waveedge.compress(network, IMAGES, bits=4, weight_bits=2, tune=30, shrink=False)
    assert compressed.report.tuned is not None
    assert compressed.report.tuned.steps > 0
    for module in compressed.graph.modules():
        if isinstance(module, ActivationQuantizer | WeightQuantizer):
            assert bool((module.scale > 0).all())
    waveedge.save_artifact(compressed, tmp_path / "a.safetensors")
    waveedge.load_artifact(tmp_path / "a.safetensors")


def test_what_no_artifact_may_hold_is_not_written(untuned: Compressed, tmp_path: Path) -> None:
    broken = copy.deepcopy(untuned)
    grid = next(m for m in broken.graph.modules() if isinstance(m, WeightQuantizer))
    grid.scale.data[0] = -1
    with pytest.raises(waveedge.ExportError, match="scale that is no positive number"):
        waveedge.save_artifact(broken, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_one_seed_gives_one_network(tuned: Compressed) -> None:
    again = small(60)
    for one, other in zip(tuned.graph.parameters(), again.graph.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_untuned_network_is_kept_where_training_harms(
    untuned: Compressed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waveedge.compression.tuning._RATE", 100.0)
    monkeypatch.setattr("waveedge.compression.tuning._SHORTER", 1.0)
    images = list(IMAGES[:, None])
    before = [parameter.clone() for parameter in untuned.graph.parameters()]
    graph, found = tune_graph(untuned.graph, net(), images[:6], images[6:], 12, 0)
    assert (graph, found.steps) == (untuned.graph, 0)
    assert found.before == found.after
    for one, other in zip(before, untuned.graph.parameters(), strict=True):
        assert torch.equal(one, other)


def test_where_training_harms_it_goes_on_from_the_best_state_in_shorter_steps(
    untuned: Compressed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waveedge.compression.tuning._RATE", 100.0)
    images = list(IMAGES[:, None])
    _, found = tune_graph(untuned.graph, net(), images[:6], images[6:], 36, 0)
    assert found.steps > 12  # the first looks saw it spoilt
    assert found.after.total < found.before.total


def test_a_network_without_trained_parts_stays() -> None:
    """An arg-max has no gradient."""

    class Labels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).argmax(1)

    with pytest.warns(UserWarning, match="tuning ended after 0 steps: no output has a gradient"):
        result = waveedge.compress(Labels(), IMAGES, bits=4, tune=5)
    assert result.report.tuned is not None
    assert result.report.tuned.steps == 0


def test_code_that_cannot_be_trained_ships_untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is a fake: of torch's own operators, hardly one has no derivative."""

    def fails(*_: object) -> Tensor:
        raise RuntimeError("derivative for mine is not implemented")

    monkeypatch.setattr("waveedge.compression.tuning.output_loss", fails)
    said: list[str] = []
    result = waveedge.compress(net(), IMAGES, bits=4, tune=5, warn=said.append)
    assert result.report.tuned is not None
    assert result.report.tuned.steps == 0
    assert any("derivative for mine is not implemented" in text for text in said), said


def test_code_of_a_batch_of_one_is_tuned() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = net()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.body(x)
            return y.reshape(1, 3, 16, 16) * 2

    result = waveedge.compress(Net(), IMAGES, bits=3, tune=20)
    assert result.report.tuned is not None
    assert result.report.tuned.steps > 0


def test_a_network_in_doubles_is_tuned() -> None:
    result = waveedge.compress(net().double(), IMAGES, bits=3, tune=20)
    assert result.report.tuned is not None
    assert result.report.tuned.steps > 0


def test_no_grid_collapses(tuned: Compressed) -> None:
    grids = [m for m in tuned.graph.modules() if isinstance(m, ActivationQuantizer)]
    assert grids
    assert all(float(grid.scale.detach()) > 0 for grid in grids)


@pytest.mark.parametrize(
    ("fields", "macs", "steps"),
    [
        ({"bits": 8}, 1e5, 0),
        ({"bits": 4}, 1e5, 200),
        ({"bits": 8, "wcc_ratio": 0.5}, 1e5, 200),
        ({"bits": 8, "weight_bits": 4}, 1e5, 200),
        ({"bits": 8, "macs": 0.5}, 25_000, 320),
        ({"bits": 4}, 0.0, 500),
        ({"bits": 4, "tune": 0}, 1e5, 0),
        ({"bits": 8, "tune": 7}, 1.0, 7),
    ],
)
def test_it_is_done_where_it_pays(fields: dict[str, float], macs: float, steps: int) -> None:
    assert waveedge.Recipe(**fields).tuning_steps(macs) == steps  # type: ignore[arg-type]
