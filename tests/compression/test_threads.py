"""The same checkpoint, images and recipe give the same file, whatever the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import waveedge
from waveedge.artifact import save_artifact
from waveedge.calibration import open_images
from waveedge.calibration.folders import built_in_photos
from waveedge.compression.compress import compress
from waveedge.files import sha256

from ..cli.inside import run_inside

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_threads_of_torch(tmp_path: Path) -> None:
    model = waveedge.load(GOLDEN / "wtconvnext_micro.pth")
    images = open_images(None, spec=model.spec, size=(64, 64), limit=2, held_out=1)
    originals = [image.copy() for image in (*images.calibration, *images.held_out)]
    digests = set()
    for count in (1, 2):
        torch.set_num_threads(count)
        small = compress(model, images=images, bits=8, tune=2)
        assert torch.get_num_threads() == count
        save_artifact(small, tmp_path / "a.safetensors")
        digests.add(sha256(tmp_path / "a.safetensors"))
    assert len(digests) == 1
    # What the user handed in is as it was.
    for image, original in zip((*images.calibration, *images.held_out), originals, strict=True):
        np.testing.assert_array_equal(image, original)


def test_threads_of_the_environment(tmp_path: Path) -> None:
    """One thread in this process, two in another."""
    state = torch.load(GOLDEN / "wavemix_sisr_l1.pth", weights_only=True)
    one_block = {key: value for key, value in state.items() if not key.startswith("layers.1.")}
    torch.save(one_block, tmp_path / "model.pt")
    line = ["compress", "model.pt", "--input-size", "64x64"]
    line += ["--calib", built_in_photos()[0], "--out"]
    assert run_inside(tmp_path, *line, "1.safetensors").code == 0
    subprocess.run(
        [sys.executable, "-m", "waveedge.cli", *line, "2.safetensors"],
        env=os.environ | {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert len({sha256(tmp_path / f"{count}.safetensors") for count in "12"}) == 1
