"""One table of operators serves all exports, and none leaves anything in it."""

from __future__ import annotations

from typing import Any

import torch
from torch.onnx._internal.exporter._registration import ONNXRegistry

from waveedge.export.operator_table import one_table_of_operators


def _names(table: Any) -> dict[Any, int]:
    return {name: len(found) for name, found in table.functions.items()}


def test_an_export_does_not_see_the_translations_of_another() -> None:
    relu = torch.ops.aten.relu.default
    plain = ONNXRegistry.from_torchlib(20)
    with one_table_of_operators():
        first = ONNXRegistry.from_torchlib(20)
        first.register_op(relu, lambda x: x)
        second = ONNXRegistry.from_torchlib(20)
    assert _names(second) == _names(plain) != _names(first)
    assert second.opset_version == plain.opset_version
    assert (
        first.get_decomps(torch.ops.aten.mul.Tensor)[0]
        is (second.get_decomps(torch.ops.aten.mul.Tensor)[0])
    )


def test_torch_is_left_as_it_was() -> None:
    before = ONNXRegistry.__dict__["from_torchlib"]
    with one_table_of_operators():
        assert ONNXRegistry.__dict__["from_torchlib"] is not before
    assert ONNXRegistry.__dict__["from_torchlib"].__func__ is before.__func__
