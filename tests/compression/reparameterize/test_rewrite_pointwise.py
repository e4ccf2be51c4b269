"""Linear layers on (N, H, W, C) as 1x1 convolutions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

Check = Callable[..., fx.GraphModule]


class Block(nn.Module):
    """The dense part of a ConvNeXt block, with or without its normalisation."""

    def __init__(self, *, norm: bool, function: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6) if norm else nn.Identity()
        self.widen, self.act, self.narrow = nn.Linear(6, 24), nn.GELU(), nn.Linear(24, 6)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(self.act(self.widen(self.norm(x.permute(0, 2, 3, 1)))))
        back = torch.permute(y, (0, 3, 1, 2)) if self.function else y.permute(0, 3, 1, 2)
        return x + back


@pytest.mark.parametrize("function", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 3)], ids=str)
def test_linear_layers_behind_a_normalisation(
    check: Check, size: tuple[int, int], function: bool
) -> None:
    result = check(Block(norm=True, function=function), size, channels=6)
    assert not any(isinstance(m, nn.Linear) for m in result.modules())
    assert [item.rule for item in result.applied] == ["pointwise.1"] * 2  # type: ignore[union-attr]
    assert result.get_parameter("widen.weight").shape == (24, 6, 1, 1)


def test_permutations_there_and_back_cancel_out(check: Check) -> None:
    result = check(Block(norm=False), (5, 7), channels=6)
    assert not any(node.target == "permute" for node in result.graph.nodes)


def test_a_value_that_something_else_reads_stays_channels_last(check: Check) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x.permute(0, 2, 3, 1))
            z: Tensor = self.last(y).permute(0, 3, 1, 2) + y.mean((1, 2))[:, :, None, None]
            return z

    result = check(Shared(), (5, 7), channels=6)
    assert isinstance(result.get_submodule("first"), nn.Linear)
    assert isinstance(result.get_submodule("last"), nn.Conv2d)


def test_linear_layers_without_a_way_back_are_left_alone(check: Check) -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.dense(x.permute(0, 2, 3, 1)).mean((1, 2))
            return y

    result = check(Head(), (5, 7), channels=6)
    assert isinstance(result.get_submodule("dense"), nn.Linear)
