"""Artifacts that somebody changed: refused in one line, whether or not the hashes fit."""

from __future__ import annotations

import json
import math
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import waveedge
from waveedge.artifact import is_artifact, load_artifact
from waveedge.errors import ArtifactError, WaveedgeError

from .conftest import Edit, Fields, edited, read, write


def refused(path: Path, says: str = ".") -> None:
    """Loading and inspecting refuse the file in one short line, soon."""
    start = time.process_time()
    with pytest.raises(ArtifactError, match=says) as caught:
        load_artifact(path)
    assert "\n" not in caught.value.what
    assert len(caught.value.what) < 600 + len(str(path))
    assert "waveedge compress" in caught.value.hint
    with pytest.raises(WaveedgeError):  # what inspect does
        waveedge.load(path)
    assert time.process_time() - start < 5


def at(*keys: str | int, value: object) -> Edit:
    """Set one value in the metadata."""

    def edit(fields: Fields, _tensors: dict[str, Tensor]) -> None:
        place: Any = fields
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return edit


def node(which: str, **changes: object) -> Edit:
    """Change a node of the graph."""

    def edit(fields: Fields, _tensors: dict[str, Tensor]) -> None:
        found = next(item for item in fields["graph"]["nodes"] if item["name"] == which)
        found.update(changes)

    return edit


def tensor(name: str, change: Callable[[Tensor], Tensor]) -> Edit:
    """Change a tensor, and what the metadata say of its type and shape."""

    def edit(fields: Fields, tensors: dict[str, Tensor]) -> None:
        tensors[name] = change(tensors[name]).contiguous()
        record = fields["tensors"][name]
        record["shape"] = list(tensors[name].shape)
        record["dtype"] = str(tensors[name].dtype).removeprefix("torch.")

    return edit


def scales(value: float) -> Edit:
    """Set every scale."""

    def edit(_fields: Fields, tensors: dict[str, Tensor]) -> None:
        for name, scale in tensors.items():
            if name.endswith(".scale"):
                scale.fill_(value)

    return edit


def renamed(old: str, new: str) -> Edit:
    """Give a layer another name, wherever it stands."""

    def edit(fields: Fields, tensors: dict[str, Tensor]) -> None:
        layers, nodes = fields["graph"]["layers"], fields["graph"]["nodes"]
        layers[new] = layers.pop(old)
        for item in nodes:
            item["target"] = new if item["target"] == old else item["target"]
        for table in (fields["tensors"], tensors):
            for name in [name for name in table if name.startswith(f"{old}.")]:
                table[new + name[len(old) :]] = table.pop(name)

    return edit


def nested(depth: int) -> list[Any]:
    """A list of lists, that deep."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


EDITS: dict[str, Edit] = {
    "all weights negated": tensor("head.weight", torch.neg),
    "integers in the place of weights": tensor(
        "head.weight", lambda weight: torch.full(weight.shape, 10**9, dtype=torch.int32)
    ),
    "more bits than the grid has": tensor("head.weight", lambda w: torch.full_like(w, -128)),
    "scales that are no number": scales(math.nan),
    "infinite scales": scales(math.inf),
    "scales of zero": scales(0.0),
    "negative scales": scales(-1.0),
    "an infinite bias": tensor("stem.bias", lambda bias: bias / 0),
    "a tensor of another shape": tensor("stem.bias", lambda bias: bias[:3]),
    "a parameter of integers": tensor("gain", lambda gain: gain.to(torch.int8)),
    "a tensor less": lambda _fields, tensors: tensors.pop("stem.bias"),
    "a tensor more": lambda _fields, tensors: tensors.update(extra=torch.zeros(1)),
    "a tensor more, recorded": lambda fields, tensors: (
        tensors.update(extra=torch.zeros(1)),
        fields["tensors"].update(extra=dict(fields["tensors"]["gain"], shape=[1])),
    ),
    "a parameter that is a buffer": at("tensors", "stem.bias", "role", value="buffer"),
    "a field that there is not": at("unsigned", value=["nope"]),
    "a field less": lambda fields, _tensors: fields.pop("recipe"),
    "a number as text": at("input_size", value=["16", "16"]),
    "a decision about no layer": at("decisions", 0, "name", value=""),
    "a decision of very many levels": at("decisions", 0, "levels", value=10**6),
    "a decision on a huge map": at("decisions", 0, "map_size", value=[2**40, 2**40]),
    "a size that is multiples of 0": at("spec", "size_multiple", value=0),
    "a size that is multiples of -2": at("spec", "size_multiple", value=-2),
    "a deviation that divides by almost nothing": at(
        "spec", "preprocessing", "std", value=[1e-320]
    ),
    "a huge image": at("input_size", value=[2**40, 16]),
    "no channels": at("spec", "channels", value=0),
    "a family with another's configuration": at("spec", "family", value="wtconvnext"),
    "bits that are none": at("recipe", "bits", value=1),
    "a very long name": at("source_name", value="x" * 10**6),
    "a source named from the root": at("source_name", value="%2Fetc%2Fpasswd"),
    "a ratio that is no number": at("report", "layers", 0, "ratio", value="NaN"),
    "a quality that is no number": at("report", "quality", "snr_db", value="NaN"),
    "operations below zero": at("report", "macs_before", value=-1),
    "a convolution of 10**9 channels": at(
        "graph", "layers", "stem", "arguments", "in_channels", value=10**9
    ),
    "a convolution that overflows": at(
        "graph", "layers", "stem", "arguments", "kernel_size", value={"tuple": [2**62, 2**62]}
    ),
    "a convolution of text": at(
        "graph", "layers", "stem", "arguments", "in_channels", value="three"
    ),
    "a transform of very many levels": at(
        "graph", "layers", "mix", "arguments", "levels", value=10**6
    ),
    "a wavelet that there is not": at(
        "graph", "layers", "mix", "arguments", "wavelet", value="../db1"
    ),
    "other bits than the tensors have": at(
        "graph", "layers", "head", "arguments", "weight_bits", value=4
    ),
    "a layer of another kind": at("graph", "layers", "act", "kind", value="ReLU"),
    "a layer of no kind": at("graph", "layers", "act", "kind", value="os.system"),
    "an argument that there is not": at(
        "graph", "layers", "act", "arguments", "device", value="cuda"
    ),
    "a layer that nothing calls": at(
        "graph", "layers", "idle", value={"kind": "ReLU", "arguments": {}}
    ),
    "a layer less": lambda fields, _tensors: fields["graph"]["layers"].pop("act"),
    "a node less": lambda fields, _tensors: fields["graph"]["nodes"].pop(3),
    "no output": lambda fields, _tensors: fields["graph"]["nodes"].pop(),
    "no nodes": at("graph", "nodes", value=[]),
    "two nodes of one name": node("act", name="stem"),
    "a node that reads a later one": node("act", args=[{"node": "head"}]),
    "a node that reads itself": node("act", args=[{"node": "act"}]),
    "a node that is called as code": node("act", name="a = __import__('os').abort()"),
    "a keyword of code": node("cat", kwargs={"dim=1);__import__('os').abort(": 1}),
    "an input that is code": node("x", target="x=__import__('os').abort()"),
    "a layer that is called as code": renamed("act", 'a");__import__("os").abort();("'),
    "a layer in the place of a method": renamed("act", "forward"),
    "a class that is code": at("graph", "name", value="a: __import__('os').abort()"),
    "a function of the system": node("cat", target="os.system"),
    "a built-in function": node("cat", target="eval"),
    "an operator that reads a file": node("cat", target="aten.from_file.default"),
    "an operator that changes its input": node("cat", target="aten.add_.Tensor"),
    "a random operator": node("cat", target="aten.rand_like.default"),
    "a method of Python's": node("mean", target="__reduce_ex__"),
    "a method that runs code": node("mean", target="apply_"),
    "an attribute of Python's": node(
        "mean", op="call_function", target="getattr", args=[{"node": "act"}, "__class__"], kwargs={}
    ),
    "a tensor that is none": node("gain", target="stem.in_channels"),
    "arguments nested deeply": node("cat", args=nested(60)),
    "arguments nested very deeply": node("cat", args=nested(900)),
    "an argument of very many digits": node("cat", args=[10**4000]),
    "an argument of no kind": node("cat", args=[{"code": "os.abort()"}]),
    "an argument on another device": node("cat", args=[{"device": "cuda"}]),
}


# With hashes that fit, negated weights are just another network.
@pytest.mark.parametrize("name", sorted(EDITS.keys() - {"all weights negated"}))
def test_an_edit_whose_hashes_fit_is_refused(
    own_artifact: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "abort", lambda: pytest.fail("code of the file ran"))
    refused(edited(own_artifact, tmp_path / "a.safetensors", EDITS[name], signed=True))


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_whose_hashes_do_not_fit_is_damage(
    own_artifact: Path, tmp_path: Path, name: str
) -> None:
    refused(edited(own_artifact, tmp_path / "a.safetensors", EDITS[name], signed=False), "damaged")


def test_every_field_is_under_the_hash(own_artifact: Path, tmp_path: Path) -> None:
    fields, tensors = read(own_artifact)
    for field in fields:
        changed = {**fields, field: 7}
        write(tmp_path / "a.safetensors", changed, tensors)
        refused(tmp_path / "a.safetensors", "recorded hash|artifact format 7")


def test_a_bit_of_a_tensor_names_the_tensor(own_artifact: Path, tmp_path: Path) -> None:
    content = bytearray(own_artifact.read_bytes())
    content[-1] ^= 1
    (tmp_path / "a.safetensors").write_bytes(content)
    refused(tmp_path / "a.safetensors", r"tensor [\w.]+ differs from its recorded hash")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "damaged"),
        ('{"format":' * 100_000, "damaged"),
        ('{"format":' + "9" * 5000 + "}", "damaged"),
        ('{"format":2,"format":2}', "damaged"),
        ('{"format":NaN}', "artifact format nan"),
        ("[]", "no JSON object"),
        ("", "damaged"),
        ('{"format":2}', "recorded hash"),
    ],
)
def test_metadata_of_another_kind(own_artifact: Path, tmp_path: Path, text: str, says: str) -> None:
    write(tmp_path / "a.safetensors", text, read(own_artifact)[1])
    refused(tmp_path / "a.safetensors", says)


def test_a_second_value_under_a_key_is_refused(own_artifact: Path, tmp_path: Path) -> None:
    fields, tensors = read(own_artifact)
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    write(tmp_path / "a.safetensors", text.replace("{", '{"version":"9",', 1), tensors)
    refused(tmp_path / "a.safetensors", "not what waveedge writes")


@pytest.mark.parametrize("length", [2**25 + 1, 5 << 30, 2**62])
def test_a_header_of_any_length_is_not_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", length) + b"{")
        file.truncate(min(length, 6 << 30))  # sparse: takes no room
    with pytest.raises(ArtifactError, match=f"header should have {length} bytes"):
        load_artifact(path)
    assert not is_artifact(path)


def test_a_pipe_is_no_artifact(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(ArtifactError, match="not a regular file"):
        load_artifact(tmp_path / "a.safetensors")
    assert not is_artifact(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "waveedge compress MODEL"),
        (
            {
                "recipe": {"bits": 4, "wcc_ratio": 0.5, "skip": ["a *"]},
                "source_name": "my model.pt",
                "input_size": [32, 48],
                "spec": {"arch": "net:make"},
            },
            "waveedge compress 'my model.pt' --bits 4 --weight-bits 8 --wcc-ratio 0.5 "
            "--wcc-levels 3 --seed 0 --skip 'a *' --input-size 32x48 --arch net:make",
        ),
        (
            {
                "recipe": {"layers": {"a": {"bits": 4}}},
                "source_name": "m.pt",
                "input_size": [32, 32],
                "spec": {"arch": None},
            },
            "waveedge compress m.pt --bits 8 --weight-bits 8 --wcc-ratio 1 --wcc-levels 3 "
            "--seed 0 --input-size 32x32 --recipe FILE",
        ),
        ({"recipe": [], "source_name": 3}, "waveedge compress MODEL"),
    ],
)
def test_format_1_is_refused_with_the_line_that_makes_it_again(
    tmp_path: Path, fields: Fields, line: str
) -> None:
    write(tmp_path / "a.safetensors", json.dumps({"format": 1, **fields}), {"a": torch.zeros(1)})
    with pytest.raises(ArtifactError, match="format 1") as caught:
        load_artifact(tmp_path / "a.safetensors")
    assert caught.value.hint == f"Make it again with: {line}"
