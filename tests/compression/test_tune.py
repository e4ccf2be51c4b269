"""The verb tune: a compressed network comes nearer to its own, and goes on where it was killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import waveedge
from waveedge.compression import tuning as rules
from waveedge.compression.compressed import Compressed
from waveedge.compression.tuning import Tuning
from waveedge.errors import CheckpointError, InputError

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
    return waveedge.compress(net(), IMAGES, bits=3, weight_bits=4, tune=0)


@pytest.fixture(scope="module")
def tuned(untuned: Compressed) -> Compressed:
    return waveedge.tune(untuned, IMAGES, steps=48)


def equal(one: Compressed, other: Compressed) -> bool:
    first, second = one.graph.state_dict(), other.graph.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def test_the_output_comes_nearer_and_the_report_says_so(
    untuned: Compressed, tuned: Compressed
) -> None:
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
