"""Range choice against brute force, and the histogram's promises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from waveedge.calibration import ranges
from waveedge.calibration.ranges import BINS, Histogram, choose_range, grid, squared_error
from waveedge.nn.quantizers import ActivationQuantizer


def histogram_of(*tensors: Tensor) -> Histogram:
    histogram = Histogram()
    for tensor in tensors:
        histogram.update(tensor)
    return histogram


def quantization_error(x: Tensor, scale: float, bits: int, zero_point: int) -> float:
    """The true error, by the quantizer that will run."""
    quantizer = ActivationQuantizer(bits, zero_point=zero_point)
    quantizer.scale.data.fill_(scale)
    with torch.no_grad():
        return float((quantizer(x).double() - x.double()).square().mean())


def brute_force(x: Tensor, bits: int, zero_points: Sequence[int]) -> float:
    """The least error over a fine grid of scales and some zero points."""
    values = x.double().numpy()[:, None]
    best = np.inf
    for zero_point in zero_points:
        qmin, qmax = grid(bits, zero_point)
        covering = np.abs(values).max() / max(qmax, -qmin)
        scales = np.geomspace(covering / 64, covering, 300)
        for some in np.split(scales, 10):
            rounded = np.clip(np.round(values / some), qmin, qmax) * some
            best = min(best, float(((rounded - values) ** 2).mean(axis=0).min()))
    return best


TENSORS = {
    "normal": lambda: torch.randn(8_000),
    "relu": lambda: torch.randn(8_000).relu(),
    "laplace": lambda: torch.distributions.Laplace(0.0, 1.0).sample((8_000,)),
    "gelu": lambda: torch.nn.functional.gelu(2 * torch.randn(8_000)),
    "heavy-tailed": lambda: torch.distributions.StudentT(3.0).sample((8_000,)),
    "negative": lambda: -torch.rand(8_000),
    "tiny": lambda: 1e-12 * torch.randn(8_000),
    "bimodal": lambda: torch.cat([torch.randn(4_000) * 0.1 - 3, torch.randn(4_000) * 0.1 + 5]),
}


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("name", TENSORS)
def test_no_scale_does_much_better_than_the_chosen_one(name: str, bits: int) -> None:
    torch.manual_seed(0)
    x = TENSORS[name]()
    scale, zero_point, error = choose_range(histogram_of(x), bits)
    usual = (0,) if bits == 8 else (0, -(2 ** (bits - 1)))
    found = quantization_error(x, scale, bits, zero_point)
    assert found <= 1.01 * brute_force(x, bits, usual)
    assert error == pytest.approx(found, rel=0.05)
    assert zero_point in usual


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("name", TENSORS)
def test_no_zero_point_does_much_better_than_the_chosen_one(name: str, bits: int) -> None:
    torch.manual_seed(0)
    x = TENSORS[name]()
    histogram = histogram_of(x)
    usual, chosen = (choose_range(histogram, bits, share=share) for share in (0.0, 1.0))
    half = 2 ** (bits - 1)
    best = brute_force(x, bits, range(-half, half, max(1, half // 16)))
    found = quantization_error(x, chosen.scale, bits, chosen.zero_point)
    assert found <= (1.02 if bits < 6 else 1.1) * best
    assert chosen.error <= usual.error
    wanted = choose_range(histogram, bits, share=0.5)
    assert wanted == (chosen if chosen.error <= 0.5 * usual.error else usual)


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_expected_error_equals_the_measured_one(bits: int) -> None:
    torch.manual_seed(1)
    x = torch.randn(100_000)
    qmin, qmax = grid(bits)
    scales = np.array([0.5, 1.0, 2.0]) / 2 ** (bits - 2)
    expected = squared_error(histogram_of(x), scales, qmin, qmax)
    measured = [quantization_error(x, float(scale), bits, 0) for scale in scales]
    np.testing.assert_allclose(expected, measured, rtol=5e-3)


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_never_negative_takes_the_unsigned_grid(bits: int) -> None:
    assert choose_range(histogram_of(torch.rand(1000)), bits).zero_point == -(2 ** (bits - 1))


def test_slightly_negative_tensor_takes_the_better_grid() -> None:
    torch.manual_seed(0)
    x = torch.nn.functional.gelu(2 * torch.randn(50_000))
    for bits, expected, not_that in ((2, -2, 0), (7, 0, -64)):
        scale, zero_point, _ = choose_range(histogram_of(x), bits)
        other = scale if expected else choose_range(histogram_of(x.abs()), bits).scale
        assert zero_point == expected
        chosen = quantization_error(x, scale, bits, zero_point)
        assert chosen < quantization_error(x, other, bits, not_that)


def test_eight_bits_are_signed_unless_any_zero_point_will_do() -> None:
    histogram = histogram_of(torch.rand(1000))
    assert choose_range(histogram, 8).zero_point == 0
    assert choose_range(histogram, 8, share=0.5).zero_point < -120
    assert choose_range(histogram, 8, share=0.5, must_be_signed=True).zero_point == 0
    assert choose_range(histogram, 8, "max", share=0.5).zero_point == 0


@pytest.mark.parametrize("bits", [2, 4, 7, 8])
@pytest.mark.parametrize("value", [3.0, -3.0, 0.0, 1e-20, -1e20])
def test_constant_tensor_is_exact(value: float, bits: int) -> None:
    x = torch.full((100,), value)
    for share in (0.0, 1.0):
        scale, zero_point, _ = choose_range(histogram_of(x), bits, share=share)
        assert scale > 0
        assert quantization_error(x, scale, bits, zero_point) <= (1e-6 * value) ** 2


def test_max_covers_everything() -> None:
    torch.manual_seed(0)
    x = torch.randn(1000)
    scale, zero_point, _ = choose_range(histogram_of(x), 8, "max")
    qmin, qmax = grid(8, zero_point)
    assert scale * qmin <= float(x.min())
    assert scale * qmax >= float(x.max()) * (1 - 1e-6)
    assert min(scale * qmax / float(x.max()), scale * qmin / float(x.min())) < 1 + 1e-6


@pytest.mark.parametrize("bits", [0, 1, 9])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        choose_range(histogram_of(torch.rand(10)), bits)


def test_order_does_not_matter() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(500) * factor for factor in (0.01, 1.0, 30.0, 0.3, 500.0)]
    forward, backward = histogram_of(*parts), histogram_of(*reversed(parts))
    assert forward.limit == backward.limit == 2048.0
    # Rounding may place a value that lies on a bin's edge differently.
    assert np.abs(np.cumsum(forward.counts - backward.counts)).max() <= 3
    assert choose_range(forward, 4) == pytest.approx(choose_range(backward, 4), rel=1e-3)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50), min_size=1, max_size=5
    )
)
def test_histogram_keeps_every_value(batches: list[list[float]]) -> None:
    tensors = [torch.tensor(batch) for batch in batches]
    everything = torch.cat(tensors)
    histogram = histogram_of(*tensors)
    assert histogram.counts.sum() + histogram.zeros == everything.numel() == histogram.seen
    assert histogram.counts.min() >= 0
    assert histogram.low == float(everything.min())
    assert histogram.high == float(everything.max())
    assert histogram.counts.shape == (BINS,)
    scale, zero_point, error = choose_range(histogram, 4)
    assert scale > 0
    assert zero_point == 0 or histogram.high > 0 or histogram.peak == 0
    shifted = choose_range(histogram, 4, share=1.0)
    assert shifted.scale > 0
    assert shifted.error <= error


def test_large_tensor_is_sampled_with_exact_extremes() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 256, 256)
    x[10, 20, 30], x[10, 20, 31] = 9.0, -11.0
    histogram = histogram_of(x)
    assert (histogram.low, histogram.high) == (-11.0, 9.0)
    assert histogram.sampled < 200_000 < histogram.seen == x.numel()
    assert histogram.power == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e38])
def test_sick_values_are_refused(value: float) -> None:
    x = torch.ones(100)
    x[50] = value
    with pytest.raises(ValueError, match="NaN, infinite or overflowing"):
        histogram_of(x)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_a_choice_of_all_zero_points_tries_few_scales(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scale that is tried costs as much as the grid has levels; each zero point, many."""
    tried = 0

    def counted(
        histogram: Histogram, scales: NDArray[np.float64], qmin: int, qmax: int
    ) -> NDArray[np.float64]:
        nonlocal tried
        tried += scales.size
        return squared_error(histogram, scales, qmin, qmax)

    monkeypatch.setattr(ranges, "squared_error", counted)
    torch.manual_seed(0)
    choose_range(histogram_of(torch.randn(100_000)), bits, share=0.95)
    assert 0 < tried < 5_000
