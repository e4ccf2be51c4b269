"""Files that are no checkpoints, or are attacks: refused by content, with the cause."""

from __future__ import annotations

import os
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from waveedge.checkpoint import load
from waveedge.errors import CheckpointError


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


STATE = {"conv.0.weight": torch.ones(8, 3, 3, 3)}


def attack(path: Path, kind: str) -> None:
    """Write a checkpoint that leaves a file behind if it is unpickled."""
    trace = f"touch {path.parent}/executed"
    call: Any = Call(os.system, trace)
    if kind == "eval":
        call = Call(eval, f"open({str(path.parent / 'executed')!r}, 'w')")
    content = {"state_dict": STATE, "x": call}
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps(content["x"], protocol=4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != "older format")


@pytest.mark.parametrize("kind", ["zip", "eval", "older format", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, kind: str) -> None:
    attack(tmp_path / "model.pt", kind)
    with pytest.raises(CheckpointError, match=r"would run code, it calls \w+\.(system|eval)"):
        load(tmp_path / "model.pt")
    assert not (tmp_path / "executed").exists()


def test_the_attack_is_one(tmp_path: Path) -> None:
    attack(tmp_path / "model.pt", "zip")
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("new", [True, False])
def test_a_pickled_module_is_refused_with_the_way_out(
    tmp_path: Path, small: nn.Module, new: bool
) -> None:
    path = tmp_path / "model.pt"
    torch.save(small, path, _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match=r"pickle of Python objects \(waveedge") as caught:
        load(path)
    assert "--trust-pickle" in caught.value.hint
    trusted = load(path, trust_pickle=True)
    assert torch.equal(trusted.conv[0].weight, small.conv[0].weight)


def test_a_trusted_pickle_of_missing_code_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("vanished")
    module.Net = type("Net", (nn.Linear,), {"__module__": "vanished"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vanished", module)
    torch.save(module.Net(2, 2), tmp_path / "model.pt")
    monkeypatch.delitem(sys.modules, "vanished")
    with pytest.raises(CheckpointError, match=r"not installed here.*vanished"):
        load(tmp_path / "model.pt", trust_pickle=True)


def write_torch(path: Path) -> bytes:
    torch.save({"conv.0.weight": torch.randn(64, 64)}, path)
    return path.read_bytes()


def write_older(path: Path) -> bytes:
    torch.save({"w": torch.randn(64, 64)}, path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


def write_safetensors(path: Path) -> bytes:
    save_file({"w": torch.randn(64, 64)}, path)
    return path.read_bytes()


@pytest.mark.parametrize("write", [write_torch, write_older, write_safetensors])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_explained(
    tmp_path: Path, write: Callable[[Path], bytes], share: float
) -> None:
    path = tmp_path / "model.pt"
    content = write(path)
    path.write_bytes(content[: max(10, int(len(content) * share))])
    with pytest.raises(CheckpointError, match="damaged or truncated") as caught:
        load(path)
    assert "again" in caught.value.hint


def test_a_flipped_bit_in_an_archive_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    content = bytearray(write_torch(path))
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checksum of .*data/0 is wrong"):
        load(path)


FOREIGN = {
    "web page": (b"<!DOCTYPE html><html>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
    "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "gzip"),
    "ONNX": (b"\x08\x07\x12\x07pytorch" + bytes(100), "ONNX"),
    "text": (b"hello, world, this is a text", "neither torch nor safetensors"),
    "noise": (bytes(range(255, 100, -1)), "neither torch nor safetensors"),
    "long header": ((10**12).to_bytes(8, "little") + b"{" + bytes(50), "damaged or truncated"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_file_of_another_kind_is_named(tmp_path: Path, case: str) -> None:
    content, message = FOREIGN[case]
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(tmp_path / "model.pt")
    assert caught.value.hint


def test_other_archives_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"torch\.save did not write it"):
        load(tmp_path / "arrays.npz")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"")
        archive.writestr("script/data.pkl", b"")
    with pytest.raises(CheckpointError, match="TorchScript"):
        load(tmp_path / "script.pt")


def test_missing_empty_folder_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "empty.pt").touch()
    with pytest.raises(CheckpointError, match=r"is empty \(0 bytes\)"):
        load(tmp_path / "empty.pt")
    (tmp_path / "locked.pt").write_bytes(b"x")
    (tmp_path / "locked.pt").chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(CheckpointError, match="cannot be read"):
            load(tmp_path / "locked.pt")
