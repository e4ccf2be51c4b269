"""The quick way to a functional program yields what torch's own does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export

from waveedge.normalise import decompose, normalise
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


class Plain(nn.Module):
    """Functional as it is, with every composite that may stay."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(1024, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.dropout2d(self.norm(self.conv(x)).relu(), training=self.training)
        y = torch.dropout(y.contiguous().to(torch.float32), 0.5, self.training)
        z: Tensor = self.linear(y.flatten(1)) + y.flatten(2, 3).reshape(-1, 4, 256).mean((1, 2))[0]
        return z


@pytest.mark.parametrize("name", ["Plain", "constants", "unet"])
def test_a_plain_program_is_taken_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Plain().eval() if name == "Plain" else made(name)
    if name == "Plain":
        program = _program(network)
        assert functional(program) is program
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    taken = normalise(network, (3, 16, 16))
    monkeypatch.setattr(decompose, "_is_functional", lambda node: False)
    traced = normalise(network, (3, 16, 16))
    with torch.no_grad():
        torch.testing.assert_close(taken(x), traced(x), rtol=0, atol=0)
        torch.testing.assert_close(taken(x), network(x))
    kinds, others = ([type(layer).__name__ for layer in g.modules()] for g in (taken, traced))
    assert kinds == others
    assert taken.output_names == traced.output_names
    if name == "Plain":
        assert taken.code == traced.code


class Odd(nn.Module):
    """One thing that torch must rewrite."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "statistics of the batch":
            y: Tensor = self.norm(x)
            return y
        if self.kind == "a cast":
            return x.to(torch.float64)
        if self.kind == "no axes to join":
            return x.flatten(1, 1)
        if self.kind == "in place":
            return (x * 2).add_(1)
        with torch.no_grad():
            y = x * 2
        return y + 1


@pytest.mark.parametrize(
    "kind", ["statistics of the batch", "a cast", "no axes to join", "in place", "a part apart"]
)
def test_what_torch_must_rewrite_is_not(kind: str) -> None:
    network = Odd(kind)
    with torch.enable_grad():
        program = export(
            network.eval(), (torch.ones(2, 3, 4, 4, requires_grad=True),), strict=False
        )
    found = functional(program)
    assert found is not program
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(found.module()(x), network(x))
