from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from waveedge.export.operator_table import one_table_of_operators

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


@pytest.fixture(scope="session")
def to_onnx() -> Callable[..., onnx.ModelProto]:
    """Exports a module through torch's dynamo exporter at opset 20."""

    def export(module: nn.Module, x: torch.Tensor, *, dynamic: bool = False) -> onnx.ModelProto:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with one_table_of_operators():
            program = torch.onnx.export(
                module.eval(),
                (x,),
                dynamo=True,
                opset_version=20,
                dynamic_shapes=({0: torch.export.Dim("batch")},) if dynamic else None,
                verbose=False,
            )
        assert program is not None
        model: onnx.ModelProto = program.model_proto
        onnx.checker.check_model(model)
        return model

    return export


@pytest.fixture(scope="session")
def run_onnx() -> Callable[[onnx.ModelProto, torch.Tensor], list[np.ndarray]]:
    """Runs an ONNX model in onnxruntime on one thread."""

    def run(model: onnx.ModelProto, x: torch.Tensor) -> list[np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        return session.run(None, {session.get_inputs()[0].name: x.numpy()})  # type: ignore[no-any-return]

    return run
