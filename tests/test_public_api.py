"""The public face: names that users rely on, and the four verbs in Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import waveedge

GOLDEN = Path(__file__).parent / "data" / "golden"


def test_public_names_are_pinned() -> None:
    assert waveedge.__all__ == [
        "ModelSpec",
        "Preprocessing",
        "Recipe",
        "Session",
        "__version__",
        "benchmark",
        "compress",
        "export",
        "load",
        "load_artifact",
        "save_artifact",
    ]
    for name in waveedge.__all__:
        assert getattr(waveedge, name) is not None


def test_importing_waveedge_is_light() -> None:
    code = "import sys, waveedge; sys.exit(any(m in sys.modules for m in ('torch', 'onnx')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_four_verbs_in_python(tmp_path: Path) -> None:
    from waveedge.calibration import open_images

    model = waveedge.load(GOLDEN / "wavemix_seg_l2.pth")
    images = open_images(None, spec=model.spec, size=(32, 32), limit=4, held_out=2)
    small = waveedge.compress(model, images=images, bits=8)
    waveedge.save_artifact(small, tmp_path / "a.safetensors")
    loaded = waveedge.load_artifact(tmp_path / "a.safetensors")
    bundle = waveedge.export(
        loaded.graph,
        tmp_path / "a.ort",
        target="ort",
        input_size=(32, 32),
        images=images.held_out,
        published=model,
    )
    comparison = waveedge.benchmark(bundle.path, runs=3, warmup=1, memory=False)
    assert comparison.cpu_ratio.low <= comparison.cpu_ratio.value <= comparison.cpu_ratio.high

    x = images.held_out[0]
    onnx = waveedge.Session(bundle.path).run(x)
    with torch.no_grad():
        exact = model(torch.from_numpy(x)).numpy()
    assert isinstance(onnx, np.ndarray)
    error = np.square(onnx - exact).sum() / np.square(exact).sum()
    assert error < 0.1
