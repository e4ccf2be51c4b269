"""Each kind of network in its normal form computes what the user's module does."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import Tensor, fx, nn

from waveedge.cost import Cost, profile
from waveedge.errors import InputError
from waveedge.normalise import flat_outputs, normalise
from waveedge.reference import Reference, relative_error

from .functional import NETWORKS as FUNCTIONAL
from .published import NETWORKS as PUBLISHED

NETWORKS = {**FUNCTIONAL, **PUBLISHED}
FIXED = {"looks at sizes", "constants", "moves"}
"""Their code writes a size into the graph that is exported with fixed sizes."""


def made(name: str) -> nn.Module:
    """The network of that name, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NETWORKS[name]().eval()


@lru_cache
def normalised(name: str) -> tuple[nn.Module, dict[str, Tensor], fx.GraphModule]:
    """The network of that name, its state before, and its normal form; not to be changed."""
    network = made(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    return network, before, normalise(network, (3, 16, 16))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_normal_form_equals_the_module(name: str) -> None:
    network, before, graph = normalised(name)
    sizes = [(1, 16, 16)]
    if graph.any_size:
        sizes += [(2, 16, 16), (1, 32, 16), (1, 24, 40)]
    for batch, height, width in sizes:
        image = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(7))
        with torch.no_grad():
            wanted = flat_outputs(network(image.clone()))
            found = flat_outputs(graph(image.clone()))
        assert relative_error(wanted, found) <= 1e-6, (batch, height, width)
    assert len(graph.output_names) == len(set(graph.output_names)) == len(wanted)
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert graph.any_size or name in FIXED


@lru_cache
def _cost(name: str) -> Cost:
    return profile(normalised(name)[2], (16, 16))


@pytest.mark.parametrize(
    ("name", "function", "macs"),
    [
        ("channel attention", "matmul", 2 * 4 * 4 * 256),
        ("channel attention", "matmul_1", 2 * 4 * 4 * 256),
        ("channel attention", "scaled_dot_product_attention", 2 * 2 * 4 * 4 * 256),
        ("dynamic", "conv2d_1", 4 * 256 * 9),
        ("fourier", "fft_rfft2", 4 * 5 * 256 * 8 // 4),
        ("volume", "conv3d", 2 * 8 * 256 * 27),
    ],
)
def test_functions_that_multiply_are_counted(name: str, function: str, macs: int) -> None:
    cost = _cost(name)
    rows = {row.name: row for row in cost.layers}
    assert rows[function].macs == macs
    assert not rows[function].is_layer
    assert cost.macs == sum(row.macs for row in cost.layers)


def test_dropout_and_attention_in_eval_mode_draw_no_random_numbers() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 4, 1), nn.Dropout2d(), nn.AlphaDropout(), nn.RReLU(), nn.Dropout(0.9)
            )

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.body(x)
            return y

    network = Drops().eval()
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(normalise(network, (3, 8, 8))(image), network(image))


def test_a_network_of_volumes_is_refused_by_the_name_of_its_layer() -> None:
    network = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU()).eval()
    with pytest.raises(InputError, match=r"Conv3d is not supported.* layer 0 is a Conv3d"):
        normalise(network, (3, 8, 8))
    with pytest.raises(InputError, match=r"Conv3d is not supported.* layer 0 is a Conv3d"):
        Reference(network, [torch.zeros(1, 3, 8, 8).numpy()])


def test_two_inputs_are_refused_before_anything_runs() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    for refuse in (
        lambda: normalise(Two(), (3, 8, 8)),
        lambda: Reference(Two(), [torch.zeros(1, 3, 8, 8).numpy()]),
    ):
        with pytest.raises(InputError, match=r"Two has 2 inputs \(x, y\)"):
            refuse()
