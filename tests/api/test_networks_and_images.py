"""What a verb may be given, what is told from it, and what it refuses."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, fx, nn
from torch.utils.data import DataLoader, TensorDataset

import waveedge
from waveedge.calibration.folders import built_in_photos
from waveedge.compression.reparameterize import Applied, Rewrite, Shapes, exact_form, pipeline
from waveedge.cost import profile
from waveedge.normalise import normalise
from waveedge.opening import with_images
from waveedge.reference import FLOAT_ERROR, Reference

FLOATS = np.random.default_rng(0).random((8, 3, 16, 24), np.float32)


def network(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))


@pytest.fixture(scope="module")
def small() -> waveedge.Compressed:
    """A network of the user's own, compressed in memory."""
    return waveedge.compress(network(), FLOATS, bits=8)


@pytest.mark.parametrize(
    ("images", "channels", "size"),
    [
        (FLOATS, 3, (16, 24)),
        (torch.from_numpy(FLOATS[:, :1]), 1, (16, 24)),
        (list(FLOATS), 3, (16, 24)),
        (DataLoader(TensorDataset(torch.from_numpy(FLOATS)), 4), 3, (16, 24)),
        ((255 * FLOATS).astype(np.uint8).transpose(0, 2, 3, 1), 3, (16, 24)),
        ([Image.new("L", (24, 16), value) for value in range(0, 250, 30)], 1, (16, 24)),
        (built_in_photos()[:6], 1, (224, 224)),
        (str(built_in_photos()[0].parent), 1, (224, 224)),
        (None, 3, (224, 224)),
    ],
    ids=["array", "grey", "list", "loader", "uint8", "Pillow", "paths", "folder", "none"],
)
@pytest.mark.filterwarnings("ignore:suspicious images")
def test_what_a_module_is_is_told_from_it_and_the_images(
    images: Any, channels: int, size: tuple[int, int]
) -> None:
    mine = network(channels)
    described, opened = with_images(mine, images, size=None)
    assert (described.spec.family, described.spec.channels) == ("custom", channels)
    assert described.spec.input_size == size
    assert opened.calibration[0].shape == (1, channels, *size)
    assert not hasattr(mine, "spec")


def test_the_size_that_is_asked_for_wins_or_is_refused() -> None:
    mine = network()
    assert with_images(mine, None, size=(32, 16))[0].spec.input_size == (32, 16)
    with pytest.raises(waveedge.InputError, match="images are 16x24, and the input size is 32x32"):
        with_images(mine, waveedge.open_images(FLOATS), size=(32, 32))


def test_a_recipe_and_keywords_together() -> None:
    recipe = waveedge.Recipe(bits=4, seed=3)
    small = waveedge.compress(network(), FLOATS, recipe=recipe, bits=8)
    assert (small.recipe.bits, small.recipe.seed) == (8, 3)


class TwoImages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.conv(x) + self.conv(y)


class Branches(TwoImages):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        y = self.conv(x)
        if y.sum() > 0:
            y = y + 1
        return y


VERBS: dict[str, Callable[[Any, Path], Any]] = {
    "inspect": lambda model, _: waveedge.inspect(model, (16, 24)),
    "profile": lambda model, _: profile(model, (16, 24)),
    "compress": lambda model, _: waveedge.compress(model, FLOATS),
    "export": lambda model, out: waveedge.export(model, out, images=FLOATS),
    "autotune": lambda model, out: waveedge.export(model, out, images=FLOATS, autotune=True),
}


@pytest.mark.parametrize("verb", VERBS)
def test_two_images_are_refused_alike_by_every_verb(verb: str, tmp_path: Path) -> None:
    with pytest.raises(waveedge.InputError, match=r"TwoImages has 2 inputs \(x, y\)"):
        VERBS[verb](TwoImages(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_code_that_cannot_be_followed_is_refused_with_its_line(verb: str, tmp_path: Path) -> None:
    lines, first = inspect.getsourcelines(Branches)
    line = first + next(i for i, text in enumerate(lines) if "y.sum() > 0" in text)
    with pytest.raises(waveedge.ExportError, match=rf"test_\w+\.py:{line} \(if y\.sum\(\) > 0:\)"):
        VERBS[verb](Branches(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [network().state_dict(), nn.Sequential, None], ids=str)
@pytest.mark.parametrize("verb", ["inspect", "compress", "export"])
def test_what_is_no_network_is_refused(verb: str, wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(waveedge.InputError, match="there is no network in a "):
        VERBS[verb](wrong, tmp_path / "out")


def test_what_is_compressed_is_not_compressed_or_rewritten_again(
    small: waveedge.Compressed, tmp_path: Path
) -> None:
    with pytest.raises(waveedge.InputError, match="this network is already compressed"):
        waveedge.compress(small, FLOATS)
    for form in ({"autotune": True}, {"reparameterize": False}):
        with pytest.raises(waveedge.InputError, match="its form was fixed"):
            waveedge.export(small, tmp_path / "out", **form)
    with pytest.raises(waveedge.InputError, match="not its graph"):
        waveedge.export(small.graph, tmp_path / "out")
    assert waveedge.inspect(small)["input"] == [1, 3, 16, 24]


def test_a_compressed_network_remembers_the_user_s_while_in_memory(
    small: waveedge.Compressed, tmp_path: Path
) -> None:
    bundle = waveedge.export(small, str(tmp_path / "out"), images=FLOATS)
    assert bundle.manifest["baseline"] == "published.onnx"
    assert bundle.manifest["recipe"]["bits"] == 8
    assert bundle.manifest["input"]["shape"] == [1, 3, 16, 24]

    waveedge.save_artifact(small, str(tmp_path / "small.safetensors"))
    loaded = waveedge.load(str(tmp_path / "small.safetensors"))
    x = torch.from_numpy(FLOATS[:1])
    assert torch.equal(loaded(x), small(x))
    assert loaded.original is None
    with pytest.warns(UserWarning, match="bundle gets no baseline"):
        bundle = waveedge.export(loaded, tmp_path / "out", images=FLOATS)
    assert bundle.manifest["baseline"] is None


def test_a_saved_artifact_leads_to_its_checkpoint(
    small: waveedge.Compressed, tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "work").mkdir()
    original = network()
    original.source_path = tmp_path / "weights" / "model.pt"
    path = tmp_path / "work" / "small.safetensors"
    waveedge.save_artifact(dataclasses.replace(small, original=original), path)
    assert waveedge.load_artifact(path).source_name == "../weights/model.pt"


def planted(largest: float) -> type[Rewrite]:
    """A faulty rewrite: it bounds the output."""

    class Bounds(Rewrite):
        name = "bounds"

        def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
            output = graph_module.graph.output_node()
            with graph_module.graph.inserting_before(output):
                bounded = graph_module.graph.call_function(
                    torch.clamp, (output.args[0], -largest, largest)
                )
            output.args = (bounded,)
            return [Applied("bounds", "2", 1, 0)]

    return Bounds


def test_export_leaves_out_what_does_not_hold_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "REWRITES", (planted(0.01),))
    with pytest.warns(UserWarning, match=r"left out: bounds: changed the output by"):
        bundle = waveedge.export(network(), tmp_path / "out", images=FLOATS)
    assert bundle.verification["figures"]["snr_db"] > 100


def test_a_rewrite_that_holds_on_the_first_images_alone_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, images = network(), [0.1 * FLOATS[:1], 0.1 * FLOATS[1:2], FLOATS[2:3]]
    reference = Reference(mine, images)
    largest = max(float(reference.outputs(index)[0].abs().max()) for index in (0, 1))
    monkeypatch.setattr(pipeline, "REWRITES", (planted(largest),))
    graph = exact_form(normalise(mine, (3, 16, 24)), (16, 24), reference)
    (left_out,) = graph.left_out
    assert str(left_out).startswith("left out: all rewrites: together they changed the output by")
    assert reference.error(graph) <= FLOAT_ERROR
