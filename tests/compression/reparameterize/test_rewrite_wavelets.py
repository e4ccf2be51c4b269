"""Wavelet transforms shared and folded, and wavelet convolutions band by band."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from waveedge.nn import DWT2d, WTConv2d

Check = Callable[..., fx.GraphModule]


class Ladder(nn.Module):
    """Several depths of transform, each started from the input, read by one 1x1 conv each."""

    def __init__(self, levels: int, wavelet: str = "db1", mode: str = "zero") -> None:
        super().__init__()
        self.transforms = nn.ModuleList(
            DWT2d(level, wavelet, mode) for level in range(1, levels + 1)
        )
        self.mix = nn.ModuleList(nn.Conv2d(12 + 2, 5, 1) for _ in range(levels))
        self.other = nn.ModuleList(nn.Conv2d(3, 2, 1) for _ in range(levels))

    def forward(self, x: Tensor) -> Tensor:
        total = 0
        for level, transform in enumerate(self.transforms):
            low, details = transform(x)
            bands = torch.cat((low, details[-1].flatten(1, 2)), 1)
            joined = torch.cat((self.other[level](low), bands), 1)
            total = total + self.mix[level](joined).mean((2, 3))
        return total  # type: ignore[return-value]


@functools.cache
def ladder(levels: int, wavelet: str, mode: str) -> nn.Module:
    """One network for all sizes, and so one normal form."""
    return Ladder(levels, wavelet, mode)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_haar_levels_fold_into_the_convolutions_that_read_them(check: Check, levels: int) -> None:
    result = check(Ladder(levels), (32, 16))
    assert not any(isinstance(m, DWT2d) for m in result.modules())
    rules = Counter(item.rule for item in result.applied)  # type: ignore[union-attr]
    assert rules["haar.1"] == levels
    assert rules["pyramid.1"] == (levels > 1)


@pytest.mark.parametrize("wavelet", ["db2", "bior2.2"])
@pytest.mark.parametrize("size", [(32, 16), (21, 27)], ids=str)
def test_longer_wavelets_share_their_pyramid(
    check: Check, wavelet: str, size: tuple[int, int]
) -> None:
    result = check(ladder(3, wavelet, "symmetric"), size)
    assert [m.levels for m in result.modules() if isinstance(m, DWT2d)] == [1]


def test_haar_on_odd_sides_is_left_alone(check: Check) -> None:
    result = check(Ladder(1), (9, 12))
    assert any(isinstance(m, DWT2d) for m in result.modules())


def test_details_that_something_else_reads_keep_the_transform(check: Check) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transform, self.mix = DWT2d(), nn.Conv2d(12, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            low, details = self.transform(x)
            flat = details[0].flatten(1, 2)
            y: Tensor = self.mix(torch.cat((low, flat), 1)).sum(1) + flat.abs().sum(1)
            return y

    assert any(isinstance(m, DWT2d) for m in check(Net(), (8, 8)).modules())


@functools.cache
def wavelet_convolution(kernel: int, levels: int, stride: int) -> nn.Module:
    """One network for all sizes, and so one normal form."""
    layer = WTConv2d(6, 6, kernel, stride=stride, wt_levels=levels, bias=levels > 1)
    return nn.Sequential(layer)


@pytest.mark.parametrize(("kernel", "levels"), [(5, 1), (3, 2), (5, 3), (3, 4)])
@pytest.mark.parametrize(
    ("size", "stride"), [((28, 28), 1), ((27, 35), 1), ((27, 35), 2), ((9, 16), 2)], ids=str
)
def test_wavelet_convolutions_go_band_by_band(
    check: Check, kernel: int, levels: int, stride: int, size: tuple[int, int]
) -> None:
    result = check(wavelet_convolution(kernel, levels, stride), size, channels=6)
    assert not any(isinstance(m, WTConv2d) for m in result.modules())
    assert all(
        m.groups == 6 == m.out_channels for m in result.modules() if isinstance(m, nn.Conv2d)
    )


@pytest.mark.parametrize(("kernel", "wavelet"), [(4, "db1"), (5, "db2")])
def test_other_wavelet_convolutions_are_left_alone(check: Check, kernel: int, wavelet: str) -> None:
    layer = WTConv2d(6, 6, kernel, wt_type=wavelet)
    result = check(nn.Sequential(layer), (16, 16), channels=6)
    assert any(isinstance(m, WTConv2d) for m in result.modules())


def test_kernels_stay_whole_on_maps_that_are_smaller(check: Check) -> None:
    """Taps that only meet padding on a map of 2x2 pixels count on that of a larger image."""
    result = check(nn.Sequential(WTConv2d(6, 6, 5, wt_levels=3)), (9, 16), channels=6)
    assert result.get_parameter("0.conv_2_low.weight").shape[2:] == (5, 5)


class BandByBand(nn.Module):
    """The bands of a level picked out one by one, and joined in an order of their own."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order, self.transform = order, DWT2d()
        self.other, self.first, self.second = (nn.Conv2d(n, 3, 1) for n in (3, 15, 12))

    def forward(self, x: Tensor) -> Tensor:
        low, (details,) = self.transform(x)
        bands = [low, *(details[:, :, band] for band in range(3))]
        joined = [bands[band] for band in self.order]
        # Another value in their midst, and a second reader of the same bands.
        y: Tensor = self.first(torch.cat([joined[0], self.other(low), *joined[1:]], 1))
        return y + self.second(torch.cat(joined[::-1], 1)).relu()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1), (2, 1, 3, 0)], ids=str)
def test_bands_taken_one_by_one_fold_in_any_order(check: Check, order: tuple[int, ...]) -> None:
    result = check(BandByBand(order), (16, 12))
    assert not any(isinstance(m, DWT2d) for m in result.modules())
    rules = Counter(item.rule for item in result.applied)  # type: ignore[union-attr]
    assert (rules["haar.1"], rules["haar.2"]) == (2, 1)


@pytest.mark.parametrize("order", [(0, 1, 2, 2), (0, 1, 1, 3)], ids=str)
def test_a_convolution_may_read_a_band_twice_and_lack_another(
    check: Check, order: tuple[int, ...]
) -> None:
    result = check(BandByBand(order), (16, 12))
    assert not any(isinstance(m, DWT2d) for m in result.modules())


def test_bands_of_odd_maps_are_left_alone(check: Check) -> None:
    assert any(isinstance(m, DWT2d) for m in check(BandByBand((0, 1, 2, 3)), (15, 12)).modules())
