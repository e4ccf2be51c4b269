from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pywt
import torch
from torch import nn

from waveedge.errors import RecipeError
from waveedge.nn import DWT2d, IDWT2d

WAVELETS = ["db1", "db2", "db4", "sym4", "bior2.2", "bior4.4", "coif1", "rbio1.3", "dmey"]
MODES = ["zero", "symmetric", "reflect", "periodization", "periodic"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def assert_equal_to_reference(
    reference: Any,
    wavelet: str,
    mode: str,
    levels: int,
    size: tuple[int, int],
    dtype: torch.dtype,
) -> None:
    x = torch.randn(2, 3, *size, dtype=dtype)
    expected_low, expected_details = reference.DWTForward(levels, wavelet, mode).to(dtype)(x)
    expected = reference.DWTInverse(wavelet, mode).to(dtype)((expected_low, expected_details))

    low, details = DWT2d(levels, wavelet, mode).to(dtype)(x)
    rebuilt = IDWT2d(wavelet, mode).to(dtype)((expected_low, expected_details))

    tolerance = {"rtol": 1e-6, "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(low, expected_low, **tolerance)
    assert len(details) == levels
    for detail, expected_detail in zip(details, expected_details, strict=True):
        torch.testing.assert_close(detail, expected_detail, **tolerance)
    torch.testing.assert_close(rebuilt, expected, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_equals_pytorch_wavelets(
    reference: Any, wavelet: str, mode: str, levels: int, dtype: torch.dtype
) -> None:
    # pytorch_wavelets reflects no further than the image; dmey reaches 60 pixels.
    sizes = [(130, 132), (131, 129)] if wavelet == "dmey" else [(32, 48), (33, 30), (29, 31)]
    for size in sizes:
        assert_equal_to_reference(reference, wavelet, mode, levels, size, dtype)


@pytest.mark.parametrize("mode", ["zero", "symmetric", "periodization", "periodic"])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 2), (5, 7), (10, 4)])
def test_equals_pytorch_wavelets_on_images_smaller_than_the_filter(
    reference: Any, mode: str, size: tuple[int, int]
) -> None:
    for wavelet in ("db1", "bior4.4", "db8"):
        for levels in (1, 2, 4):
            assert_equal_to_reference(reference, wavelet, mode, levels, size, torch.float64)


@pytest.mark.parametrize("mode", ["zero", "periodization"])
def test_every_discrete_wavelet_is_known(reference: Any, mode: str) -> None:
    for wavelet in pywt.wavelist(kind="discrete"):
        assert_equal_to_reference(reference, wavelet, mode, 1, (9, 12), torch.float64)


@pytest.mark.usefixtures("double")
def test_equals_pywavelets_itself() -> None:
    x = torch.randn(1, 1, 37, 46)
    low, (fine, coarse) = DWT2d(2, "sym4", "symmetric")(x)
    expected_low, expected_coarse, expected_fine = pywt.wavedec2(
        x[0, 0].numpy(), "sym4", "symmetric", level=2
    )
    np.testing.assert_allclose(low[0, 0], expected_low, atol=1e-12)
    np.testing.assert_allclose(coarse[0, 0], np.stack(expected_coarse), atol=1e-12)
    np.testing.assert_allclose(fine[0, 0], np.stack(expected_fine), atol=1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", [wavelet for wavelet in WAVELETS if wavelet != "dmey"])
def test_inverse_is_exact(wavelet: str, mode: str) -> None:
    for levels in (1, 2, 3):
        for height, width in ((48, 56), (45, 51)):
            x = torch.randn(2, 2, height, width)
            rebuilt = IDWT2d(wavelet, mode)(DWT2d(levels, wavelet, mode)(x))
            torch.testing.assert_close(rebuilt[..., :height, :width], x, rtol=0, atol=1e-10)


def test_float32_inverse_stays_within_rounding() -> None:
    x = torch.randn(2, 4, 37, 64)
    rebuilt = IDWT2d("bior4.4", "symmetric")(DWT2d(3, "bior4.4", "symmetric")(x))
    torch.testing.assert_close(rebuilt[..., :37, :64], x, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("wavelet", ["db1", "db4", "sym4", "coif1"])
def test_orthogonal_transform_keeps_energy(wavelet: str) -> None:
    x = torch.randn(1, 1, 64, 64)
    low, details = DWT2d(3, wavelet, "periodization")(x)
    energy = low.square().sum() + sum(detail.square().sum() for detail in details)
    torch.testing.assert_close(energy, x.square().sum())


def test_bands_tell_directions_apart() -> None:
    rows = torch.tensor([1.0, -1.0]).repeat(8).reshape(1, 1, 16, 1).expand(1, 1, 16, 16)
    low, (detail,) = DWT2d()(rows)
    assert low.abs().max() == 0
    strongest = detail.abs().amax(dim=(0, 1, 3, 4))
    assert strongest[0] > 1.9
    assert strongest[1:].max() == 0
    _, (turned,) = DWT2d()(rows.mT)
    assert turned.abs().amax(dim=(0, 1, 3, 4)).argmax() == 1


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_exact(mode: str) -> None:
    forward, inverse = DWT2d(2, "db2", mode), IDWT2d("db2", mode)
    x = torch.randn(1, 1, 9, 8, requires_grad=True)

    def coefficients(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        low, details = forward(x)
        return (low, *details)

    assert torch.autograd.gradcheck(coefficients, (x,), fast_mode=True)
    bands = [band.detach().requires_grad_() for band in coefficients(x)]
    assert torch.autograd.gradcheck(
        lambda low, *details: inverse((low, details)), bands, fast_mode=True
    )


def test_missing_details_count_as_zero() -> None:
    low, details = DWT2d(2)(torch.randn(1, 2, 16, 16))
    zeroed = [torch.zeros_like(details[0]), details[1]]
    assert torch.equal(IDWT2d()((low, [None, details[1]])), IDWT2d()((low, zeroed)))


def test_filters_follow_the_module_and_stay_out_of_the_state_dict() -> None:
    transform = DWT2d(1, "db4")
    assert transform.state_dict() == {}
    assert transform.double().filters.dtype == torch.float64
    exact = DWT2d(1, "db4", dtype=torch.float64)
    assert exact.filters.dtype == torch.float64
    assert not torch.equal(exact.filters, transform.filters), "float32 rounding is kept"


def test_per_is_short_for_periodization() -> None:
    assert DWT2d(1, "db2", "per").mode == IDWT2d("db2", "per").mode == "periodization"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "db1", "zero"), "levels is 0"),
        ((1, "haarr", "zero"), "'haarr' is not a discrete wavelet"),
        ((1, "mexh", "zero"), "'mexh' is not a discrete wavelet"),
        ((1, "db1", "constant"), "'constant' is not a border mode"),
        ((1, "db1", "replicate"), "'replicate' is not a border mode"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[int, str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        DWT2d(*arguments)
    assert caught.value.hint


class RoundTrip(nn.Module):
    def __init__(self, levels: int, wavelet: str, mode: str) -> None:
        super().__init__()
        self.forward_transform = DWT2d(levels, wavelet, mode)
        self.inverse_transform = IDWT2d(wavelet, mode)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low, details = self.forward_transform(x)
        return self.inverse_transform((low, details)), low, details[0]


def test_transforms_are_leaves_of_a_traced_graph() -> None:
    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            return isinstance(module, DWT2d | IDWT2d)

    module = RoundTrip(2, "db2", "symmetric")
    traced = torch.fx.GraphModule(module, Tracer().trace(module))
    x = torch.randn(1, 2, 11, 14)
    for actual, expected in zip(traced(x), module(x), strict=True):
        assert torch.equal(actual, expected)
