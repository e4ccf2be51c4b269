"""Nearly equal grids that meet in a concatenation become one; others stay as they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from waveedge.compression.grids import align_grids
from waveedge.nn import ActivationQuantizer
from waveedge.normalise import normalise


class Joined(nn.Module):
    """Two maps, the first read by a convolution too, in two concatenations."""

    def __init__(self, dim: int = 1, bits: int = 8) -> None:
        super().__init__()
        self.dim = dim
        for name in ("one", "other", "first", "second"):
            setattr(self, name, ActivationQuantizer(bits))
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        a, b = self.one(x), self.other(-x)
        return (
            self.conv(a),
            self.first(torch.cat([a, b], self.dim)),
            self.second(torch.cat([a, a], self.dim)),
        )


def aligned(scales: dict[str, float], **settings: int) -> list[float]:
    graph = normalise(Joined(**settings), (4, 8, 8))
    for name, scale in scales.items():
        graph.get_submodule(name).scale.data.fill_(scale)
    align_grids(graph)
    return [round(float(graph.get_submodule(name).scale.detach()), 4) for name in scales]


def test_nearly_equal_grids_take_the_largest_step() -> None:
    scales = {"one": 1.0, "other": 1.2, "first": 1.1, "second": 1.05}
    assert aligned(scales) == [1.2] * 4


def test_a_grid_of_another_size_stays() -> None:
    scales = {"one": 1.0, "other": 3.0, "first": 3.1, "second": 1.05}
    assert aligned(scales) == [1.05, 3.1, 3.1, 1.05]


def test_a_group_spans_a_quarter_at_most_and_begins_with_the_nearest() -> None:
    scales = {"one": 1.0, "other": 1.4, "first": 1.2, "second": 1.05}
    # 1 and 1.05 are nearest, then 1.4 and 1.2; both pairs as one would span 1.4.
    assert aligned(scales) == [1.05, 1.4, 1.4, 1.05]


@pytest.mark.parametrize("settings", [{"dim": 2}, {"bits": 4}], ids=str)
def test_rows_and_low_bits_are_left_alone(settings: dict[str, int]) -> None:
    scales = {"one": 1.0, "other": 1.2, "first": 1.1, "second": 1.05}
    assert aligned(scales, **settings) == list(scales.values())


def test_the_grid_of_an_image_is_left_alone() -> None:
    graph = normalise(Joined(), (4, 8, 8))
    graph.get_submodule("one").scale.data.fill_(1.1)
    graph.get_submodule("first").pixel_step = 1.0
    align_grids(graph)
    assert float(graph.get_submodule("first").scale.detach()) == 1.0
