"""Cost profiles: measured by one verb, obeyed by the others, and refused where they are no such."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import waveedge
from waveedge.compression.costs import CPU
from waveedge.export.fit_cost import fit_cost

from .conftest import GOLDEN
from .inside import run_inside

MODEL = GOLDEN / "wavemix_sisr_l1.pth"
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_fitted_profile_is_of_the_order_of_the_shipped_one() -> None:
    fitted = fit_cost("here", rounds=5)
    assert CPU.element / 20 < fitted.element < CPU.element * 20
    assert CPU.node / 50 < fitted.node < CPU.node * 50
    assert fitted.shuffle > fitted.element


def test_a_profile_is_written_once_and_obeyed(tmp_path: Path) -> None:
    written = run_inside(tmp_path, "fit-cost", "--out", "board.yaml")
    assert written.code == 0, written.err
    prices = yaml.safe_load((tmp_path / "board.yaml").read_text())
    assert prices["name"] == "board"
    assert "onnxruntime" in prices["fitted"]
    (tmp_path / "mine.yaml").write_text("mine: 1\n")
    refused = run_inside(tmp_path, "fit-cost", "--out", "mine.yaml")
    assert refused.code == 1
    assert (tmp_path / "mine.yaml").read_text() == "mine: 1\n"
    assert run_inside(tmp_path, "fit-cost", "--out", "board.yaml").code == 0

    prices = yaml.safe_load((tmp_path / "board.yaml").read_text())
    line = ("compress", MODEL, "--cost", "board.yaml", "--input-size", "32x32", "--json")
    done = run_inside(tmp_path, *line)
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["recipe"]["cost"] == prices
    small = waveedge.load_artifact(tmp_path / answer["artifact"])
    assert small.recipe.profile.model_dump() == prices


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (None, 2, "there is no cost profile"),
        ("node: 1\n", 1, "element"),
        ("name: a\nelement: -1\nshuffle: 1\nnode: 1\n", 1, "line 2"),
        ("name: a\nelement: .nan\nshuffle: 1\nnode: 1\n", 1, "element"),
        ("name: a\nelement: 1\nshuffle: 1\nnode: 1\nkernel: 1\n", 1, "line 5"),
    ],
)
def test_what_is_no_profile_is_refused(
    tmp_path: Path, text: str | None, code: int, words: str
) -> None:
    if text is not None:
        (tmp_path / "p.yaml").write_text(text)
    for verb in ("compress", "export"):
        result = run_inside(tmp_path, verb, MODEL, "--cost", "p.yaml", "--input-size", "32x32")
        assert (result.code, words in result.err) == (code, True), result.err


def test_a_recipe_leaves_rewrites_out() -> None:
    model = waveedge.load(MODEL)
    small = waveedge.compress(model, IMAGES, rewrites={"skip": ["haar"]})
    assert any(rule.startswith("batchnorm") for rule in small.report.rewrites)
    assert not any(rule.startswith("haar") for rule in small.report.rewrites)
    with pytest.raises(waveedge.RecipeError, match="haer"):
        waveedge.compress(model, IMAGES, rewrites={"skip": ["haer"]})


def test_the_form_for_a_gpu_has_fewer_layers() -> None:
    """At a size where a border's convolution pays on a CPU and not on a GPU."""
    model = waveedge.load(MODEL)
    cpu, gpu = (
        waveedge.compress(model, torch.rand(2, 3, 64, 64), bits=32, cost=name).graph
        for name in ("cpu", "gpu")
    )
    assert convolutions(gpu) < convolutions(cpu)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(gpu(x), model(x), rtol=0, atol=1e-5)


def convolutions(graph: nn.Module) -> int:
    return sum(isinstance(module, nn.Conv2d) for module in graph.modules())
