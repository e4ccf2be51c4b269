"""A small compressed network of the user's own, its artifact, and edits of artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from waveedge.artifact import KEY, _canonical, _digest, save_artifact
from waveedge.calibration import open_images
from waveedge.compression.compress import Compressed, compress
from waveedge.models.build import attach_spec
from waveedge.serialize import tensors as tensor_file
from waveedge.spec import ModelSpec

Fields = dict[str, Any]
Edit = Callable[[Fields, dict[str, Tensor]], object]


class Net(nn.Module):
    """A little of everything that a graph may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.PReLU(4)
        self.mix = nn.Conv2d(4, 4, 1)
        self.gate = nn.Linear(4, 4)
        self.gain = nn.Parameter(torch.tensor([1.5]))
        self.register_buffer("shift", torch.tensor([0.25]), persistent=False)
        self.head = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.stem(x))
        z = F.interpolate(self.mix(y), scale_factor=2.0, mode="nearest")
        gate = torch.sigmoid(self.gate(y.mean(dim=(2, 3)) * self.gain + self.shift))
        z = F.avg_pool2d(z, 2) * gate.reshape(-1, 4, 1, 1)
        out: Tensor = self.head(torch.cat([y, z], dim=1)) + x
        return out


@pytest.fixture(scope="session")
def own_network() -> nn.Module:
    """:class:`Net` with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return attach_spec(Net(), ModelSpec(family="custom", task="restoration"))


@pytest.fixture(scope="session")
def own_compressed(own_network: nn.Module) -> Compressed:
    """:class:`Net` with WCC, and weights of 4 and 8 bits."""
    images = open_images(None, spec=own_network.spec, size=(16, 16), limit=2, held_out=1)
    recipe = {"weight_bits": 4, "wcc_ratio": 0.5, "wcc_levels": 1, "wcc_select": "topk", "tune": 0}
    return compress(own_network, images=images, **recipe)


@pytest.fixture(scope="session")
def own_artifact(own_compressed: Compressed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of :func:`own_compressed`; not to be changed."""
    path = tmp_path_factory.mktemp("artifact") / "own.safetensors"
    save_artifact(own_compressed, path)
    return path


def read(path: Path) -> tuple[Fields, dict[str, Tensor]]:
    """The metadata and the tensors of an artifact."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[KEY]), load_file(path)


def write(path: Path, fields: Fields | str, tensors: dict[str, Tensor]) -> None:
    """Write an artifact of these metadata, fields or plain text, and tensors."""
    text = fields if isinstance(fields, str) else _canonical(fields)
    save_file(tensors, path, metadata={KEY: text})


def sign(fields: Fields, tensors: dict[str, Tensor]) -> None:
    """Put the hashes in that belong to the content: whoever edits a file can compute them."""
    for name, record in fields["tensors"].items():
        if name in tensors:
            record["sha256"] = tensor_file._digest(tensors[name])
    fields.pop("sha256", None)
    fields["sha256"] = _digest(fields)


def edited(source: Path, target: Path, edit: Edit, *, signed: bool) -> Path:
    """Write a copy of an artifact, changed by ``edit``, with or without fitting hashes."""
    fields, tensors = read(source)
    edit(fields, tensors)
    if signed:
        sign(fields, tensors)
    write(target, fields, tensors)
    return target
