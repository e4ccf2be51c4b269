"""The quick way to a functional program yields what torch's own does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export

from waveedge.normalise.decompose import functional

from .test_normal_form import made


class InPlace(nn.Module):
    """Writes into what it reads, and has composites that torch keeps, and some that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.norm(self.conv(x)))
        a, b = y.chunk(2, 1)
        y[:, :2] += a.expand_as(b) * b
        z: Tensor = self.linear(nn.functional.adaptive_avg_pool2d(y, 1).flatten(1))
        return torch.dropout(z, 0.5, False).reshape(-1, 1, 2).contiguous()


class Rare(nn.Module):
    """An operation that torch takes apart into others of which some are composite."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.selu_(x * 2) + x.mT.mH.mean()


def _program(network: nn.Module) -> ExportedProgram:
    with torch.no_grad():
        return export(network.eval(), (torch.zeros(2, 3, 16, 16),), strict=False)


@pytest.mark.parametrize("network", [InPlace, Rare, "channel attention", "fourier"])
def test_the_quick_way_yields_the_same_program(network: str | type[nn.Module]) -> None:
    made_once = made(network) if isinstance(network, str) else network()
    found = functional(_program(made_once))
    wanted = _program(made_once).run_decompositions({})
    assert str(found.graph) == str(wanted.graph)
    assert found.graph_signature == wanted.graph_signature
    assert not any(
        node.target._schema.is_mutable
        for node in found.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)
    )
