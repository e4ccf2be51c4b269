"""Images on the signed grid without error, by an exact rewrite."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from waveedge.calibration import calibrate_activations
from waveedge.compression.centre import centre_images
from waveedge.compression.pixels import End
from waveedge.compression.quantize import place_quantizers
from waveedge.compression.recipe import make_recipe
from waveedge.compression.reparameterize import Shapes
from waveedge.nn import Shift
from waveedge.normalise import normalise
from waveedge.spec import ModelSpec, Preprocessing

SIZE = (12, 16)
BOTH: tuple[End, ...] = ("input", "output")
SPEC = ModelSpec(family="custom", arch="tests:none", task="super-resolution")


class Enlarger(nn.Module):
    """Padded, unpadded and partial readers of the image; a sum of pieces makes the output."""

    def __init__(self) -> None:
        super().__init__()
        self.skip = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.first = nn.Conv2d(3, 8, (5, 3), padding=(2, 1))
        self.top = nn.Conv2d(8, 12, 1)
        self.bottom = nn.Conv2d(8, 12, 1)
        self.left = nn.Conv2d(3, 8, (1, 4), stride=(1, 4))
        self.wide = nn.Conv2d(3, 8, (3, 5), padding=(0, 2))
        with torch.no_grad():  # let the skip connection carry the image
            self.skip.weight.mul_(0.1)[:, :, 1, 1] += 0.3
            for parameter in (*self.top.parameters(), *self.bottom.parameters()):
                parameter.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x) + self.wide(x[:, :, :3, :]) + F.pad(self.left(x[:, :, :, :8]), (0, 14))
        z = torch.cat([self.top(F.gelu(y[:, :, :6])), self.bottom(y[:, :, 6:])], 2)
        return F.pixel_shuffle(self.skip(x) + z, 2)


def graphs(spec: ModelSpec = SPEC, **dtype: torch.dtype) -> tuple[fx.GraphModule, fx.GraphModule]:
    torch.manual_seed(0)
    graph = normalise(Enlarger().to(**dtype), (3, *SIZE))
    centred = copy.deepcopy(graph)
    centre_images(centred, spec, SIZE, BOTH)
    return graph, centred


@pytest.mark.parametrize("preprocessing", [
    Preprocessing(),
    Preprocessing(range=(-1.0, 1.0), mean=(0.25,), std=(0.5,)),
])  # fmt: skip
def test_centring_changes_no_number(preprocessing: Preprocessing) -> None:
    graph, centred = graphs(SPEC.model_copy(update={"preprocessing": preprocessing}),
                            dtype=torch.float64)  # fmt: skip
    x = torch.rand(2, 3, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        expected, found = graph(x), centred(x)
    assert float((expected - found).abs().max()) < 1e-10 * float(expected.abs().max())
    for conv in (centred.skip, centred.first, centred.left, centred.wide):
        assert isinstance(conv, nn.Conv2d)
        assert conv.padding == (0, 0)
    # The layer that carries the image makes it shifted; the other does not change.
    assert not torch.equal(centred.skip.bias, torch.zeros(12, dtype=torch.float64))  # type: ignore[arg-type]
    torch.testing.assert_close(centred.top.bias, graph.top.bias, rtol=0, atol=0)


def test_pixels_are_exact_on_the_grid_and_outputs_are_pixels() -> None:
    _, graph = graphs()
    place_quantizers(graph, Shapes(graph, (1, 3, *SIZE)), make_recipe({"bits": 8}))
    rng = np.random.default_rng(0)
    # Calibration sees dark images alone.
    dark = [(rng.integers(0, 200, (1, 3, *SIZE)) / 255).astype(np.float32) for _ in range(3)]
    calibrate_activations(graph, dark)
    image = torch.arange(256).repeat(3)[: 3 * 12 * 16].reshape(1, 3, *SIZE) / 255
    with torch.no_grad():
        centred = graph.image_centred(image)
        quantized = graph.quantizer_image_centred(centred)
        pixels = 255 * graph(image)
    torch.testing.assert_close(quantized, centred, rtol=0, atol=1e-6)
    torch.testing.assert_close(pixels, pixels.round().clamp(0, 255), rtol=0, atol=1e-3)


@pytest.mark.parametrize("change", [
    {"task": "classification"},
    {"preprocessing": Preprocessing(mean=(0.4, 0.5, 0.6))},
])  # fmt: skip
def test_other_networks_stay_as_they_are(change: dict[str, object]) -> None:
    graph, centred = graphs(SPEC.model_copy(update=change))
    assert centred.code == graph.code


def test_an_output_with_a_frame_of_zeros_is_not_centred() -> None:
    """Zeros around the output are zeros whatever the layer before them is shifted by."""

    class Framed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.pad(self.conv(x), [1, 1, 1, 1])

    graph = normalise(Framed().double(), (3, *SIZE))
    centred = copy.deepcopy(graph)
    centre_images(centred, SPEC, SIZE, BOTH)
    x = torch.rand(1, 3, *SIZE, dtype=torch.float64)
    torch.testing.assert_close(centred(x), graph(x), rtol=0, atol=1e-12)


def test_a_reader_of_a_part_that_the_size_decides_reads_the_image_as_it_was() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole, self.part = nn.Conv2d(3, 12, 1), nn.Conv2d(3, 12, 1)

        def forward(self, x: Tensor) -> Tensor:
            left = self.part(x[:, :, :, : x.shape[3] - 1])
            return F.pixel_shuffle(self.whole(x) + 0.1 * F.pad(left, (0, 1)), 2)

    torch.manual_seed(0)
    graph = normalise(Shifted().double(), (3, *SIZE))
    x = torch.rand(1, 3, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        expected = graph(x)
        centre_images(graph, SPEC, SIZE, BOTH)
        found = graph(x)
    assert float((expected - found).abs().max()) < 1e-10 * float(expected.abs().max())
    assert any(isinstance(module, Shift) for module in graph.modules())
