"""The integer form of GELU stays within a step or two of GELU, on grids of any width."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from waveedge.nn import SigmoidGELU

RANGES = [0.1, 0.3, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 30.0]


def error(gelu: SigmoidGELU, x: torch.Tensor) -> torch.Tensor:
    """Distance to GELU after rounding, in steps of the 8-bit grid that GELU's values fill."""
    wanted = F.gelu(x.double())
    step = wanted.abs().max() / 127
    with torch.no_grad():
        return (torch.round(gelu(x).double() / step) - wanted / step).abs()


@pytest.mark.parametrize("limit", RANGES)
def test_a_fitted_slope_keeps_every_byte_near_gelu(limit: float) -> None:
    x = torch.arange(-128, 128) * (limit / 127)
    gelu = SigmoidGELU()
    published = error(gelu, x)
    gelu.fit(x)
    assert error(gelu, x).max() <= 1.6
    assert error(gelu, x).square().mean() <= published.square().mean() * 1.05
    if limit == 0.3:  # where 1.702 is the wrong slope
        assert published.max() > 2 * error(gelu, x).max()


def test_the_gate_lies_on_255_steps_and_saturates_at_none_and_all() -> None:
    x = torch.linspace(-40, 40, 4001)
    gate = SigmoidGELU()(x) / x
    gate = gate[x != 0]
    steps = gate.double() * 255
    assert (steps - steps.round()).abs().max() < 1e-3
    assert (gate.min(), gate.max()) == (0, 1)


def test_gradients_are_those_of_x_times_a_sigmoid() -> None:
    x = torch.linspace(-3, 3, 31, requires_grad=True)
    gelu = SigmoidGELU()
    gelu(x).sum().backward()
    y = x.detach().clone().requires_grad_()
    (y * torch.sigmoid(1.702 * y)).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=3 / 255, rtol=0)
