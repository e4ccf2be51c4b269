from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

# The tensors are small: threads would cost more than they save.
torch.set_num_threads(1)

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def reference() -> Any:
    """pytorch_wavelets, the oracle; it warns of what it imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("pytorch_wavelets")


@pytest.fixture(scope="session")
def golden() -> Callable[[str], tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]]:
    """Reads a golden case: its state dict, input and expected output."""

    def read(name: str) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        state = torch.load(GOLDEN / f"{name}.pth", weights_only=True)
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return state, torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])

    return read


@pytest.fixture
def double() -> Iterator[None]:
    """Modules and tensors made in the test are float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
