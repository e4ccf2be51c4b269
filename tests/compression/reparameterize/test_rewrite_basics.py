"""Tracing, clean-up, BatchNorm folding and transposed convolution: equal numbers, no leftovers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from waveedge.compression.reparameterize import reparameterize, trace
from waveedge.errors import ExportError, RecipeError
from waveedge.spec import ModelSpec


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and statistics such that every branch matters, in float64."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.3, 3, generator=generator)
            module.weight.data.normal_(generator=generator)
            module.bias.data.normal_(generator=generator)
    return model.double().eval()


def difference(a: Tensor, b: Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


def test_an_untraceable_network_is_refused_with_the_way_out() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match="Branching cannot be traced") as caught:
        trace(Branching())
    assert "must not branch" in caught.value.hint


def test_a_network_of_two_inputs_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(ExportError, match="2 inputs"):
        trace(Two())


def test_an_unknown_name_to_skip_is_refused() -> None:
    with pytest.raises(RecipeError, match="batchnrom"):
        reparameterize(nn.Sequential(nn.Conv2d(3, 4, 1)), (8, 8), skip=["batchnrom"])


def test_a_size_the_network_does_not_take_is_refused() -> None:
    with pytest.raises(ExportError, match="4x4"):
        reparameterize(nn.Sequential(nn.Conv2d(3, 4, 7)), (4, 4))


def test_the_model_itself_is_left_alone() -> None:
    model = randomized(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = reparameterize(model.train(), (8, 8))
    assert model.training
    assert not result.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    result.get_parameter("0.weight").data.zero_()
    assert torch.equal(before["0.weight"], model[0].weight)  # type: ignore[index, arg-type]


def test_dropout_and_identity_vanish() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.same = nn.Dropout(0.5), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.dropout(self.drop(self.same(x)), 0.5, training=self.training)
            return x.contiguous().relu()

    result = reparameterize(Net(), (8, 8))
    assert [node.op for node in result.graph.nodes] == ["placeholder", "call_method", "output"]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", ["conv", "transposed", "linear", "before", "before-padded"])
def test_batchnorm_folds_on_both_sides(kind: str, groups: int) -> None:
    layers: dict[str, list[nn.Module]] = {
        "conv": [nn.Conv2d(8, 12, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(12)],
        "transposed": [nn.ConvTranspose2d(8, 12, 3, padding=1, groups=groups), nn.BatchNorm2d(12)],
        "linear": [nn.Flatten(), nn.Linear(8 * 70, 6), nn.BatchNorm1d(6)],
        "before": [nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3, 2, groups=groups, bias=False)],
        "before-padded": [nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3, padding=1, groups=groups)],
    }
    model = randomized(nn.Sequential(*layers[kind]))
    model.spec = ModelSpec(family="custom", channels=8)  # type: ignore[assignment]
    result = reparameterize(model, (7, 10))
    left = [m for m in result.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert bool(left) == (kind == "before-padded")
    x = torch.randn(2, 8, 7, 10, dtype=torch.float64)
    assert difference(result(x), model(x)) < 1e-12


def test_a_batchnorm_whose_input_is_read_elsewhere_stays() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x.relu() + self.norm(x)

    model = randomized(Net())
    result = reparameterize(model, (6, 6))
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    assert difference(result(x), model(x)) < 1e-12


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(
    ("k", "s", "p"),
    [(4, 2, 1), (2, 2, 0), (6, 4, 1), (10, 8, 1), (18, 16, 1), (3, 2, 1), (5, 3, 2), (3, 1, 1)],
)
def test_transposed_is_a_subpixel_convolution(k: int, s: int, p: int, groups: int) -> None:
    layer = nn.ConvTranspose2d(8, 4, k, stride=s, padding=p, groups=groups)
    model = randomized(nn.Sequential(layer, nn.BatchNorm2d(4)))
    result = reparameterize(model, (5, 7))
    assert not any(isinstance(m, nn.ConvTranspose2d) for m in result.modules())
    x = torch.randn(2, 8, 5, 7, dtype=torch.float64)
    assert difference(result(x), model(x)) < 1e-12


def test_the_common_transposed_convolution_has_its_sixteen_taps_and_no_zero() -> None:
    result = reparameterize(nn.Sequential(nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)), (6, 6))
    assert result.get_parameter("0.weight").shape == (4 * 4, 8, 2, 2)
    assert torch.all(result.get_parameter("0.weight") != 0)


def test_output_padding_is_left_alone() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1))
    assert not reparameterize(model, (6, 6)).applied  # type: ignore[arg-type]
