from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from waveedge.models import WaveMixConfig, build
from waveedge.models.families import FAMILIES, describe

# The tensors are small: threads would cost more than they save.
torch.set_num_threads(1)

GOLDEN = Path(__file__).parents[1] / "data" / "golden"

Golden = Callable[[str], tuple[dict[str, Tensor], Tensor, Tensor]]


def golden_names() -> list[str]:
    """Names of the golden cases that are whole networks."""
    return [name for name, case in _index().items() if case["family"] in FAMILIES]


def golden_settings(name: str) -> dict[str, str]:
    """What has to be set for a golden case, since no key tells it."""
    settings: dict[str, str] = _index()[name].get("settings", {})
    return settings


def _index() -> dict[str, Any]:
    index: dict[str, Any] = json.loads((GOLDEN / "index.json").read_text())
    return index


def released() -> dict[str, dict[str, Any]]:
    cases: dict[str, dict[str, Any]] = json.loads((GOLDEN / "released_shapes.json").read_text())
    return cases


@pytest.fixture(scope="session")
def wavelets() -> Any:
    """Give pytorch_wavelets itself; it warns of what it imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_wavelets
    return pytorch_wavelets


@pytest.fixture
def golden() -> Golden:
    """Give the state dict, input and output of a golden case."""

    def read(name: str) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        state = torch.load(GOLDEN / f"{name}.pth", weights_only=True)
        arrays = np.load(GOLDEN / f"{name}.npz")
        return state, torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])

    return read


@pytest.fixture
def small() -> nn.Module:
    """Give a super-resolution network of 16 channels and 2 blocks, with random weights."""
    torch.manual_seed(0)
    config = WaveMixConfig(
        depth=2,
        dim=16,
        ff_channels=16,
        num_classes=3,
        stem="strided",
        stride=1,
        head="expand",
        head_widths=(8,),
    )
    return build(describe(config))
