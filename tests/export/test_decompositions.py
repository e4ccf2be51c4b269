"""Programs taken apart on their graph are those that torch makes by tracing them again."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, fx, nn

from waveedge.export import operator_table
from waveedge.export.decompositions import take_apart
from waveedge.export.torch_to_onnx import Batch, to_onnx


class Views(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(2, 3).reshape(x.shape[0], -1).unflatten(1, (4, -1))
        return torch.flatten(y, 1).view(-1, 8)


class Transposed(nn.Module):
    """A matrix transposed by ``mT``, which is composite and yields a view."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ x.mT


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        y[:, 1] = 0
        return y.relu_()


def _moved(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    torch.manual_seed(0)
    for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        if tensor is not None:
            nn.init.uniform_(tensor, 0.5, 1.5)
    return norm


ON_THE_GRAPH: dict[str, Callable[[], nn.Module]] = {
    "none": lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.GELU(), nn.AvgPool2d(2)),
    "transposed convolutions": lambda: nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, bias=False),
        nn.ConvTranspose2d(6, 4, (2, 3), stride=(1, 2), dilation=(1, 2), groups=2),
    ),
    "batch norms": lambda: nn.Sequential(
        _moved(nn.BatchNorm2d(4, eps=1e-2)), nn.ReLU(), _moved(nn.BatchNorm2d(4, affine=False))
    ).append(nn.Sigmoid()),
    "views": Views,
}
AGAIN: dict[str, Callable[[], nn.Module]] = {
    "an output of a batch norm": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
    "statistics of the batch": lambda: nn.Sequential(
        nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()
    ),
    "padding by name": lambda: nn.Conv2d(4, 4, 3, padding="same"),
    "a composite view": Transposed,
    "in place": InPlace,
}


def _description(model: ir.Model) -> list[object]:
    """Nodes, what connects them and their constants; -1 in a Reshape is what it comes to."""
    numbers: dict[ir.Value, int] = {}
    found: list[object] = []
    for node in model.graph:
        constants: list[object] = []
        for value in node.inputs:
            held = None if value is None else value.const_value
            if value is None or held is None:
                constants.append(None if value is None else numbers.setdefault(value, len(numbers)))
            elif node.op_type != "Reshape":
                constants.append(held.numpy().tolist())
        attributes = {name: str(held) for name, held in node.attributes.items()}
        attributes.pop("allowzero", None)  # no size is 0
        outputs = [(numbers.setdefault(v, len(numbers)), str(v.shape)) for v in node.outputs]
        found.append((node.name, node.op_type, constants, attributes, outputs))
    return found


def _exported(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, how: Any, batch: Batch = 1
) -> tuple[ir.Model, list[bool]]:
    answers: list[bool] = []

    def noted(*given: Any) -> bool:
        answers.append(how(*given))
        return answers[-1]

    monkeypatch.setattr(operator_table, "take_apart", noted)
    return to_onnx(model.eval(), (4, 8, 8), batch=batch), answers


@pytest.mark.parametrize("name", [*ON_THE_GRAPH, *AGAIN])
def test_the_graph_is_that_of_tracing_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {**ON_THE_GRAPH, **AGAIN}[name]()
    ours, answers = _exported(model, monkeypatch, take_apart)
    torchs, _ = _exported(model, monkeypatch, lambda *_given: False)
    assert answers == [name in ON_THE_GRAPH]
    assert _description(ours) == _description(torchs)


def test_free_sizes_are_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, answers = _exported(ON_THE_GRAPH["none"](), monkeypatch, take_apart, "dynamic")
    assert answers == [False]


def test_what_is_no_operator_is_traced_again() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(operator.add, (x, x)))
    assert not take_apart(graph, {operator.add})
