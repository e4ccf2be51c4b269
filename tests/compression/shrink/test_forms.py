"""Forms with fewer channels: exact with all of them, as good as their losses say with fewer."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.costs import CPU
from waveedge.compression.shrink.elimination import Inputs, eliminate
from waveedge.compression.shrink.forms import Form
from waveedge.compression.shrink.moments import Moments
from waveedge.compression.shrink.pairs import by_input, find_pairs
from waveedge.compression.shrink.search import find_forms
from waveedge.reference import run

Images = Sequence[NDArray[np.float32]]


def forms_of(net: fx.GraphModule, images: Images) -> list[Form]:
    return find_forms(net, images, CPU)


def outputs(net: fx.GraphModule, images: Images) -> Tensor:
    return torch.stack([run(net, image)[0] for image in images])


def shrunk(net: fx.GraphModule, form: Form, channels: int) -> fx.GraphModule:
    other = copy.deepcopy(net)
    form.apply(other, channels)
    return other


def test_all_channels_compute_the_same(net: fx.GraphModule, images: Images) -> None:
    """Borders, strides, odd sizes and phases included."""
    forms = forms_of(net, images)
    assert forms
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        exact = copy.deepcopy(net).to(dtype)
        for form in forms:
            other = shrunk(exact, form, form.channels)
            difference = outputs(exact, images) - outputs(other, images)
            assert float(difference.abs().max()) <= bound * float(
                outputs(exact, images).abs().max()
            )


def test_fewer_channels_have_fewer_weights_and_run(net: fx.GraphModule, images: Images) -> None:
    for form in forms_of(net, images):
        other = shrunk(net, form, form.channels // 2)
        assert outputs(other, images).shape == outputs(net, images).shape
        count = sum(tensor.numel() for tensor in other.parameters())
        assert count < sum(tensor.numel() for tensor in net.parameters())


def test_losses_order_the_true_errors(net: fx.GraphModule, images: Images) -> None:
    for form in forms_of(net, images):
        sizes = sorted({1, form.channels // 2, form.channels - 1})
        errors = [
            float((outputs(net, images) - outputs(shrunk(net, form, size), images)).square().mean())
            for size in sizes
        ]
        assert all(few >= many - 1e-12 for few, many in itertools.pairwise(errors))
        losses = form.losses[torch.tensor(sizes)].tolist()
        assert losses == sorted(losses, reverse=True)


def test_a_channel_that_copies_another_goes_for_nothing(images: Images) -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)
    with torch.no_grad():
        first.weight[5], first.bias[5] = first.weight[2], first.bias[2]  # type: ignore[index]
    net = fx.GraphModule(nn.Sequential(first, nn.GELU(), second), _graph())
    (form,) = forms_of(net, images)
    assert float(form.losses[7]) < 0.1 * float(form.losses[6])  # the rest is damping
    error = outputs(net, images) - outputs(shrunk(net, form, 7), images)
    assert float(error.abs().max()) < 0.01 * float(outputs(net, images).abs().max())


def test_a_chain_of_low_rank_loses_nothing(images: Images) -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 2, 3, padding=1)
    net = fx.GraphModule(nn.Sequential(first, nn.Identity(), second), _graph())
    (form,) = forms_of(net, images)  # 2 outputs by 9 taps of 27 inputs: at most 16 of 16
    first.weight.data[4:] = (torch.randn(12, 4) @ first.weight.data[:4].flatten(1)).reshape(
        12, 3, 3, 3
    )
    first.bias.data.zero_()  # type: ignore[union-attr]
    (form,) = forms_of(net, images)
    other = shrunk(net, form, 4)
    wanted, found = outputs(net, images), outputs(other, images)
    assert float((wanted - found).abs().max()) < 1e-4 * float(wanted.abs().max())


@pytest.mark.parametrize("together", [1, 2])
def test_elimination_counts_the_error_of_the_best_refit(together: int) -> None:
    """At every number of channels, against least squares on the inputs themselves."""
    torch.manual_seed(0)
    inputs = (torch.randn(400, 8) @ torch.randn(8, 8)).double()
    layer = nn.Conv2d(8, 4, 1, bias=False).double()
    weight = by_input(layer)
    columns = torch.arange(8).reshape(together, -1).T
    second = inputs.T @ inputs / len(inputs)
    peak = inputs.abs().amax(0)
    found = eliminate(weight, second, columns)
    # Of small values, whose rounding is nothing to speak of.
    moments = Moments(second, torch.zeros(8), 0.01 * peak, 400)
    inputs_of = Inputs(layer, moments, columns)
    wanted = inputs @ weight[..., 0]
    for count in range(1, len(columns)):
        left = columns[found.order[-count:]].flatten()
        refit = torch.linalg.lstsq(inputs[:, left], wanted).solution
        error = (wanted - inputs[:, left] @ refit).square().sum() / len(inputs)
        assert float(found.losses[count]) == pytest.approx(float(error))
        assert float(found.powers[count]) == pytest.approx(float(refit.square().sum()))
        made, _ = inputs_of.refitted(layer, count)
        gone = [number for number in range(8) if number not in left]
        assert not made[gone].any()
        assert torch.allclose(made[left, :, 0], refit, atol=1e-2)


@pytest.mark.parametrize(
    "between",
    [nn.Softmax(1), nn.Conv2d(8, 8, 3, groups=8), nn.GroupNorm(2, 8), nn.PixelShuffle(2)],
    ids=lambda module: type(module).__name__,
)
def test_what_mixes_or_weighs_channels_is_left_alone(between: nn.Module) -> None:
    reads = 2 if isinstance(between, nn.PixelShuffle) else 8
    net = nn.Sequential(nn.Conv2d(3, 8, 1), between, nn.Conv2d(reads, 4, 1))
    assert list(find_pairs(fx.GraphModule(net, _graph()))) == []


def test_a_value_with_two_readers_is_left_alone() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return y + self.b(y)

    assert list(find_pairs(fx.symbolic_trace(Net()))) == []


def test_rounding_asks_for_small_weights() -> None:
    """What is left out is made up for by weights that enlarge the rounding of the rest."""
    torch.manual_seed(0)
    layer, columns = nn.Conv2d(32, 5, 1), torch.arange(32)[:, None]
    inputs = (torch.randn(64, 6) @ torch.randn(6, 32)).relu().double()
    second, mean, peak = inputs.T @ inputs / 64, inputs.mean(0), inputs.amax(0)
    powers = []
    for outliers in (1, 50):
        found = Inputs(layer, Moments(second, mean, outliers * peak, 64), columns)
        assert float(found.noise[-1]) == 0
        powers.append(float(found.refitted(layer, 8)[0].square().sum()))
    assert powers[1] < 0.8 * powers[0]


def _graph() -> fx.Graph:
    """Of a chain of three layers."""
    graph = fx.Graph()
    value = graph.placeholder("x")
    for index in range(3):
        value = graph.call_module(str(index), (value,))
    graph.output(value)
    return graph
