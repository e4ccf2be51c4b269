"""Weights rounded together: the algebra on small matrices, the effect on layers and networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from waveedge.calibration import calibrate_activations
from waveedge.compression.patches import sample
from waveedge.compression.quantize import place_quantizers
from waveedge.compression.recipe import make_recipe
from waveedge.compression.reparameterize import Shapes
from waveedge.compression.rounding import round_weights, rounded
from waveedge.nn import QuantizedConv2d, WaveletCompressedConv2d
from waveedge.normalise import normalise


def error_power(error: Tensor, moments: Tensor) -> float:
    """Mean square of ``error @ input`` for inputs with these second moments."""
    return float(torch.einsum("grc,gcd,grd->", error.double(), moments, error.double()))


def test_independent_inputs_leave_nothing_better_than_the_nearest_point() -> None:
    torch.manual_seed(0)
    weight, scale = torch.randn(2, 5, 7), torch.full((2, 5), 0.1)
    moments = torch.diag_embed(torch.rand(2, 7, dtype=torch.float64) + 0.1)
    nearest = (weight.double() / 0.1).round() * 0.1
    torch.testing.assert_close(rounded(weight, scale, 127, moments), nearest, atol=1e-6, rtol=0)


@pytest.mark.parametrize("columns", [9, 300])  # within one block, and over three
def test_a_common_mean_of_the_inputs_is_kept(columns: int) -> None:
    torch.manual_seed(0)
    inputs = 3 + torch.randn(4000, columns, dtype=torch.float64)
    moments = (inputs.T @ inputs / len(inputs)).unsqueeze(0)
    weight, scale = torch.randn(1, 8, columns), torch.full((1, 8), 0.3)
    points = rounded(weight, scale, 7, moments)
    nearest = (weight.double() / scale.double()[..., None]).round().clamp(-7, 7) * 0.3
    integers = points / scale.double()[..., None]
    torch.testing.assert_close(integers, integers.round(), atol=1e-9, rtol=0)
    assert float(integers.abs().max()) <= 7
    assert error_power(points - weight, moments) < 0.5 * error_power(nearest - weight, moments)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.Conv2d(4, 8, (3, 2), (2, 1), dilation=(1, 2), padding=(2, 1), groups=2, bias=False),
        nn.Conv2d(4, 4, 3, padding="same", padding_mode="replicate", bias=False),
    ],
)  # fmt: skip
def test_moments_of_a_convolution_tell_the_power_of_its_output(conv: nn.Conv2d) -> None:
    torch.manual_seed(0)
    conv = conv.double()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    samples = sample(conv, x, conv(x).detach())
    assert samples is not None
    assert samples.outputs is not None
    moments = samples.moments()
    assert moments.shape[0] == conv.groups
    weight = conv.weight.detach().reshape(conv.groups, -1, moments.shape[-1])
    power = float(conv(x).detach().double().square().sum(1).mean())
    assert error_power(weight, moments) == pytest.approx(power, rel=1e-5)
    torch.testing.assert_close(samples.inputs @ weight.mT, samples.outputs)


def test_moments_of_linear_and_wcc_layers_tell_the_power_of_their_outputs() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 16, 6)
    linear = nn.Linear(6, 5, bias=False)
    samples = sample(linear, x, linear(x).detach())
    assert samples is not None
    moments = samples.moments()
    power = float(linear(x).detach().double().square().sum(-1).mean())
    assert error_power(linear.weight.detach()[None], moments) == pytest.approx(power, rel=1e-5)

    x = x.movedim(-1, 1)
    wcc = WaveletCompressedConv2d(6, 5, levels=2, ratio=0.25, weight_bits=32, activation_bits=32)
    samples = sample(wcc, x, wcc(x))
    assert samples is not None
    moments = samples.moments()
    # The transform is orthonormal: energy of the image is energy of the coefficients.
    assert wcc.bias is not None
    energy = float((wcc(x) - wcc.bias[:, None, None]).detach().double().square().sum())
    power = energy / (2 * wcc.kept(16, 16))
    weight = wcc.weight.detach().flatten(1)[None]
    assert error_power(weight, moments) == pytest.approx(power, rel=1e-4)


@pytest.mark.parametrize(("images", "refitted"), [(4, False), (64, True)])
def test_a_layer_is_refitted_only_from_as_many_samples_as_it_has_inputs(
    images: int, refitted: bool
) -> None:
    """Its twin in floating point has other weights here, which a refit goes after."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    graph, reference = (normalise(model, (4, 2, 2)) for _ in range(2))
    place_quantizers(graph, Shapes(graph, (1, 4, 2, 2)), make_recipe({"bits": 8}))
    reference.get_parameter("1.weight").data += 1
    inputs = list(np.random.default_rng(0).standard_normal((images, 1, 4, 2, 2), np.float32))
    calibrate_activations(graph, inputs)
    before = graph.get_parameter("1.weight").detach().clone()
    round_weights(graph, reference, inputs)
    change = (graph.get_parameter("1.weight").detach() - before).abs().mean()
    assert (float(change) > 0.5) == refitted


def test_a_network_of_4_bit_weights_keeps_its_gain_and_its_mean() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(16, 16, 1),
        nn.GELU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=4),
        nn.Conv2d(16, 3, 1),
    ).eval()
    rng = np.random.default_rng(0)
    images = [(2 + rng.random((1, 3, 24, 24))).astype(np.float32) for _ in range(8)]
    reference = normalise(model, (3, 24, 24))

    def network() -> nn.Module:
        graph = normalise(model, (3, 24, 24))
        recipe = make_recipe({"bits": 8, "weight_bits": 4})
        place_quantizers(graph, Shapes(graph, (1, 3, 24, 24)), recipe)
        calibrate_activations(graph, images)
        return graph.eval()

    x = torch.from_numpy(np.concatenate(images))
    with torch.no_grad():
        target = reference(x)
        nearest = network()
        before = float((nearest(x) - target).square().mean())
        graph = network()
        round_weights(graph, reference, images)  # type: ignore[arg-type]
        after = float((graph(x) - target).square().mean())
        shift = (graph(x) - target).mean(dim=(0, 2, 3))
    assert after < 0.25 * before
    assert float(shift.abs().max()) < 0.01 * float(target.std())
    for module in graph.modules():
        if isinstance(module, QuantizedConv2d):
            torch.testing.assert_close(
                module.weight_quantizer(module.weight), module.weight, rtol=0, atol=0
            )
