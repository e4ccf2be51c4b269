"""What the commands say of the images that they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from waveedge.calibration.folders import built_in_photos
from waveedge.commands.images import read_images
from waveedge.spec import ModelSpec

SPEC = ModelSpec(family="custom", input_size=(64, 64))


def test_black_pictures_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(3):
        Image.fromarray(np.full((80, 100, 3), index, np.uint8)).save(tmp_path / f"{index}.png")
    assert read_images(tmp_path, spec=SPEC, size=None).suspicions
    said = " ".join(capsys.readouterr().err.split())
    assert "WARNING: suspicious images: 3 of 3 images are black or of one value" in said


def test_photos_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert read_images(built_in_photos()[0].parent, spec=SPEC, size=None).calibration
    assert "WARNING" not in capsys.readouterr().err
