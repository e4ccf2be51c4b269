"""With biases on the accumulator's grid, torch and both encodings agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import waveedge
from waveedge.calibration import open_images
from waveedge.compression.biases import round_biases
from waveedge.compression.compress import Compressed, compress
from waveedge.export.lowering import lower
from waveedge.export.torch_to_onnx import to_onnx

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
SIZE = (32, 32)


@pytest.fixture(scope="module", params=[8, 4])
def small(request: pytest.FixtureRequest) -> Compressed:
    model = waveedge.load(GOLDEN / "wavemix_sisr_l1.pth")
    images = open_images(None, spec=model.spec, size=SIZE, limit=4, held_out=2)
    return compress(model, images=images, bits=request.param, tune=2)


def test_the_runtime_computes_what_torch_computes(small: Compressed) -> None:
    x = np.random.default_rng(0).random((1, 3, *SIZE), np.float32)
    expected = small(torch.from_numpy(x)).numpy()
    traced = to_onnx(small.graph, (3, *SIZE))
    for target in ("ort", "trt"):
        graph, options = lower(traced, target).shipped, onnxruntime.SessionOptions()
        if target == "trt":  # as written: a processor without VNNI cuts off sums of int8
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
        found = session.run(None, {"input": x})
        # A GELU differs in its last bit, and may move a value to the next step of the grid. What
        # stands for a zero point where there is none is added in floats, to all of them.
        last_bits = 0.0 if target == "ort" else 4e-7 * np.abs(expected).max()
        assert (np.abs(found[0] - expected) <= last_bits).mean() > 0.99, target


def test_rounding_twice_changes_nothing(small: Compressed) -> None:
    before = {name: tensor.clone() for name, tensor in small.graph.state_dict().items()}
    round_biases(small.graph)
    after = small.graph.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
