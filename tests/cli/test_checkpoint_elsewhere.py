"""The checkpoint lies in another folder than the one that people work in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from waveedge.cli import main
from waveedge.models import custom_network
from waveedge.models.source import find_source, relative_name, source_sha256

from .conftest import EXAMPLES

PHOTOS = EXAMPLES / "super_resolution" / "test"


def waveedge(*arguments: str) -> int | str | None:
    """Run the command line in this process; return its exit status."""
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    return done.value.code


NETWORK = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
"""


def test_an_artifact_finds_its_checkpoint_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, weights = tmp_path / "work", tmp_path / "weights"
    work.mkdir()
    weights.mkdir()
    (work / "net_elsewhere.py").write_text(NETWORK)
    monkeypatch.chdir(work)
    arch = ("--arch", "net_elsewhere:make")
    torch.save(custom_network(arch[1]).state_dict(), weights / "model.pt")
    size = ("--input-size", "16x16")
    bits = ("--bits", "32", "--calib", str(PHOTOS))
    assert waveedge("compress", "../weights/model.pt", *arch, *size, *bits) == 0
    (artifact,) = work.glob("*.safetensors")
    with safe_open(artifact, framework="pt") as file:
        metadata = file.metadata()["waveedge.artifact"]
    name = json.loads(metadata)["source_name"]
    assert name == "../weights/model.pt"
    assert str(tmp_path) not in metadata

    assert waveedge("export", *arch, "--out", "b.ort") == 0
    assert json.loads(Path("b.ort/manifest.json").read_text())["baseline"] == "published.onnx"


def test_a_checkpoint_is_found_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    (there / "model.pt").write_bytes(b"weights")
    digest = source_sha256((there / "model.pt",))
    name = relative_name(there / "model.pt", here)
    assert find_source(name, digest, (here,)) == here / "../there/model.pt"
    assert find_source(name, digest, (there,)) == there / "../there/model.pt"
    assert find_source(name, "0" * 64, (here,)) is None
    assert find_source(name, "", (here,)) is None
    # An artifact may say anything: no absolute path is followed, no pipe is opened.
    assert find_source(str(there / "model.pt"), digest, (here,)) is None
    os.mkfifo(here / "pipe")
    assert find_source("pipe", digest, (here,)) is None
    (there / "model.pt").rename(here / "model.pt")
    assert find_source(name, digest, (there, here)) == here / "model.pt"
    # A checkpoint in several files is found by its folder.
    index = here / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model.pt"}}')
    digest = source_sha256((index, here / "model.pt"))
    assert find_source("../here", digest, (there,)) == there / "../here"
