"""A Haar level folds into the convolution before or behind it, however the code picks the bands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from waveedge.compression.reparameterize.phases import PhaseToSpace, SpaceToPhase
from waveedge.nn import DWT2d, IDWT2d

Check = Callable[..., fx.GraphModule]


def rules(result: fx.GraphModule) -> Counter[str]:
    return Counter(item.rule for item in result.applied)  # type: ignore[union-attr]


def transforms(result: fx.GraphModule) -> int:
    return sum(isinstance(module, DWT2d | IDWT2d) for module in result.modules())


class Down(nn.Module):
    """All bands into one convolution, with signs and scales on the way."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.transform, self.conv = DWT2d(), conv

    def forward(self, x: Tensor) -> Tensor:
        low, (details,) = self.transform(x)
        first, second, third = details.unbind(2)
        y: Tensor = self.conv(torch.cat([low / 2, -second, first, 2 * third], 1))
        return y.relu()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(12, 5, 1),
        nn.Conv2d(12, 5, 3, padding=1, bias=False),
        nn.Conv2d(12, 4, 3, padding=2, dilation=2, stride=2),
    ],
    ids=["1x1", "3x3", "strided and dilated"],
)
def test_any_dense_convolution_reads_phases(check: Check, conv: nn.Conv2d) -> None:
    result = check(Down(conv), (12, 16))
    assert not transforms(result)
    assert rules(result)["haar.1"] == 1


def test_a_grouped_convolution_keeps_the_transform(check: Check) -> None:
    assert transforms(check(Down(nn.Conv2d(12, 6, 3, groups=3)), (12, 16))) == 1


class LowAlone(nn.Module):
    """The low band as a pooling, two levels deep."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = DWT2d(2)
        self.dense, self.depthwise = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 3, 3, groups=3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, _ = self.transform(x)
        return self.dense(low), self.depthwise(low)


class _First(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.net(x)
        return torch.cat([one.flatten(1), other.flatten(1)], 1)


def test_the_low_band_alone_is_an_average(check: Check) -> None:
    result = check(_First(LowAlone()), (16, 24))
    assert rules(result)["haar.3"] == 1
    assert transforms(result) == 1, "the finer level is read by no convolution"


@pytest.mark.parametrize("size", [(13, 16), (16, 13)], ids=str)
def test_odd_sides_are_left_alone(check: Check, size: tuple[int, int]) -> None:
    result = check(Down(nn.Conv2d(12, 5, 3, padding=1)), size)
    assert transforms(result) == 1


class Up(nn.Module):
    """A convolution yields four bands; the inverse joins them."""

    def __init__(self, conv: nn.Conv2d, *, activated: bool = False) -> None:
        super().__init__()
        self.conv, self.inverse, self.activated = conv, IDWT2d(), activated

    def forward(self, x: Tensor) -> Tensor:
        bands = self.conv(x)
        bands = bands.relu() if self.activated else bands
        low, *details = bands.chunk(4, 1)
        y: Tensor = self.inverse((low, [torch.stack([-details[1], *details[::2]], 2)]))
        return y


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (7, 5)], ids=str)
def test_an_inverse_folds_into_the_convolution_before_it(
    check: Check, kernel: int, size: tuple[int, int]
) -> None:
    result = check(Up(nn.Conv2d(3, 20, kernel, padding=kernel // 2)), size)
    assert not transforms(result)
    assert rules(result)["haar.4"] == 1
    assert any(isinstance(module, PhaseToSpace) for module in result.modules())


def test_an_inverse_behind_an_activation_stays(check: Check) -> None:
    assert transforms(check(Up(nn.Conv2d(3, 20, 1), activated=True), (8, 8))) == 1


def test_a_level_behind_an_inverse_moves_no_pixel(check: Check) -> None:
    """The phases that the one yields are those that the other reads."""
    net = nn.Sequential(Up(nn.Conv2d(3, 20, 1)), _Five())
    result = check(net, (8, 12))
    assert not transforms(result)
    assert not any(isinstance(m, PhaseToSpace | SpaceToPhase) for m in result.modules())


class _Five(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transform, self.conv = DWT2d(), nn.Conv2d(20, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        low, (details,) = self.transform(x)
        y: Tensor = self.conv(torch.cat([low, details.flatten(1, 2)], 1))
        return y
