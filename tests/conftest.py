"""Settings of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

# Tests run side by side: threads of one torch would only wait for those of another. Set before
# torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _one_table_of_operators() -> Iterator[None]:
    """torch.onnx makes its table of operators anew for every export, which takes a second."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    made = {}
    make = ONNXRegistry.from_torchlib

    def table(opset_version: int) -> Any:
        if opset_version not in made:
            made[opset_version] = make(opset_version)
        copied = ONNXRegistry()  # an export adds translations of its own
        copied.__dict__.update(made[opset_version].__dict__)
        copied.functions = {name: list(found) for name, found in copied.functions.items()}
        return copied

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(table))
        yield
