"""Chains of linear layers as one convolution, borders included, and means of maps never made."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import fx, nn

from waveedge.compression.reparameterize import CPU, Applied
from waveedge.compression.reparameterize.layout import chain_cost, plan
from waveedge.compression.reparameterize.linear import step_of
from waveedge.compression.reparameterize.pooled import frame_of, pooled_weight

from .conftest import MACS_ALONE

Check = Callable[..., fx.GraphModule]


def conv(i: int, o: int, k: int, s: int = 1, p: int = 0) -> nn.Module:
    return nn.Conv2d(i, o, k, s, p)


def up(i: int, o: int, k: int = 4, s: int = 2, p: int = 1) -> nn.Module:
    return nn.ConvTranspose2d(i, o, k, s, p)


# Wide in the middle, so that contracting saves multiply-adds.
CHAINS: dict[str, list[nn.Module]] = {
    "two 3x3": [conv(2, 16, 3, 1, 1), conv(16, 3, 3, 1, 1)],
    "three 3x3": [conv(1, 24, 3, 1, 1), conv(24, 24, 3, 1, 1), conv(24, 1, 3, 1, 1)],
    "strided stem": [conv(3, 16, 3, 2, 1), conv(16, 4, 3, 2, 1)],
    "patch stem": [conv(3, 12, 3, 1, 1), conv(12, 24, 3, 1, 1), conv(24, 8, 4, 4)],
    "head": [up(4, 16), conv(16, 2, 1)],
    "deep head": [up(2, 24), up(24, 24), conv(24, 1, 1)],
    "up and 3x3": [up(3, 24), conv(24, 2, 3, 1, 1)],
    "down and up": [conv(3, 16, 3, 2, 1), up(16, 2)],
    "up and down": [up(3, 32), conv(32, 2, 3, 2, 1)],
    "6/4 and 3x3": [up(3, 32, 6, 4), conv(32, 1, 3, 1, 1)],
    "batchnorm inside": [conv(2, 16, 3, 1, 1), nn.BatchNorm2d(16), conv(16, 3, 3, 1, 1)],
    "same padding": [
        nn.Conv2d(2, 16, 3, padding="same", bias=False),
        nn.Conv2d(16, 3, 5, padding="same"),
    ],
}
SIZES = [(8, 8), (9, 14), (16, 12), (5, 4)]


@functools.cache
def chain(name: str) -> nn.Module:
    """One network for all sizes, and so one normal form."""
    return nn.Sequential(*CHAINS[name])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_one_convolution_with_border_kernels(
    check: Check, name: str, size: tuple[int, int]
) -> None:
    first = CHAINS[name][0]
    assert isinstance(first, (nn.Conv2d, nn.ConvTranspose2d))
    check(chain(name), size, channels=first.in_channels, cost=MACS_ALONE)


class Fork(nn.Module):
    """A chain whose result has two readers, one of them another chain."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(conv(2, 16, 3, 1, 1), conv(16, 3, 3, 1, 1))
        self.second = nn.Sequential(conv(3, 16, 3, 1, 1), conv(16, 3, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return x + self.second(x)


def test_a_chain_starts_from_what_another_left(check: Check) -> None:
    rewritten = check(Fork(), (16, 12), channels=2, cost=MACS_ALONE)
    applied: tuple[Applied, ...] = rewritten.applied  # type: ignore[assignment]
    assert [change.rule for change in applied] == ["chains.2", "chains.2"]


def test_a_stem_of_two_convolutions_becomes_nine_regions_of_one(check: Check) -> None:
    result = check(
        nn.Sequential(conv(2, 16, 3, 1, 1), conv(16, 3, 3, 1, 1)),
        (9, 8),
        channels=2,
        cost=MACS_ALONE,
    )
    applied: tuple[Applied, ...] = result.applied  # type: ignore[assignment]
    assert [item.rule for item in applied] == ["chains.2"]
    assert applied[0].macs_after < applied[0].macs_before
    kernels = sorted(m.kernel_size for m in result.modules() if isinstance(m, nn.Conv2d))
    assert kernels == sorted(itertools.product((3, 5, 3), repeat=2))


def test_a_chain_that_would_cost_more_stays(check: Check) -> None:
    wide = [conv(16, 2, 3, 1, 1), conv(2, 16, 3, 1, 1)]
    assert not check(nn.Sequential(*wide), (32, 32), channels=16).applied


def test_a_value_with_two_readers_is_not_contracted_away(check: Check) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = conv(3, 64, 3, 1, 1), conv(64, 3, 3, 1, 1), conv(64, 2, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = self.a(x)
            return torch.cat([self.b(x), self.c(x)], 1)  # type: ignore[return-value]

    assert not check(Net(), (32, 32)).applied


def test_the_cheapest_division_of_a_chain_is_found() -> None:
    """Narrow ends around a wide middle contract; a wide end is kept apart."""
    steps = [
        step_of(m) for m in (conv(3, 96, 3, 1, 1), conv(96, 4, 3, 1, 1), conv(4, 256, 5, 1, 2))
    ]
    known = [step for step in steps if step is not None]
    assert chain_cost(known, (64, 64), CPU)[1] == [2, 3]


def test_blocks_are_shifted_where_that_saves_taps() -> None:
    step = step_of(up(8, 4))
    assert step is not None
    layout = plan([step], (6, 6))
    assert layout is not None
    assert (layout.rows.shift, layout.rows.blocks, layout.rows.runs[0].taps) == (1, 7, 2)


@pytest.mark.parametrize(
    "layers",
    [
        [up(4, 3)],
        [up(4, 3), conv(3, 2, 1)],
        [conv(4, 3, 3, 1, 1), conv(3, 2, 3, 1, 1)],
        [up(4, 3, 6, 4), conv(3, 2, 3, 1, 1)],
        [nn.BatchNorm2d(4).eval()],
    ],
    ids=["up", "up-1x1", "3x3-3x3", "6/4-3x3", "batchnorm"],
)
def test_the_mean_of_a_map_needs_only_means_of_its_source(layers: list[nn.Module]) -> None:
    model = nn.Sequential(*layers).double()
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    steps = [step for layer in layers if (step := step_of(layer)) is not None]
    pool = frame_of(steps, (7, 6))
    assert pool is not None
    weight, bias = pooled_weight(steps, (7, 6), pool)
    assert torch.allclose(pool(x) @ weight.T + bias, model(x).mean((2, 3)), atol=1e-13)


def test_a_map_that_is_all_border_has_no_frame() -> None:
    step = step_of(up(4, 3))
    assert step is not None
    assert frame_of([step], (2, 9)) is None
