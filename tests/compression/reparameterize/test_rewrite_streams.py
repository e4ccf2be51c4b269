"""Residual streams read without being made, and kept in polyphase form where they are made."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from waveedge.compression.reparameterize import CPU, Applied
from waveedge.compression.reparameterize.phases import PhaseToSpace, SpaceToPhase
from waveedge.nn import DWT2d

from .conftest import MACS_ALONE

Check = Callable[..., fx.GraphModule]

WRITERS: dict[str, Callable[[int], nn.Module]] = {
    "4/2": lambda c: nn.ConvTranspose2d(c, c, 4, 2, 1),
    "2/2": lambda c: nn.ConvTranspose2d(c, c, 2, 2),
    "6/2": lambda c: nn.ConvTranspose2d(c, c, 6, 2, 2, bias=False),
    "up and 3x3": lambda c: nn.Sequential(
        nn.ConvTranspose2d(c, c, 4, 2, 1), nn.Conv2d(c, c, 3, padding=1)
    ),
    "batchnorm": lambda c: nn.Sequential(nn.ConvTranspose2d(c, c, 4, 2, 1), nn.BatchNorm2d(c)),
}
STEMS: dict[str, Callable[[int], nn.Module]] = {
    "linear": lambda c: nn.Sequential(nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)),
    "strided": lambda c: nn.Conv2d(3, c, 3, 2, 1),
    "gelu": lambda c: nn.Sequential(nn.Conv2d(3, c, 1), nn.GELU(), nn.BatchNorm2d(c)),
}
HEADS: dict[str, Callable[[int], nn.Module]] = {
    "pool": lambda c: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(c, 5)),
    "embedded pool": lambda c: nn.Sequential(
        nn.Conv2d(c, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(6, 5)
    ),
    "dense": lambda c: nn.Sequential(nn.ConvTranspose2d(c, c, 4, 2, 1), nn.Conv2d(c, 2, 1)),
    "3x3": lambda c: nn.Conv2d(c, 2, 3, padding=1),
    "gelu": lambda c: nn.Sequential(nn.GELU(), nn.Conv2d(c, 2, 1)),
}


class Block(nn.Module):
    """Half as wide and high inside; writes to the stream through a transposed convolution."""

    def __init__(self, channels: int, writer: str) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(channels, channels // 4, 1)
        self.transform = DWT2d()
        self.mix = nn.Conv2d(channels, channels, 1)
        self.back = nn.Conv2d(channels, channels, 1)
        self.writer = WRITERS[writer](channels)

    def forward(self, x: Tensor) -> Tensor:
        low, details = self.transform(self.reduction(x))
        bands = torch.cat((low, details[0].flatten(1, 2)), 1)
        written: Tensor = self.writer(self.back(nn.functional.gelu(self.mix(bands))))
        return written


class Net(nn.Module):
    def __init__(self, stem: str, writer: str, head: str, depth: int, channels: int = 8) -> None:
        super().__init__()
        self.stem = STEMS[stem](channels)
        self.blocks = nn.ModuleList(Block(channels, writer) for _ in range(depth))
        self.head = HEADS[head](channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number, block in enumerate(self.blocks):
            x = x + block(x) if number % 2 else block(x) + x
        y: Tensor = self.head(x)
        return y


def rules(result: fx.GraphModule) -> Counter[str]:
    applied: tuple[Applied, ...] = result.applied  # type: ignore[assignment]
    return Counter(item.rule for item in applied)


PAIRS = [
    (stem, ("4/2", "up and 3x3")[(i + j) % 2], head)
    for (i, stem), (j, head) in itertools.product(enumerate(STEMS), enumerate(HEADS))
]
"""Every two of a stem, a writer and a head meet."""


@pytest.mark.parametrize(("stem", "writer", "head"), PAIRS)
def test_streams_of_every_kind_where_multiply_adds_decide(
    check: Check, stem: str, writer: str, head: str
) -> None:
    check(Net(stem, writer, head, depth=2), (16, 12), cost=MACS_ALONE, in_float32=False)


@pytest.mark.parametrize(("writer", "head"), list(itertools.product(WRITERS, ["pool", "gelu"])))
def test_streams_of_every_kind_at_their_true_cost(check: Check, writer: str, head: str) -> None:
    check(Net("linear", writer, head, depth=3), (8, 12))


def test_a_pooled_stream_is_never_made(check: Check) -> None:
    result = check(Net("gelu", "4/2", "pool", depth=3), (16, 16), cost=MACS_ALONE)
    assert rules(result)["residual.2"] == 1
    assert not any(isinstance(m, PhaseToSpace) for m in result.modules())


def test_a_stream_that_something_nonlinear_reads_is_made(check: Check) -> None:
    result = check(Net("linear", "4/2", "gelu", depth=3), (16, 16), cost=MACS_ALONE)
    assert not any(rule.startswith("residual") for rule in rules(result))


def test_only_the_last_blocks_of_a_deep_network_see_through_the_stream(check: Check) -> None:
    result = check(Net("linear", "4/2", "pool", depth=12), (16, 16), cost=MACS_ALONE)
    applied: tuple[Applied, ...] = result.applied  # type: ignore[assignment]
    first = [item.where for item in applied if item.rule == "residual.2"]
    assert first in [[f"blocks.{number}.reduction"] for number in range(7, 12)]


def test_a_made_stream_stays_in_phases(check: Check) -> None:
    # The other prices are those of a CPU; there a map this small is not worth the operators.
    cheap = CPU.model_copy(update={"node": 0})
    result = check(Net("linear", "4/2", "gelu", depth=3), (16, 16), cost=cheap)
    found = rules(result)
    # Two transposed convolutions are read by later blocks, the last one by the head as a map.
    assert (found["polyphase.1"], found["polyphase.5"], found["polyphase.6"]) == (2, 2, 1)
    assert sum(isinstance(m, PhaseToSpace) for m in result.modules()) == 2
    assert sum(isinstance(m, SpaceToPhase) for m in result.modules()) == 1
    # Each phase by itself, with the taps that reach its pixels and no pixel more.
    phases = [m for name, m in result.named_modules() if "writer_phase" in name]
    assert len(phases) == 2 * 4
    assert {m.kernel_size for m in phases} == {(2, 2)}


def test_streams_inside_a_network_that_reads_every_value(check: Check) -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 1)
            self.blocks = nn.ModuleList(Block(8, "4/2") for _ in range(3))
            self.heads = nn.ModuleList(nn.Conv2d(8, 2, 1) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            outputs = [self.heads[0](x)]
            for head, block in zip(self.heads[1:], self.blocks, strict=True):
                x = x + block(x)
                outputs.append(head(x))
            return torch.cat(outputs, 1)

    check(Dense(), (16, 24))


@pytest.mark.parametrize("stem", ["linear", "gelu"])
def test_two_streams_one_behind_the_other(check: Check, stem: str) -> None:
    """With nothing but linear layers in between, the second starts where the first is read."""

    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Net("linear", "4/2", "3x3", depth=2)
            self.between = nn.Conv2d(2, 3, 2, 2)
            self.second = Net(stem, "2/2", "pool", depth=2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.second(self.between(self.first(x)))
            return y

    check(Stages(), (16, 24), cost=MACS_ALONE)
