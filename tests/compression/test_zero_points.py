"""Which grids may have a zero point, rule by rule, and what that is worth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import waveedge
from waveedge.calibration import calibrate_activations
from waveedge.compression.quantize import place_quantizers
from waveedge.compression.recipe import make_recipe
from waveedge.compression.reparameterize import Shapes
from waveedge.compression.zero_points import zero_points
from waveedge.nn import ActivationQuantizer
from waveedge.normalise import normalise
from waveedge.serialize.kinds import make_layer

FREE, PADDED = 0.95, 0.5


class Net(nn.Module):
    """A stem whose output, ``stem``, is read in a chosen way."""

    def __init__(self, read: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.read = read
        self.stem = nn.Conv2d(3, 8, 1)
        self.plain, self.padded = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.transposed = nn.ConvTranspose2d(8, 8, 2, 2)
        self.linear = nn.Linear(8, 8)
        self.wide = nn.Conv2d(16, 8, 1)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self, self.stem(x))


def share_of_stem(read: Callable[[Net, Tensor], Tensor], **fields: object) -> float:
    torch.manual_seed(0)
    graph = normalise(Net(read), (3, 12, 16))
    place_quantizers(graph, Shapes(graph, (1, 3, 12, 16)), make_recipe({"bits": 8, **fields}))
    return zero_points(graph).get("quantizer_stem", 0.0)


READS: dict[str, tuple[float, Callable[[Net, Tensor], Tensor]]] = {
    "a convolution": (FREE, lambda net, x: net.last(net.plain(x))),
    "a linear layer": (FREE, lambda net, x: net.linear(x.permute(0, 2, 3, 1))),
    "a convolution of a part": (FREE, lambda net, x: net.last(net.plain(x[:, :, 1:]))),
    "a sum and a convolution": (
        FREE,
        lambda net, x: net.last(x + net.last.weight.sum()) + x.mean(),
    ),
    "a padding convolution": (PADDED, lambda net, x: net.last(net.padded(x))),
    "both": (PADDED, lambda net, x: net.last(net.padded(x)[:, :, 1:-1, 1:-1] + net.plain(x))),
    "a padding": (0.0, lambda net, x: net.last(net.plain(F.pad(x, (1, 0, 2, 1))))),
    "a transposed convolution": (0.0, lambda net, x: net.last(net.transposed(x))),
    "an average": (0.0, lambda net, x: net.last(F.avg_pool2d(x, 2))),
    "a concatenation": (0.0, lambda net, x: net.wide(torch.cat([net.padded(x), x], 1)) + x),
}


@pytest.mark.parametrize("name", READS)
def test_readers_decide(name: str) -> None:
    expected, read = READS[name]
    assert share_of_stem(read) == expected


def test_pieces_of_one_map_keep_their_zero_point() -> None:
    def pieces(net: Net, x: Tensor) -> Tensor:
        whole = torch.cat([net.plain(x[:, :, :6]), net.plain(x[:, :, 6:])], 2)
        return net.last(whole)  # type: ignore[no-any-return]

    graph = normalise(Net(pieces), (3, 12, 16))
    place_quantizers(graph, Shapes(graph, (1, 3, 12, 16)), make_recipe({"bits": 8}))
    assert zero_points(graph)["quantizer_plain"] == FREE
    assert "quantizer_plain" not in zero_points(graph, keep=["quantizer_plain"])


def test_a_narrow_grid_may_have_any() -> None:
    """It fits int8 with zero point 0 wherever its own is."""
    torch.manual_seed(0)
    graph = normalise(Net(READS["a padding"][1]), (3, 12, 16))
    place_quantizers(graph, Shapes(graph, (1, 3, 12, 16)), make_recipe({"bits": 4}))
    found = zero_points(graph)
    narrow = [
        name
        for name, module in graph.named_modules()
        if isinstance(module, ActivationQuantizer) and module.bits == 4
    ]
    assert narrow
    assert all(found[name] == FREE for name in narrow)


def test_a_grid_of_pixels_and_a_published_one_stay() -> None:
    for change in ("pixel_step", "zero_is_open"):
        torch.manual_seed(0)
        graph = normalise(Net(READS["a convolution"][1]), (3, 12, 16))
        place_quantizers(graph, Shapes(graph, (1, 3, 12, 16)), make_recipe({"bits": 8}))
        quantizer = graph.get_submodule("quantizer_stem")
        assert zero_points(graph)["quantizer_stem"] == FREE
        setattr(quantizer, change, 1 / 255 if change == "pixel_step" else False)
        assert "quantizer_stem" not in zero_points(graph)


@pytest.mark.parametrize(("share", "shifted"), [(FREE, True), (0.001, False)])
def test_a_zero_point_is_taken_where_it_leaves_little_enough(share: float, shifted: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.GELU(), ActivationQuantizer(8))
    images = [torch.rand(1, 3, 8, 8).mul(6).sub(3).numpy()]
    (seen,) = calibrate_activations(model, images, shifted={"2": share}).values()
    assert (seen.zero_point < -60) is shifted
    (other,) = calibrate_activations(model, images).values()
    assert other.zero_point == 0
    assert (seen.snr_db > other.snr_db + 2) is shifted


def test_a_network_of_gelus_is_nearer_to_the_float_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the grid behind each GELU is empty without a zero point: a bit, 6 dB."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 1)]
    for _ in range(3):
        layers += [nn.GELU(), nn.Conv2d(16, 16, 1)]
    network = nn.Sequential(*layers, nn.GELU(), nn.Conv2d(16, 4, 1)).eval()
    options = {"bits": 8, "shrink": False, "input_size": (48, 48), "warn": lambda _: None}
    snr = waveedge.compress(network, **options).report.quality.snr_db
    monkeypatch.setattr(
        "waveedge.compression.integers.zero_points", lambda graph, keep: dict[str, float]()
    )
    without = waveedge.compress(network, **options).report.quality.snr_db
    assert snr > without + 2


def test_grids_of_earlier_versions_are_read() -> None:
    earlier = {"bits": 4, "sign_is_open": True, "pixel_step": None}
    for signed, ends in ((True, (-8, 7)), (False, (0, 15))):
        layer = make_layer("ActivationQuantizer", {**earlier, "signed": signed})
        assert isinstance(layer, ActivationQuantizer)
        assert (layer.qmin, layer.qmax, layer.zero_is_open) == (*ends, True)
    published = make_layer(
        "ActivationQuantizer", {**earlier, "signed": True, "sign_is_open": False}
    )
    assert published.zero_is_open is False
    with pytest.raises(ValueError, match="no argument 'sign'"):
        make_layer("ActivationQuantizer", {**earlier, "sign": True})
