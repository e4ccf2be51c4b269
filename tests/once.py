"""What need not be done again for every export of a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def one_table_of_operators() -> Iterator[None]:
    """torch.onnx makes its table of operators anew for every export, which takes a second."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    made: dict[int, ONNXRegistry] = {}
    make = ONNXRegistry.from_torchlib

    def table(opset_version: int) -> Any:
        if opset_version not in made:
            made[opset_version] = make(opset_version)
        copied = ONNXRegistry()  # an export adds translations of its own
        copied.__dict__.update(made[opset_version].__dict__)
        copied.functions = {name: list(found) for name, found in copied.functions.items()}
        return copied

    with patch.object(ONNXRegistry, "from_torchlib", staticmethod(table)):
        yield
