"""Which GELUs are computed in integers, and that each is fitted to its own grid."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from waveedge.compression.gelus import fit_gelus, place_gelus, separate_gelus
from waveedge.compression.graph_queries import layer_of, layers
from waveedge.compression.quantize import place_quantizers
from waveedge.compression.recipe import make_recipe
from waveedge.compression.reparameterize import Shapes
from waveedge.nn import ActivationQuantizer, SigmoidGELU
from waveedge.normalise import normalise


class Net(nn.Module):
    """Two convolutions with a GELU behind each, the second by a chosen way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 1)
        self.act, self.norm = nn.GELU(), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.act(self.a(x)))
        if self.way == "shared":
            x = self.act(x)
        elif self.way == "function":
            x = F.gelu(x, approximate="tanh")
        elif self.way == "norm":
            x = self.norm(F.gelu(x))
        elif self.way == "output":
            return F.gelu(x)
        return self.c(x)  # type: ignore[no-any-return]


def placed(way: str, **fields: object) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The network with quantizers, and as it was before them."""
    torch.manual_seed(0)
    graph, recipe = normalise(Net(way), (3, 8, 8)), make_recipe({"bits": 8, **fields})
    separate_gelus(graph)
    reference = copy.deepcopy(graph)
    place_quantizers(graph, Shapes(graph, (1, 3, 8, 8)), recipe)
    place_gelus(graph, recipe)
    return graph, reference


def gelus(graph: fx.GraphModule) -> list[str]:
    """Kinds of GELU, in the order in which they run."""
    return [type(m).__name__ for _, m in layers(graph) if isinstance(m, SigmoidGELU | nn.GELU)]


@pytest.mark.parametrize(
    ("way", "kinds"),
    [
        ("shared", ["SigmoidGELU", "SigmoidGELU"]),
        ("function", ["SigmoidGELU", "SigmoidGELU"]),
        ("norm", ["SigmoidGELU", "GELU"]),
        ("output", ["SigmoidGELU", "GELU"]),
    ],
)
def test_rule_1_gelus_between_quantizers_are_computed_in_integers(
    way: str, kinds: list[str]
) -> None:
    graph, reference = placed(way)
    assert gelus(graph) == kinds
    assert gelus(reference) == ["GELU", "GELU"]
    torch.manual_seed(0)
    published, x = Net(way).eval(), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(reference(x), published(x), atol=0, rtol=0)


@pytest.mark.parametrize("fields", [{"skip": ["a"]}, {"skip": ["act"]}, {"bits": 32}], ids=str)
def test_rule_1_floats_and_excluded_layers_keep_the_exact_gelu(fields: dict[str, object]) -> None:
    graph, _ = placed("function", **fields)
    assert gelus(graph)[0] == "GELU"


def test_rule_2_each_slope_is_fitted_to_its_own_grid() -> None:
    graph, _ = placed("shared")
    calls = [(node, gelu) for node, gelu in layers(graph) if isinstance(gelu, SigmoidGELU)]
    for (node, _), step in zip(calls, (0.002, 0.1), strict=True):
        grid = layer_of(graph, node.all_input_nodes[0])
        assert isinstance(grid, ActivationQuantizer)
        grid.scale.data.fill_(step)
    fit_gelus(graph)
    narrow, wide = (gelu for _, gelu in calls)
    # GELU's slope at zero is that of a sigmoid of 4 / sqrt(2 pi) = 1.596.
    assert float(narrow.slope) == pytest.approx(1.596, abs=0.01)
    assert float(wide.slope) == pytest.approx(1.78, abs=0.01)
