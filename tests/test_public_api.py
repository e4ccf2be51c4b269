"""The public face: names that users rely on, and the four verbs in Python."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import waveedge
from waveedge.export.verb import export

GOLDEN = Path(__file__).parent / "data" / "golden"


def test_public_names_are_pinned() -> None:
    assert waveedge.__all__ == [
        "ArtifactError",
        "Bundle",
        "CheckpointError",
        "Comparison",
        "Compressed",
        "ExportError",
        "ImageError",
        "ImageSet",
        "InputError",
        "MissingDependencyError",
        "ModelSpec",
        "OutputError",
        "Preprocessing",
        "Recipe",
        "RecipeError",
        "Session",
        "VerificationError",
        "WaveedgeError",
        "__version__",
        "benchmark",
        "compress",
        "export",
        "inspect",
        "load",
        "load_artifact",
        "open_images",
        "save_artifact",
        "save_checkpoint",
        "tune",
    ]
    for name in waveedge.__all__:
        assert getattr(waveedge, name) is not None


def test_importing_waveedge_is_light() -> None:
    code = "import sys, waveedge; sys.exit(any(m in sys.modules for m in ('torch', 'onnx')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_verbs_in_python(tmp_path: Path) -> None:
    model = waveedge.load(GOLDEN / "wavemix_seg_l2.pth")
    images = waveedge.open_images(None, spec=model.spec, size=(32, 32), limit=4, held_out=2)
    small = waveedge.compress(model, images, bits=8)
    waveedge.save_artifact(small, tmp_path / "a.safetensors")
    loaded = waveedge.load(tmp_path / "a.safetensors")
    bundle = waveedge.export(loaded, tmp_path / "a.ort", target="ort", images=images)
    comparison = waveedge.benchmark(bundle.path, runs=3, warmup=1, memory=False)
    assert comparison.cpu_ratio.low <= comparison.cpu_ratio.value <= comparison.cpu_ratio.high

    x = images.held_out[0]
    onnx = waveedge.Session(bundle.path).run(x)
    with torch.no_grad():
        exact = model(torch.from_numpy(x)).numpy()
    assert isinstance(onnx, np.ndarray)
    error = np.square(onnx - exact).sum() / np.square(exact).sum()
    assert error < 0.1


def _examples(text: str, fence: str) -> str:
    """The indented blocks after ``::`` of a docstring, or the fenced ones of a page."""
    return "\n".join(textwrap.dedent(block) for block in re.findall(fence, text))


def test_the_examples_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.load(GOLDEN / "wavemix_sisr_l1.pth", weights_only=True)
    one_block = {key: value for key, value in state.items() if not key.startswith("layers.1.")}
    torch.save(one_block, tmp_path / "published.pt")
    model = waveedge.load(tmp_path / "published.pt", settings={"input_size": "16x16"})
    waveedge.save_checkpoint(model, tmp_path / "model.pt")
    monkeypatch.chdir(tmp_path)
    # The examples with few bits tune, for 200 steps (compression/test_tuning.py); 12 do here.
    for bound in ("_LEAST_STEPS", "_MOST_STEPS"):
        monkeypatch.setattr(f"waveedge.compression.recipe.{bound}", 12)
    names = {"waveedge": waveedge, "torch": torch}
    for described in (waveedge, waveedge.load, waveedge.inspect, waveedge.compress, export):
        example = _examples(described.__doc__ or "", r"::\n\n((?: +.*\n)+)")
        assert "waveedge." in example, described
        exec(compile(example, f"the example of {described.__name__}", "exec"), names)


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
    example = _examples(page, r"```python\n([\s\S]*?)```")
    exec(compile(example, "docs/python.md", "exec"), {"__name__": "docs"})
    assert waveedge.load("small.safetensors").recipe.bits == 8
    assert waveedge.Session("out").input_shape == (1, 3, 16, 16)
