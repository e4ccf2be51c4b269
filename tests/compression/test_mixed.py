"""Mixed precision: the few layers that hold most of what few bits cost get 8, and it is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from waveedge.compression.compress import Compressed, compress
from waveedge.compression.mixed import wide_layers
from waveedge.nn import ActivationQuantizer, WeightQuantizer

LAYERS = 9
COSTLY = "4"
"""The layer whose input is far from evenly spread: few large values, of both signs, and many small
ones."""
IMAGES = np.random.default_rng(0).random((8, 3, 16, 16), np.float32)


class _Peaks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean((2, 3), keepdim=True) + (2 * x) ** 9


def network() -> nn.Module:
    """A chain of 1x1 convolutions; what one of them reads takes many bits."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for index in range(LAYERS):
        parts.append(nn.Conv2d(3 if index == 0 else 8, 3 if index == LAYERS - 1 else 8, 1))
        nn.init.orthogonal_(parts[-1].weight)  # type: ignore[arg-type]
        parts.append(_Peaks() if index == 1 else nn.Tanh())
    return nn.Sequential(*parts[:-1]).eval()


def compressed(**fields: object) -> Compressed:
    return compress(network(), images=IMAGES, tune=0, shrink=False, **fields)


def bits_of(small: Compressed, field: str = "activation_bits") -> dict[str, int]:
    return {row.name: getattr(row, field) for row in small.report.layers}


@pytest.fixture(scope="module")
def mixed() -> Compressed:
    return compressed(bits=4)


@pytest.fixture(scope="module")
def uniform() -> Compressed:
    return compressed(bits=4, uniform=True)


def test_the_costly_layer_has_eight_bits_and_the_others_four(
    mixed: Compressed, uniform: Compressed
) -> None:
    wider = {name for name, bits in bits_of(mixed).items() if bits > bits_of(uniform)[name]}
    assert wider == {COSTLY}
    assert bits_of(mixed)[COSTLY] == 8
    assert mixed.report.quality.snr_db > uniform.report.quality.snr_db + 1


def test_the_report_says_which_and_why(mixed: Compressed, uniform: Compressed) -> None:
    assert [name for name, _ in mixed.report.in_eight] == [COSTLY]
    row = next(row for row in mixed.report.layers if row.name == COSTLY)
    assert row.note == dict(mixed.report.in_eight)[COSTLY]
    assert "activations hold" in row.note
    assert uniform.report.in_eight == ()


def test_the_recipe_stays_the_users_and_says_no_other_name(mixed: Compressed) -> None:
    assert mixed.recipe.layers == {}
    assert mixed.recipe.label() == "w8a4"


def test_bits_that_the_user_gave_a_layer_stay() -> None:
    small = compressed(bits=4, layers={COSTLY: {"bits": 3}})
    assert bits_of(small)[COSTLY] == 3
    assert COSTLY not in dict(small.report.in_eight)


def test_weights_are_widened_apart_from_activations() -> None:
    small = compressed(bits=8, weight_bits=3)
    assert set(bits_of(small).values()) == {8}
    wide = [name for name, bits in bits_of(small, "weight_bits").items() if bits == 8]
    outer = {"0", str(2 * LAYERS - 2)}  # never fewer than 8
    assert set(wide) - outer == dict(small.report.in_eight).keys()
    assert "weights hold" in small.report.in_eight[0][1]


def test_no_more_than_a_few_are_widened(mixed: Compressed) -> None:
    few = round(LAYERS / 8)
    assert 0 < len(mixed.report.in_eight) <= few


def test_looking_leaves_the_network_as_it_is(uniform: Compressed) -> None:
    before = {name: value.clone() for name, value in uniform.graph.state_dict().items()}
    found = wide_layers(uniform.graph, list(IMAGES[:, None]))
    assert COSTLY in found
    assert all(torch.equal(value, before[n]) for n, value in uniform.graph.state_dict().items())
    grids = [m for m in uniform.graph.modules() if isinstance(m, ActivationQuantizer)]
    weights = [m for m in uniform.graph.modules() if isinstance(m, WeightQuantizer)]
    assert all(grid.enabled for grid in [*grids, *weights])


def test_eight_bits_have_nothing_to_widen() -> None:
    assert compressed(bits=8).report.in_eight == ()
