"""A network that gives NaN on one image says on which, by file or by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import waveedge
from waveedge.errors import InputError


class Root(nn.Module):
    """A root, of what is negative on dark images alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv((x.mean((2, 3), keepdim=True) - 0.2).sqrt() * x)
        return y


def _pictures() -> np.ndarray:
    pictures = np.random.default_rng(0).integers(128, 255, (9, 16, 16, 3)).astype(np.uint8)
    pictures[5] //= 8
    return pictures


def test_a_file_is_named(tmp_path: Path) -> None:
    for index, picture in enumerate(_pictures()):
        Image.fromarray(picture).save(tmp_path / f"street{index}.png")
    with pytest.raises(InputError, match=r"NaN or infinite values on .*street5\.png"):
        waveedge.compress(Root().eval(), tmp_path, input_size=(16, 16))


def test_an_array_is_named_by_its_number() -> None:
    images = _pictures().transpose(0, 3, 1, 2).astype(np.float32) / 255
    with pytest.raises(InputError, match=r"values on item 5, first"):
        waveedge.compress(Root().eval(), list(images))
    with pytest.raises(InputError, match=r"values on item 0, image 5, first"):
        waveedge.compress(Root().eval(), images)
