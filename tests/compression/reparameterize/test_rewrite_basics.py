"""Tracing, clean-up, BatchNorm folding and transposed convolution: equal numbers, no leftovers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from waveedge.compression.reparameterize import Applied, reparameterize
from waveedge.compression.reparameterize.phases import PhaseToSpace, SpaceToPhase
from waveedge.errors import InputError, RecipeError
from waveedge.nn import ChannelScale
from waveedge.normalise import normalise

Check = Callable[..., fx.GraphModule]


def rules(result: fx.GraphModule) -> list[str]:
    applied: tuple[Applied, ...] = result.applied  # type: ignore[assignment]
    return [item.rule for item in applied]


def test_an_unknown_name_to_skip_is_refused() -> None:
    with pytest.raises(RecipeError, match="batchnrom"):
        reparameterize(nn.Sequential(nn.Conv2d(3, 4, 1)), (8, 8), skip=["batchnrom"])


def test_a_size_the_network_does_not_take_is_refused() -> None:
    with pytest.raises(InputError, match="4, 4"):
        reparameterize(nn.Sequential(nn.Conv2d(3, 4, 7)), (4, 4))


def test_the_model_itself_is_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = reparameterize(model.train(), (8, 8))
    assert model.training
    assert not result.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    result.get_parameter("0.weight").data.zero_()
    assert torch.equal(before["0.weight"], model[0].weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", ["conv", "transposed", "linear", "before", "before-padded"])
def test_batchnorm_folds_on_both_sides(check: Check, kind: str, groups: int) -> None:
    layers: dict[str, list[nn.Module]] = {
        "conv": [nn.Conv2d(8, 12, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(12)],
        "transposed": [nn.ConvTranspose2d(8, 12, 3, padding=1, groups=groups), nn.BatchNorm2d(12)],
        "linear": [nn.Flatten(), nn.Linear(8 * 70, 6), nn.BatchNorm1d(6)],
        "before": [nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3, 2, groups=groups, bias=False)],
        "before-padded": [nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3, padding=1, groups=groups)],
    }
    result = check(nn.Sequential(*layers[kind]), (7, 10), channels=8)
    left = [m for m in result.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert bool(left) == (kind == "before-padded")


def test_a_batchnorm_whose_input_is_read_elsewhere_stays(check: Check) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            total: Tensor = x.relu() + self.norm(x)
            return total

    result = check(Net(), (6, 6))
    assert any(isinstance(m, nn.BatchNorm2d) for m in result.modules())


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(
    ("k", "s", "p"),
    [(4, 2, 1), (2, 2, 0), (6, 4, 1), (10, 8, 1), (18, 16, 1), (3, 2, 1), (5, 3, 2), (3, 1, 1)],
)
def test_transposed_is_a_subpixel_convolution(
    check: Check, k: int, s: int, p: int, groups: int
) -> None:
    layer = nn.ConvTranspose2d(8, 4, k, stride=s, padding=p, groups=groups)
    result = check(nn.Sequential(layer, nn.BatchNorm2d(4)), (5, 7), channels=8)
    assert not any(isinstance(m, nn.ConvTranspose2d) for m in result.modules())


def test_the_common_transposed_convolution_has_its_sixteen_taps_and_no_zero() -> None:
    layer = nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)
    result = reparameterize(normalise(nn.Sequential(layer), (8, 6, 6)), (6, 6))
    assert result.get_parameter("0.weight").shape == (4 * 4, 8, 2, 2)
    assert torch.all(result.get_parameter("0.weight") != 0)


def test_output_padding_is_left_alone(check: Check) -> None:
    layer = nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1)
    assert not rules(check(nn.Sequential(layer), (6, 6), channels=8))


@pytest.mark.parametrize("before", [nn.Conv2d(6, 8, 1), nn.ConvTranspose2d(6, 8, 2, 2)])
def test_a_channel_scale_is_folded(check: Check, before: nn.Module) -> None:
    result = check(nn.Sequential(before, ChannelScale(8, 3.0)), (5, 6), channels=6)
    assert not any(isinstance(m, ChannelScale) for m in result.modules())


@pytest.mark.parametrize("last", [True, False])
def test_a_layer_scale_is_folded(check: Check, last: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense: nn.Module = nn.Linear(6, 8) if last else nn.Conv2d(6, 8, 1)
            self.gamma = nn.Parameter(torch.ones(8))

        def forward(self, x: Tensor) -> Tensor:
            if last:
                y: Tensor = self.dense(x.permute(0, 2, 3, 1)) * self.gamma
                return y.permute(0, 3, 1, 2)
            z: Tensor = self.dense(x)
            return self.gamma.reshape(-1, 1, 1) * z

    result = check(Net(), (5, 6), channels=6)
    assert rules(result) == ["scales.1"] + ["pointwise.1"] * last
    assert "gamma" not in result.state_dict()


def test_a_factor_per_pixel_is_not_a_layer_scale(check: Check) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.window = nn.Conv2d(6, 8, 1), nn.Parameter(torch.randn(5, 6))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x) * self.window
            return y

    assert not rules(check(Net(), (5, 6), channels=6))


def test_a_pixel_shuffle_behind_a_convolution_takes_its_channels_phase_by_phase(
    check: Check,
) -> None:
    layers = [nn.Conv2d(4, 3 * 9, 1), nn.GELU(), nn.PixelShuffle(3)]
    result = check(nn.Sequential(*layers), (5, 6), channels=4)
    assert [type(m) for m in result.modules() if isinstance(m, nn.PixelShuffle)] == [PhaseToSpace]


def test_phases_and_space_are_each_others_inverse() -> None:
    x = torch.randn(3, 5, 6, 8)
    assert torch.equal(PhaseToSpace(2)(SpaceToPhase()(x)), x)
    assert torch.equal(SpaceToPhase()(x)[:, 5:10], x[:, :, 0::2, 1::2])
