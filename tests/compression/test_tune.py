"""The verb tune: a compressed network comes nearer to its own, and goes on where it was killed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import waveedge
from waveedge.compression import budget
from waveedge.compression import tuning as rules
from waveedge.compression.compressed import Compressed
from waveedge.compression.tuning import Tuning
from waveedge.errors import CheckpointError, InputError, RecipeError

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


@pytest.fixture(scope="module")
def untuned() -> Compressed:
    return waveedge.compress(net(), IMAGES, bits=4, weight_bits=2, tune=0)


@pytest.fixture(scope="module")
def tuned(untuned: Compressed) -> Compressed:
    return waveedge.tune(untuned, IMAGES, steps=48)


def equal(one: Compressed, other: Compressed) -> bool:
    first, second = one.graph.state_dict(), other.graph.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def test_the_output_comes_nearer_and_the_report_says_so(untuned: Compressed) -> None:
    tuned = waveedge.tune(untuned, IMAGES, steps=96)
    assert tuned.report.quality.snr_db > untuned.report.quality.snr_db + 1
    assert tuned.report.tuned is not None
    assert tuned.report.tuned.snr_db == pytest.approx(tuned.report.quality.snr_db)
    assert untuned.report.tuned is None
    assert not equal(untuned, tuned)


def test_an_artifact_is_tuned_as_what_is_in_memory(
    untuned: Compressed, tuned: Compressed, tmp_path: Path
) -> None:
    waveedge.save_artifact(untuned, tmp_path / "a.safetensors")
    loaded = waveedge.tune(tmp_path / "a.safetensors", IMAGES, teacher=net(), steps=48)
    x = torch.from_numpy(IMAGES[:1])
    assert torch.allclose(loaded(x), tuned(x), atol=1e-5)
    waveedge.save_artifact(loaded, tmp_path / "b.safetensors")
    assert torch.equal(waveedge.load_artifact(tmp_path / "b.safetensors")(x), loaded(x))


@pytest.mark.parametrize("looks", [1, 5])
def test_an_interrupted_tuning_ends_as_one_that_was_not(
    untuned: Compressed,
    tuned: Compressed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    looks: int,
) -> None:
    state = tmp_path / "state"
    real, seen = rules.output_error, []

    def killed(*arguments: object) -> float:
        seen.append(1)
        if len(seen) > looks + 1:  # the first one is of what came in
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rules, "output_error", killed)
    with pytest.raises(KeyboardInterrupt):
        waveedge.tune(untuned, IMAGES, steps=48, state=state)
    monkeypatch.setattr(rules, "output_error", real)
    said: list[str] = []
    again = waveedge.tune(untuned, IMAGES, steps=48, state=state, warn=said.append)
    assert said == [f"goes on after {4 * looks} steps, from {state}"]
    assert equal(again, tuned)


def test_a_state_of_another_tuning_is_not_gone_on_from(
    untuned: Compressed, tuned: Compressed, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    waveedge.tune(untuned, IMAGES, steps=12, state=state)
    assert equal(waveedge.tune(untuned, IMAGES, steps=48, state=state), tuned)


def test_a_damaged_state_is_one_message(untuned: Compressed, tmp_path: Path) -> None:
    state = tmp_path / "state"
    waveedge.tune(untuned, IMAGES, steps=12, state=state)
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is damaged"):
        waveedge.tune(untuned, IMAGES, steps=12, state=state)


def test_what_cannot_be_tuned_is_refused(untuned: Compressed, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not compressed"):
        waveedge.tune(net(), IMAGES)  # type: ignore[arg-type]
    for other, message in (
        (nn.Conv2d(3, 4, 1), r"is another network: its outputs are \[\(1, 4, 16, 16\)\]"),
        (nn.Conv2d(5, 3, 1), "cannot run on what the compressed network takes"),
    ):
        with pytest.raises(InputError, match=message):
            waveedge.tune(untuned, IMAGES, teacher=other)
    waveedge.save_artifact(untuned, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="made in memory, is not found"):
        waveedge.tune(tmp_path / "a.safetensors", IMAGES)


def test_the_network_that_was_given_stays_as_it_is(untuned: Compressed) -> None:
    before = {name: value.clone() for name, value in untuned.graph.state_dict().items()}
    tuning = Tuning(untuned.graph, net(), [IMAGES[:1]], [IMAGES[1:2]], 6, 0)
    tuning.run()
    assert tuning.done == 6
    assert all(torch.equal(value, before[n]) for n, value in untuned.graph.state_dict().items())


def test_minutes_become_steps_that_give_the_same_again(
    untuned: Compressed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    state = tmp_path / "state"
    seen: list[int] = []

    def stops(_what: str, done: int, total: int) -> None:
        seen.append(total)
        if done == total // 2 + 1:
            raise KeyboardInterrupt

    arguments = {"minutes": 0.02, "state": state, "warn": said.append}
    with pytest.raises(KeyboardInterrupt):
        waveedge.tune(untuned, IMAGES, progress=stops, **arguments)  # type: ignore[arg-type]
    match = re.fullmatch(r"about 0.02 minutes: ([\d,]+) steps; --steps (\d+) .*", said.pop())
    assert match is not None
    steps = int(match[2])
    assert match[1] == f"{steps:,}"
    assert set(seen) == {steps}
    # Another load of the machine would give another number; the file has the one that holds.
    monkeypatch.setattr("waveedge.finetune.steps_within", lambda *_: 1)
    again = waveedge.tune(untuned, IMAGES, **arguments)  # type: ignore[arg-type]
    assert said
    assert said.pop().startswith("goes on after ")
    assert equal(again, waveedge.tune(untuned, IMAGES, steps=steps))


def test_a_time_is_kept_to_roughly(untuned: Compressed) -> None:
    """By a clock that the work itself moves: a machine's load is nothing to test by."""
    clock = [0.0]

    class Trial(Tuning):
        def step(self) -> str:
            clock[0] += 2.0
            return super().step()

        def look(self) -> None:
            clock[0] += 10.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("waveedge.compression.budget.time.perf_counter", lambda: clock[0])
        for seconds, steps in ((1130, 495), (130, 10), (10, 1), (1e9, 1_000_000)):
            trial = Trial(untuned.graph, net(), [IMAGES[:1]], [IMAGES[1:2]], 6, 0)
            assert budget.steps_within(trial, seconds) == pytest.approx(steps, abs=1)


def test_a_budget_that_makes_no_sense_is_refused(untuned: Compressed) -> None:
    for given, message in (
        ({"steps": 1, "minutes": 1.0}, "both steps and minutes"),
        ({"steps": 0}, "0 steps are no training"),
        ({"minutes": 0.0}, "0 minutes are no time"),
        ({"minutes": float("nan")}, "nan minutes"),
        ({"minutes": 1e9}, "at most 10,080"),
    ):
        with pytest.raises(RecipeError, match=message):
            waveedge.tune(untuned, IMAGES, **given)  # type: ignore[arg-type]


def test_progress_tells_the_quality_so_far(untuned: Compressed) -> None:
    told: list[str] = []
    result = waveedge.tune(
        untuned, IMAGES, steps=24, progress=lambda what, _done, _total: told.append(what)
    )
    assert result.report.tuned is not None
    assert told[0] == f"tuning, {result.report.tuned.snr_db_before:.1f} dB"
    assert told[-1] == f"tuning, {result.report.tuned.snr_db:.1f} dB"


def test_the_module_trains_in_a_loop_of_ones_own(untuned: Compressed, tmp_path: Path) -> None:
    """As docs/shrinking.md shows: the module of a loaded artifact, labels, any optimiser."""
    waveedge.save_artifact(untuned, tmp_path / "small.safetensors")
    small = waveedge.load_artifact(tmp_path / "small.safetensors")
    wanted = torch.from_numpy(IMAGES).roll(1, 1)  # labels of this test's own
    parameters = small.graph.named_parameters()
    optimiser = torch.optim.Adam([p for n, p in parameters if not n.endswith("scale")], lr=1e-3)
    losses = []
    for _ in range(20):
        loss = nn.functional.mse_loss(small.graph(torch.from_numpy(IMAGES)), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.97 * losses[0]
    waveedge.save_artifact(small, tmp_path / "trained.safetensors")
    trained = waveedge.load_artifact(tmp_path / "trained.safetensors")
    x = torch.from_numpy(IMAGES)
    assert torch.allclose(trained(x), small(x), atol=1e-5)
    trained.original = net()
    bundle = waveedge.export(trained, tmp_path / "b", target="ort", images=IMAGES)
    found = waveedge.Session(bundle.path).run(IMAGES[:1])
    assert isinstance(found, np.ndarray)
    assert np.abs(found - trained(x[:1]).numpy()).max() < 0.05 * float(trained(x).abs().max())
