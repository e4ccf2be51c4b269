"""With biases on the accumulator's grid, torch and both encodings agree to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

import waveedge
from waveedge.calibration import open_images
from waveedge.compression.biases import round_biases
from waveedge.compression.compress import Compressed, compress
from waveedge.runtime import Session

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
SIZE = (32, 32)


@pytest.fixture(scope="module", params=[8, 4])
def small(request: pytest.FixtureRequest) -> Compressed:
    model = waveedge.load(GOLDEN / "wavemix_sisr_l1.pth")
    images = open_images(None, spec=model.spec, size=SIZE, limit=4, held_out=2)
    return compress(model, images=images, bits=request.param)


@pytest.mark.parametrize("target", ["ort", "trt"])
def test_the_runtime_computes_what_torch_computes(
    small: Compressed, tmp_path: Path, target: Literal["ort", "trt"]
) -> None:
    x = np.random.default_rng(0).random((1, 3, *SIZE), np.float32)
    bundle = waveedge.export(small, tmp_path / "a", target=target)
    found = Session(bundle.path).run(x)
    expected = small(torch.from_numpy(x)).numpy()
    # A GELU differs in its last bit, and may move a value to the next step of the grid.
    assert (found == expected).mean() > 0.99


def test_rounding_twice_changes_nothing(small: Compressed) -> None:
    before = {name: tensor.clone() for name, tensor in small.graph.state_dict().items()}
    round_biases(small.graph)
    after = small.graph.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
