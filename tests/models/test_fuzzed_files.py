"""Random damage to checkpoint files ends in a network or in a clear refusal, never in a crash."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import nn

from waveedge.checkpoint import load, save_checkpoint
from waveedge.errors import WaveedgeError


def write(model: nn.Module, path: Path, kind: str) -> None:
    if kind == "safetensors":
        save_checkpoint(model, path)
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")


@pytest.mark.parametrize("kind", ["zip", "older format", "safetensors"])
def test_damaged_bytes(tmp_path: Path, small: nn.Module, kind: str) -> None:
    path, damaged = tmp_path / "model.pt", tmp_path / "damaged.pt"
    write(small, path, kind)
    content = path.read_bytes()
    choose = random.Random(0)
    refused = []
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(choose.choice((1, 4, 16))):
            # Names and shapes are in the first bytes, weights in the others.
            end = choose.choice((200, 5000, len(changed)))
            changed[choose.randrange(end)] = choose.randrange(256)
        if choose.random() < 0.2:
            del changed[choose.randrange(len(changed)) :]
        damaged.write_bytes(changed)
        try:
            load(damaged)
        except WaveedgeError as error:
            refused.append(error)
    assert len(refused) > 30
    assert all(error.what and error.hint for error in refused)
