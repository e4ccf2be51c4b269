"""A copy of a network is what ``copy.deepcopy`` makes of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from waveedge.duplicates import duplicate
from waveedge.models import WaveMix, WaveMixConfig
from waveedge.normalise import normalise


class Odd(nn.Module):
    """Things that modules have: a list, a tensor that is no parameter, one of another's layers."""

    def __init__(self, other: nn.Conv2d) -> None:
        super().__init__()
        self.numbers, self.table = [1, 2], {"a": torch.ones(2)}
        self.other, self.nothing = other, None
        self.weight = other.weight
        self.register_buffer("kept", torch.zeros(3))
        self.register_buffer("passing", torch.zeros(3), persistent=False)
        self.register_module("none", None)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.other(x) + self.weight.sum() + self.table["a"].sum() + self.kept.sum()
        return y


class Own(nn.Module):
    """It says how it is copied."""

    copies = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Own:
        Own.copies += 1
        return Own()

    def forward(self, x: Tensor) -> Tensor:
        return x


def network() -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding="same")
    conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    rest = nn.Sequential(nn.BatchNorm2d(4), nn.Upsample(scale_factor=2), nn.Softmax(1), Own())
    return nn.Sequential(conv, rest, nn.Conv2d(4, 3, 1), Odd(conv)).eval()


def described(module: nn.Module) -> Any:
    """Everything in it, tensors as lists."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name == "_modules":
            value = {key: child and described(child) for key, child in value.items()}
        elif name in ("_parameters", "_buffers", "table"):
            value = {
                key: tensor is not None and (type(tensor), tensor.tolist(), tensor.requires_grad)
                for key, tensor in value.items()
            }
        found[name] = value
    return type(module), found


def test_a_copy_has_what_the_original_has_and_shares_nothing_with_it() -> None:
    one = network()
    two, as_python = duplicate(one), copy.deepcopy(one)
    assert described(two) == described(as_python)
    own = {tensor.data_ptr() for tensor in (*one.parameters(), *one.buffers())}
    assert not own & {tensor.data_ptr() for tensor in (*two.parameters(), *two.buffers())}
    assert two[3].numbers is not one[3].numbers  # type: ignore[index]
    assert two[3].table["a"] is not one[3].table["a"]  # type: ignore[index]
    for first, second in zip(one.modules(), two.modules(), strict=True):
        assert first is not second
        assert first._forward_hooks is not second._forward_hooks


def test_what_is_shared_stays_shared() -> None:
    two = duplicate(network())
    assert two[3].other is two[0]  # type: ignore[index]
    assert two[3].weight is two[0].weight  # type: ignore[index]


def test_a_class_that_says_how_it_is_copied_is_asked() -> None:
    before = Own.copies
    duplicate(network())
    assert Own.copies == before + 1


def test_hooks_come_along() -> None:
    one = network()
    one[0].register_forward_hook(lambda *_: torch.zeros(1, 4, 8, 8))  # type: ignore[index, operator]
    assert not duplicate(one)[0](torch.ones(1, 3, 8, 8)).any()


@pytest.mark.parametrize("layer", [nn.LSTM(4, 3, batch_first=True), nn.MultiheadAttention(4, 2)])
def test_layers_with_a_state_of_their_own_run(layer: nn.Module) -> None:
    other = duplicate(nn.ModuleList([layer]))[0]
    x = torch.ones(2, 5, 4)
    args = (x,) if isinstance(layer, nn.LSTM) else (x, x, x)
    assert torch.equal(layer(*args)[0], other(*args)[0])


def test_a_graph_of_layers_computes_the_same_and_can_be_changed() -> None:
    config = WaveMixConfig(depth=1, dim=8, ff_channels=8, levels=1, num_classes=3)
    graph = normalise(WaveMix(config).eval(), (3, 32, 32))
    x = torch.ones(1, 3, 32, 32)
    with torch.no_grad():
        wanted = graph(x)
        other = duplicate(graph)
        assert torch.equal(other(x), wanted)
        assert [node.name for node in other.graph.nodes] == [n.name for n in graph.graph.nodes]
        for parameter in other.parameters():
            parameter.zero_()
        assert torch.equal(graph(x), wanted)
