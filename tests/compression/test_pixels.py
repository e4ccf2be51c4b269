"""An end of a network is put on the grid of pixels where the calibration images bear that out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waveedge.artifact import load_artifact, save_artifact
from waveedge.calibration import open_images
from waveedge.compression.compress import Compressed, compress
from waveedge.compression.pixels import image_ends
from waveedge.models.build import attach_spec
from waveedge.reference import Reference
from waveedge.spec import ModelSpec, Task

SIZE = (32, 32)


class Restorer(nn.Module):
    """Makes ``gain`` times the image, or times what the image differs from a blurred one."""

    def __init__(self, gain: float = 1.0, *, residual: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.mix = nn.Conv2d(3, 3, 1)
        blur = torch.full((3, 3), 1 / 9)
        centre = torch.zeros(3, 3)
        centre[1, 1] = 1.0
        with torch.no_grad():
            self.conv.weight.copy_((centre - blur if residual else centre).expand(3, 1, 3, 3))
            self.mix.weight.copy_(gain * torch.eye(3).reshape(3, 3, 1, 1))
            for conv in (self.conv, self.mix):
                assert conv.bias is not None
                conv.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(self.conv(x))
        return y


def spec_for(task: Task) -> ModelSpec:
    return ModelSpec(family="custom", arch="tests:Restorer", task=task, input_size=SIZE)


def photos(gain: float = 1.0) -> list[NDArray[np.float32]]:
    """Windows of the built-in photos, made darker, with 8-bit pixels."""
    images = open_images(None, spec=spec_for("restoration"), limit=8, held_out=0).calibration
    return [np.round(image * gain * 255).astype(np.float32) / 255 for image in images]


def compressed(model: nn.Module, task: Task) -> Compressed:
    # The same ones for every task: of an image-to-image network, more are drawn from each photo.
    images = open_images(None, spec=spec_for("restoration"), limit=8, held_out=4)
    return compress(attach_spec(model, spec_for(task)), images=images, bits=8)


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_an_image_is_one_however_dark(gain: float) -> None:
    ends = image_ends(Reference(Restorer(), photos(gain)), spec_for("restoration"))
    assert ends == {"input", "output"}


@pytest.mark.parametrize(
    "model",
    [
        Restorer(residual=True),  # on both sides of zero
        Restorer(0.02),  # never above 5 of 255
        Restorer(255.0),
        Restorer(-1.0),
    ],
    ids=["residual", "faint", "0 to 255", "negative"],
)
def test_what_is_no_image_is_not_taken_for_one(model: nn.Module) -> None:
    assert image_ends(Reference(model, photos()), spec_for("super-resolution")) == {"input"}


def test_arrays_that_were_no_pictures_are_not_taken_for_pixels() -> None:
    arrays = [np.random.default_rng(0).normal(0, 1, (1, 3, *SIZE)).astype(np.float32)]
    assert not image_ends(Reference(Restorer(), arrays), spec_for("restoration"))


@pytest.mark.parametrize("task", ["super-resolution", "restoration"])
def test_a_wrong_task_costs_nothing(task: Task, tmp_path: Path) -> None:
    found = compressed(Restorer(residual=True), task)
    plain = compressed(Restorer(residual=True), "unknown")
    assert plain.report.quality.snr_db > 25
    assert found.report.quality.snr_db > plain.report.quality.snr_db - 1
    save_artifact(found, tmp_path / "a.safetensors")
    # What was measured is a part of the file.
    x = torch.rand(1, 3, *SIZE)
    again = load_artifact(tmp_path / "a.safetensors")
    torch.testing.assert_close(again(x), found(x), rtol=0, atol=0)
