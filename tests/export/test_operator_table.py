"""One table of operators serves all exports, and none leaves anything in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import export
from torch.onnx._internal.exporter._fx_passes import decompose_with_registry
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


class Composed(nn.Module):
    """Operators that stay, that are taken apart, and that write into what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.selu_(self.norm(self.conv(x)))
        y[:, :2] += nn.functional.adaptive_avg_pool2d(y, 1)[:, 2:]
        z: Tensor = nn.functional.pixel_shuffle(y, 2).mT.mean().expand_as(x)
        return z


def test_programs_are_taken_apart_as_without_it() -> None:
    def decomposed() -> str:
        program = export(Composed().eval(), (torch.zeros(2, 3, 8, 8),), strict=False)
        return str(decompose_with_registry(program, ONNXRegistry.from_torchlib(20)).graph)

    with torch.no_grad():
        wanted = decomposed()
        with one_table_of_operators():
            assert decomposed() == decomposed() == wanted


def test_torch_is_left_as_it_was() -> None:
    before = ONNXRegistry.__dict__["from_torchlib"]
    with one_table_of_operators():
        assert ONNXRegistry.__dict__["from_torchlib"] is not before
    assert ONNXRegistry.__dict__["from_torchlib"].__func__ is before.__func__
