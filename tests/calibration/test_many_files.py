"""A folder with any number of files: a sample that the seed chose is read, and no more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from waveedge.calibration import open_images
from waveedge.spec import ModelSpec

SPEC = ModelSpec(family="custom", input_size=(32, 32))
DIFFERENT = 64


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 000 files, links to 64 pictures."""
    folder = tmp_path_factory.mktemp("crowd")
    rng = np.random.default_rng(0)
    for index in range(10_000):
        path = folder / f"{index:06d}.png"
        if index < DIFFERENT:
            Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(path)
        else:
            os.link(folder / f"{index % DIFFERENT:06d}.png", path)
    return folder


def test_a_sample_is_read_with_progress(crowd: Path) -> None:
    seen: list[tuple[int, int]] = []
    start = time.process_time()
    images = open_images(crowd, spec=SPEC, progress=lambda *step: seen.append(step))
    assert time.process_time() - start < 5
    # Every picture is met, and then it is given up to look for more.
    assert len(images.calibration) + len(images.held_out) == DIFFERENT
    assert len(seen) < 2000
    assert seen == sorted(seen)
    assert seen[-1] == (DIFFERENT, 80)
    assert images.found == 10_000
    assert f"{len(seen)} of 10000, drawn at random, were read" in images.describe()
    assert "repeat a picture" in images.suspicions[-1]


def test_the_seed_chooses_the_sample(crowd: Path) -> None:
    prints = [
        open_images(crowd, spec=SPEC, limit=8, held_out=4, seed=seed).fingerprint
        for seed in (0, 0, 1)
    ]
    assert prints[0] == prints[1] != prints[2]
    assert len(open_images(crowd, spec=SPEC, limit=8, held_out=4).skipped) < 12


def test_one_picture_among_many_other_files_is_found(tmp_path: Path) -> None:
    for index in range(1500):
        (tmp_path / f"{index}.txt").write_text("a label")
    Image.effect_noise((64, 64), 60).save(tmp_path / "picture.png")
    assert len(open_images(tmp_path, spec=SPEC).calibration) == 1
