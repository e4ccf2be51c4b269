"""Artifacts that earlier versions made: they compute what they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import waveedge
from waveedge.description import inspect

KEPT = Path(__file__).parent.parent / "data" / "artifacts"
NAMES = sorted(path.stem for path in KEPT.glob("*.safetensors"))


def test_there_are_some() -> None:
    assert len(NAMES) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_artifact_computes_what_it_did(name: str) -> None:
    kept = np.load(KEPT / f"{name}.npz")
    loaded = waveedge.load_artifact(KEPT / f"{name}.safetensors")
    output = loaded(torch.from_numpy(kept["input"])).numpy()
    # All numbers in the network are the same to the bit (their hashes are checked). But what a
    # convolution adds up in which order differs between processors and versions of torch, and
    # a sum that lies between two points of a grid may then be rounded to the other one.
    difference = np.abs(output - kept["output"])
    assert np.mean(difference <= 1e-5 * np.abs(kept["output"]).max()) > 0.95
    noise = float(np.square(difference).sum() / np.square(kept["output"]).sum())
    assert noise < 1e-5  # 50 dB


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_artifact_is_written_as_it_was(name: str, tmp_path: Path) -> None:
    """Nothing of it is lost on the way: it is read whole, and today's format is still its own."""
    loaded = waveedge.load_artifact(KEPT / f"{name}.safetensors")
    waveedge.save_artifact(loaded, tmp_path / "a.safetensors")
    again = waveedge.load_artifact(tmp_path / "a.safetensors")
    state, other = loaded.graph.state_dict(), again.graph.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[key], other[key]) for key in state)
    assert (again.spec, again.recipe, again.report) == (loaded.spec, loaded.recipe, loaded.report)


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_artifact_is_inspected(name: str) -> None:
    loaded = waveedge.load_artifact(KEPT / f"{name}.safetensors")
    assert inspect(loaded)["multiply_adds"] == loaded.report.macs_after
