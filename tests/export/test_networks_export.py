"""Published networks as their families make them export as they are, with a free batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import waveedge
from waveedge.export.torch_to_onnx import to_onnx

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.mark.parametrize(
    "name", ["wavemix_v1_token_mixer", "wavemix_v3_pixelshuffle", "wtconvnext_os8", "wavemixsr_v2"]
)
def test_a_published_network_computes_the_same_for_any_batch(name: str) -> None:
    model = waveedge.load(GOLDEN / f"{name}.pth")
    x = torch.from_numpy(np.load(GOLDEN / f"{name}.npz")["x"])
    _, channels, *size = x.shape
    model_file = ir.to_proto(to_onnx(model, (channels, *size), batch="dynamic"))
    session = onnxruntime.InferenceSession(model_file.SerializeToString())
    for images in (x[:1], torch.cat([x, x.flip(-1), x])):
        (y,) = session.run(None, {"input": images.numpy()})
        with torch.no_grad():
            wanted = model(images).numpy()
        np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5 * max(1.0, np.abs(wanted).max()))
