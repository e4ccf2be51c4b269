"""What every proof of an exact rewrite needs: weights that matter, and the comparison itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from weakref import WeakKeyDictionary

import pytest
import torch
from torch import Tensor, fx, nn

from waveedge.compression.reparameterize import CPU, CostProfile, reparameterize
from waveedge.normalise import normalise
from waveedge.spec import ModelSpec

MACS_ALONE = CostProfile(name="multiply-adds alone", element=0, shuffle=0, node=0)
"""Rewrites then apply wherever they save multiply-adds, in networks of any size."""

Randomize = Callable[[nn.Module], nn.Module]
Check = Callable[..., fx.GraphModule]


@pytest.fixture
def randomize() -> Randomize:
    """Statistics and scales such that every branch of a network matters to its output."""

    def apply(model: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.3, 3, generator=generator)
                module.weight.data.uniform_(-1.5, 1.5, generator=generator)
                module.bias.data.normal_(generator=generator)
        for name, parameter in model.named_parameters():
            if name.endswith(("gamma", "wavelet_scale.0.weight", "wavelet_scale.1.weight")):
                parameter.data.normal_(generator=generator)
        return model.eval()

    return apply


@pytest.fixture
def check(randomize: Randomize) -> Check:
    """Rewrite a network and prove that it computes the same.

    In float64 the relative error is below 1e-10, without the pipeline's own judge, who would leave
    out what does not hold. In float32, where he is asked, the error against float64 is that of the
    network as published: rounding errors of two orders of summation differ by chance, so up to
    three times as much and two units in the last place are allowed. ``in_float32=False`` is for
    further forms of a network: their float32 weights are those in float64, rounded.
    """

    def prove(
        model: nn.Module,
        size: tuple[int, int],
        channels: int = 3,
        skip: Collection[str] = (),
        cost: CostProfile = CPU,
        in_float32: bool = True,
    ) -> fx.GraphModule:
        randomize(model)
        if not hasattr(model, "spec"):
            model.spec = ModelSpec(family="custom", channels=channels)  # type: ignore[assignment]
        torch.manual_seed(1)
        x = torch.randn(2, channels, *size)
        with torch.no_grad():
            published = model(x)
            normal = _normal_form(model, (channels, *size))
            exact = copy.deepcopy(model).double()(x.double())
            result = reparameterize(
                copy.deepcopy(normal).double(), size, cost=cost, skip=skip, judge=lambda _: 0.0
            )
            assert error(result(x.double()), exact) < 1e-10
            if in_float32:
                small = reparameterize(normal, size, cost=cost, skip=skip)
            else:
                small = copy.deepcopy(result).float()
            assert error(small(x), exact) < 3 * error(published, exact) + 2.4e-7
        assert small.state_dict().keys() == result.state_dict().keys()
        assert all(tensor.is_contiguous() for tensor in result.state_dict().values())
        assert not small.left_out
        assert not result.left_out
        return result

    return prove


_KNOWN: WeakKeyDictionary[nn.Module, fx.GraphModule] = WeakKeyDictionary()


def _normal_form(model: nn.Module, shape: tuple[int, int, int]) -> fx.GraphModule:
    """The normal form of a randomized network, made once where it is that at any size."""
    normal = _KNOWN.get(model)
    if normal is None or not normal.any_size:
        normal = _KNOWN[model] = normalise(model, shape)
    return normal


def error(value: Tensor, exact: Tensor) -> float:
    """Relative error in the Euclidean norm."""
    return float((value.double() - exact).norm() / exact.norm())
