"""Copies of pixels that are added last: no number changes, and integers lose nothing of them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

import waveedge
from waveedge.artifact import load_artifact, save_artifact
from waveedge.compression.centre import centre_images
from waveedge.compression.compressed import Compressed
from waveedge.compression.copies import copy_pixels_last
from waveedge.compression.reparameterize import Shapes
from waveedge.export import export_model
from waveedge.models.build import attach_spec
from waveedge.nn import ActivationQuantizer, PixelCopy
from waveedge.normalise import normalise
from waveedge.spec import ModelSpec

Size = tuple[int, int]

STEP = 1 / 255


def spec_of(size: Size) -> ModelSpec:
    return ModelSpec(family="custom", arch="tests:none", task="super-resolution", input_size=size)


class Enlarger(nn.Module):
    """Twice as many rows and columns: an interpolation of rows, in three pieces, and details.

    A cell of ``stride`` x ``stride`` pixels becomes one of ``2 stride`` x ``2 stride``.
    """

    def __init__(self, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stride, self.up = stride, 2 * stride
        channels, near = 3 * self.up**2, stride + 2  # the cell, and a pixel on each side
        columns = {"stride": stride, "padding": (0, 1)}
        self.middle = nn.Conv2d(3, channels, near, **columns)  # type: ignore[arg-type]
        self.top = nn.Conv2d(3, channels, (near - 1, near), **columns)  # type: ignore[arg-type]
        self.bottom = nn.Conv2d(3, channels, (near - 1, near), **columns)  # type: ignore[arg-type]
        self.features = nn.Conv2d(3, 8, near, stride, padding=1)
        self.details = nn.Conv2d(8, channels, 1)
        with torch.no_grad():
            for layer in (self.middle, self.top, self.bottom, self.details):
                for parameter in layer.parameters():
                    parameter.mul_(0.03)
            weights = self.middle.weight.reshape(3, self.up, self.up, 3, near, near)
            for row in range(self.up):
                first = (row + 1) // 2  # of the two rows between which it lies
                for colour in range(3):
                    for column in range(self.up):
                        taps = weights[colour, row, column, colour, :, column // 2 + 1]
                        taps[first] += gain * (0.25 if row % 2 == 0 else 0.75)
                        taps[first + 1] += gain * (0.75 if row % 2 == 0 else 0.25)
            # Beyond the image its outermost row goes on.
            for layer, inner, beyond in (
                (self.top, slice(1, None), 0),
                (self.bottom, slice(-1), -1),
            ):
                layer.weight.copy_(self.middle.weight[:, :, inner])
                layer.weight[:, :, beyond] += self.middle.weight[:, :, beyond]

    def forward(self, x: Tensor) -> Tensor:
        edge = self.stride + 1
        inner = x[:, :, self.stride - 1 : 1 - self.stride or None]
        pieces = [self.top(x[:, :, :edge]), self.middle(inner), self.bottom(x[:, :, -edge:])]
        details = self.details(F.relu(self.features(x)))
        return F.pixel_shuffle(torch.cat(pieces, 2) + details, self.up)


class Restorer(nn.Module):
    """One convolution of the image, moved before it is added to the others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.skip = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.features = nn.Conv2d(3, 8, 3, padding=1)
        self.details = nn.Conv2d(8, 12, 1)
        self.more = nn.Conv2d(8, 12, 1)
        with torch.no_grad():
            for layer in (self.skip, self.details, self.more):
                layer.weight *= 0.03
            self.skip.weight[range(12), torch.arange(12) // 4, 1, 1] += 0.95

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.features(x))
        terms = (self.details(y), self.skip(x), self.more(y))
        first, second, third = (F.pixel_shuffle(term, 2) for term in terms)
        return first + second + third


def photos(size: Size, count: int = 2) -> list[NDArray[np.float32]]:
    """Smooth images of 8-bit pixels, nearly from black to white."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 6, generator=generator)
    smooth = F.interpolate(coarse, size=size, mode="bicubic").mul(2).sub(0.5).clamp(0.1, 0.9)
    return [np.round(image[None].numpy() * 255).astype(np.float32) / 255 for image in smooth]


def split(
    model: nn.Module, size: Size, dtype: torch.dtype = torch.float64
) -> tuple[fx.GraphModule, fx.GraphModule, list[str]]:
    """A network with its images centred, the same with copies, and what was said to be done."""
    graph = normalise(model.to(dtype), (3, *size))
    centre_images(graph, spec_of(size), size, ("input", "output"))
    whole = copy.deepcopy(graph)
    return whole, graph, copy_pixels_last(graph, Shapes(graph, (1, 3, *size)), photos(size))


@pytest.mark.parametrize(
    ("model", "size", "pieces", "dtype", "error"),
    [
        (Enlarger(1), (33, 39), {"top", "middle", "bottom"}, torch.float64, 1e-12),
        (Enlarger(1), (33, 39), {"top", "middle", "bottom"}, torch.float32, 1e-6),
        (Restorer(), (31, 33), {"skip"}, torch.float64, 1e-12),
    ],
    ids=["odd", "single", "moved"],
)
def test_no_number_changes(
    model: nn.Module, size: Size, pieces: set[str], dtype: torch.dtype, error: float
) -> None:
    whole, graph, done = split(copy.deepcopy(model), size, dtype)
    assert set(done) == pieces
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.no_grad():
        expected, found = whole(x), graph(x)
    assert float((expected - found).abs().max()) < error * float(expected.abs().max())


def test_one_convolution_with_a_small_kernel_makes_all_copies() -> None:
    """Of whole cells, at other sizes than the one that the network was rewritten at, too."""
    whole, graph, done = split(Enlarger(2), (34, 38))
    assert len(done) == 3
    (copies,) = (module for module in graph.modules() if isinstance(module, PixelCopy))
    assert (copies.kernel_size, copies.stride) == ((2, 2), (2, 2))
    assert torch.equal(copies.weight.sum((1, 2, 3)), torch.ones(48, dtype=torch.float64))
    assert not list(copies.parameters())
    for size in ((34, 38), (42, 30)):
        x = torch.rand(1, 3, *size, dtype=torch.float64)
        torch.testing.assert_close(graph(x), whole(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("gain", [0.1, -1.0])
def test_what_is_not_the_image_is_not_split(gain: float) -> None:
    whole, graph, done = split(Enlarger(gain=gain), (32, 38))
    assert not done
    assert graph.code == whole.code


def test_layers_in_floating_point_are_not_split() -> None:
    size = (32, 38)
    graph = normalise(Enlarger(), (3, *size))
    centre_images(graph, spec_of(size), size, ("input", "output"))
    assert not copy_pixels_last(graph, Shapes(graph, (1, 3, *size)), photos(size), keep={"top"})


SMALL = (32, 40)


@pytest.fixture(scope="module")
def tuned() -> Compressed:
    model = attach_spec(Enlarger(), spec_of(SMALL))
    images = np.concatenate(photos(SMALL, 8))
    return waveedge.compress(model, images, bits=8, tune=8, shrink=False)


def test_copies_stay_copies(tuned: Compressed, tmp_path: Path) -> None:
    save_artifact(tuned, tmp_path / "a.safetensors")
    loaded = load_artifact(tmp_path / "a.safetensors")
    for graph in (tuned.graph, loaded.graph):
        layers = dict(graph.named_modules())
        copies = layers["copies"]
        assert isinstance(copies, PixelCopy)
        assert set(copies.weight.flatten().tolist()) == {0.0, 1.0}
        assert torch.equal(copies.weight_quantizer(copies.weight), copies.weight)
        steps = [m.pixel_step for m in layers.values() if isinstance(m, ActivationQuantizer)]
        # The image, its copies, what they are added to, and the output.
        assert steps.count(STEP) == 4
        for layer in layers.values():
            if isinstance(layer, ActivationQuantizer) and layer.pixel_step:
                assert layer.scale.item() == pytest.approx(STEP)
    x = torch.from_numpy(photos(SMALL)[1])
    torch.testing.assert_close(loaded(x), tuned(x), rtol=0, atol=0)


def test_copies_are_exact_in_integers(tuned: Compressed, tmp_path: Path) -> None:
    images = photos(SMALL)
    export_model(tuned.graph, tmp_path / "bundle", target="ort", images=images)
    model = onnx.load(tmp_path / "bundle" / "model.onnx")
    copied = next(
        node.output[0]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.name.startswith("quantizer_copies/")
    )
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(copied, onnx.TensorProto.UINT8, None)
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    image = np.random.default_rng(0).integers(0, 256, (1, 3, *SMALL))
    pixels = (image / 255).astype(np.float32)
    *_, found = session.run(None, {session.get_inputs()[0].name: pixels})
    enlarged = F.pixel_shuffle(torch.from_numpy(found), 2).numpy()
    assert np.array_equal(enlarged, image.repeat(2, 2).repeat(2, 3))
