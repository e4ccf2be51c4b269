"""A network that cannot be compared with anything is refused first, and the layer is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from waveedge.errors import InputError
from waveedge.sanity import check_network


def _images(count: int = 2) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(0)
    return [random.random((1, 3, 8, 8), np.float32) for _ in range(count)]


class _Net(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3)
        self.between = between or nn.Identity()
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.between(self.first(x)))


class _Dropout(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5)


class _NoiseInForward(_Net):
    def forward(self, x: Tensor) -> Any:
        return self.last(self.first(x) + torch.randn(1))


class _RootInForward(_Net):
    def forward(self, x: Tensor) -> Any:
        return self.last((self.first(x) - 100).sqrt())


class _Counts(_Net):
    """Changes its own state, so that the second run is another network."""

    def forward(self, x: Tensor) -> Any:
        self.first.bias.data += 1
        return super().forward(x)


class _Exploding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 1e30 * 1e30


def _negative_variance() -> nn.Module:
    norm = nn.BatchNorm2d(4)
    assert norm.running_var is not None
    norm.running_var[1] = -1.0
    return norm


def _refusal(model: nn.Module, images: list[NDArray[np.float32]] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        check_network(model.eval(), images or _images())
    return caught.value.what


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (_Net(_negative_variance()), "at the layer between (BatchNorm2d)"),
        (_Net(_Exploding()), "at the layer between (_Exploding)"),
        (_Net(nn.Sequential(nn.ReLU(), _negative_variance())), "at the layer between.1 (Batch"),
        (_RootInForward(), "in the forward of the network itself (_RootInForward)"),
    ],
)
def test_values_that_are_not_finite_are_traced_to_their_layer(model: nn.Module, layer: str) -> None:
    what = _refusal(model)
    assert "NaN or infinite values on image 1 of 2, first" in what
    assert layer in what


def test_the_image_is_named_where_only_one_gives_nan() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)).sqrt()

    images = [*_images(), np.full((1, 3, 8, 8), -1, np.float32)]
    assert "on image 3 of 3" in _refusal(nn.Sequential(nn.Identity(), Root()), images)


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (_Net(_Dropout()), "at the layer between (_Dropout)"),
        (_NoiseInForward(), "in the forward of the network itself (_NoiseInForward)"),
        (_Counts(), "two runs of the network"),
    ],
)
def test_runs_that_differ_are_traced_to_their_layer(model: nn.Module, layer: str) -> None:
    what = _refusal(model)
    assert "two runs of the network on the same image differ" in what
    assert layer in what


def test_a_network_that_fails_says_why_in_a_few_words() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no, " * 10**6)

    what = _refusal(Fails())
    assert "fails on image 1 of 2, of shape (1, 3, 8, 8): ValueError: no," in what
    assert len(what) < 1000


def test_out_of_memory_is_not_blamed_on_the_network() -> None:
    class Huge(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_zeros(2**58)

    with pytest.raises(RuntimeError, match="allocate memory"):
        check_network(Huge(), _images())


def test_a_network_without_tensors_is_refused() -> None:
    class Empty(nn.Module):
        def forward(self, x: Tensor) -> list[object]:
            return [None, 3]

    assert "returns no tensor" in _refusal(Empty())


def test_outputs_are_flattened_and_the_network_is_left_alone() -> None:
    class Nested(_Net):
        def forward(self, x: Tensor) -> Any:
            y = self.first(x)
            x.zero_()  # its input is its own
            return {"out": self.last(y), "more": [(y, None), 3], "mask": y > 0}

    model = Nested(nn.BatchNorm2d(4)).eval()
    images = _images()
    before = [{k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()]
    outputs = check_network(model, images)
    assert [[tuple(t.shape) for t in image] for image in outputs] == [
        [(1, 2, 6, 6), (1, 4, 6, 6), (1, 4, 6, 6)]
    ] * 2
    torch.testing.assert_close(
        outputs[0][1], functional.conv2d(torch.from_numpy(_images()[0]), *model.first.parameters())
    )
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before[0].items())
    assert torch.equal(torch.get_rng_state(), before[1])
    assert not model._forward_hooks
    np.testing.assert_array_equal(images[0], _images()[0])
