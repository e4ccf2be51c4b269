"""Files that are no checkpoints, or are attacks: refused by content, with the cause."""

from __future__ import annotations

import functools
import importlib
import json
import operator
import os
import pickle
import runpy
import subprocess
import sys
import tracemalloc
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

from waveedge.checkpoint import load, save_checkpoint
from waveedge.errors import CheckpointError, InputError


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


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what Python's audit hook sees of lookups by an unpickler, processes and code."""
    monkeypatch.setattr(sys.modules[__name__], "_SEEN", [])
    return _SEEN


_SEEN: list[str] | None = None
_WATCHED = (
    "pickle.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.",
    "socket.",
    "ctypes.",
)


def _watch(event: str, _: object) -> None:
    if _SEEN is not None and event.startswith(_WATCHED):
        _SEEN.append(event)


sys.addaudithook(_watch)  # for good: Python has no way to take it away


def canary() -> None:
    """Leave a file behind in the current folder."""
    Path("executed").touch()


class Rebuilt:
    """Its state is set by code of its own when it is unpickled."""

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}

    def __setstate__(self, state: object) -> None:
        canary()


INNER = Call(canary)

CALLS: dict[str, Any] = {
    "system": Call(os.system, "touch executed"),
    "eval": Call(eval, "open('executed', 'w')"),
    "exec": Call(exec, "open('executed', 'w')"),
    "process": Call(subprocess.Popen, ["touch", "executed"]),
    "a function of a module": INNER,
    "an attribute": Call(getattr, Path, "touch"),
    "an attribute that is called": Call(map, Call(getattr, Path("executed"), "touch"), ()),
    "partial": Call(functools.partial(os.system, "touch executed")),
    "a caller of methods": Call(operator.methodcaller("touch"), Path("executed")),
    "import": Call(importlib.import_module, "antigravity"),
    "a file that is run": Call(runpy.run_path, "attack.py"),
    "open": Call(open, "executed", "w"),
    "torch.load": Call(torch.load, "attack.pt"),
    "torch.hub": Call(torch.hub.load, "owner/name", "model"),
    "a storage from bytes": Call(torch.storage._load_from_bytes, pickle.dumps(INNER)),
    "numpy": Call(np.load, "attack.npy", None, True),
    "a subclass of Tensor": Call(torch._tensor._rebuild_from_type_v2, canary, torch.Tensor, (), {}),
    "a wrapper": Call(torch._utils._rebuild_wrapper_subclass, Rebuilt, 1, 2, 3, 4, 5, 6, 7),
    "a parameter": Call(torch._utils._rebuild_parameter, INNER, True, {}),
    "set state": Rebuilt(),
    "a key": {INNER: 1},
    "a set": {INNER},
    "a tuple": ((INNER,), [INNER]),
    "an array of objects": np.array([INNER], dtype=object),
}


ATTACKS = (
    *("system", "eval", "exec", "process", "partial", "import", "a file that is run", "open"),
    *("torch.load", "torch.hub"),
)
"""Calls that no checkpoint needs: such a file is refused, though it could do nothing."""


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("case", CALLS)
def test_nothing_that_a_file_names_is_looked_up_or_called(
    tmp_path: Path,
    small: nn.Module,
    called: list[str],
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    new: bool,
    protocol: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": small.state_dict(), "x": CALLS[case], "y": CALLS[case]}
    torch.save(content, "a.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    called.clear()
    if case in ATTACKS:
        with pytest.raises(CheckpointError, match="would run code, it calls"):
            load("a.pt")
    else:
        assert torch.equal(load("a.pt").conv[0].weight, small.conv[0].weight)
    assert called == []
    assert not Path("executed").exists()


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


SYSTEM, TOUCH = b"cposix\nsystem\n", text("touch executed")

PROGRAMS = {
    "REDUCE": SYSTEM + TOUCH + b"\x85R.",
    "names on the stack": text("posix") + text("system") + b"\x93" + TOUCH + b"\x85R.",
    "names from the memo": text("posix")
    + b"q\0"
    + text("system")
    + b"q\1h\0h\1\x93"
    + TOUCH
    + b"\x85R.",
    "OBJ": b"(" + SYSTEM + TOUCH + b"o.",
    "INST": b"(" + TOUCH + b"iposix\nsystem\n.",
    "NEWOBJ": SYSTEM + TOUCH + b"\x85\x81.",
    "NEWOBJ_EX": SYSTEM + TOUCH + b"\x85}\x92.",
    "BUILD a function": b"ctorch._utils\n_rebuild_tensor_v2\n}"
    + text("__defaults__")
    + SYSTEM
    + b"\x85sb.",
    "BUILD a class": b"ctorch\nSize\nN}" + text("__len__") + SYSTEM + b"s\x86b.",
    "APPEND to a name": SYSTEM + TOUCH + b"a.",
    "SETITEM of a name": SYSTEM + TOUCH + TOUCH + b"s.",
    "extension": b"\x82\x01.",
    "a persistent name": b"Pposix.system\n.",
    "a persistent call": SYSTEM + TOUCH + b"\x85RQ.",
    "a storage of os": text("storage") + SYSTEM + text("0") + text("cpu") + b"K\1tQ.",
    "nothing on the stack": b"R.",
    "no mark": b"t.",
    "no memo": b"h\7.",
    "a long text": b"X\xff\xff\xff\xffabc.",
    "a longer text": b"\x8d" + b"\xff" * 7 + b"\x7fabc.",
    "a long array": b"\x96" + b"\xff" * 6 + b"\0\0abc.",
    "a long number": b"\x8b\xff\xff\xff\x7f1.",
    "a number of 5000 digits": b"I" + b"9" * 5000 + b"\n.",
    "no end": b"}" * 100,
    "a list that holds itself": b"]q\0h\0a.",
    "a dict that holds itself": b"}q\0" + text("model") + b"h\0s.",
    "5000 dicts": b"".join(text("model") + b"}" for _ in range(5000)).join(
        (b"}", b"s" * 5000 + b".")
    ),
    "100 000 tuples": b")" + b"\x85" * 100_000 + b".",
    "a key of 100 000 tuples": b"})" + b"\x85" * 100_000 + b"Ns.",
    "doubled 60 times": b")" + b"2\x86" * 60 + b".",
    "doubled dicts": b"}"
    + b"".join(b"q\0}" + text("a") + b"h\0s" + text("b") + b"h\0s" for _ in range(60))
    + b".",
}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("case", PROGRAMS)
def test_no_instruction_of_a_pickle_does_harm(
    tmp_path: Path, called: list[str], monkeypatch: pytest.MonkeyPatch, case: str, new: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    program = b"\x80\2" + PROGRAMS[case]
    if new:
        with zipfile.ZipFile("a.pt", "w") as archive:
            archive.writestr("a/data.pkl", program)
            archive.writestr("a/data/0", bytes(4))
    else:
        header = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        parts = [*(pickle.dumps(part, protocol=2) for part in header), program]
        Path("a.pt").write_bytes(b"".join((*parts, pickle.dumps([], protocol=2))))
    with pytest.raises(CheckpointError) as caught:
        load("a.pt")
    assert len(str(caught.value)) < 600
    assert called == []
    assert not Path("executed").exists()
    assert torch._utils._rebuild_tensor_v2.__defaults__ == (None,)


def tensor_program(
    count: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> bytes:
    """Return the pickle of a state dict with one tensor that is described so."""
    numbers = pickle.dumps((offset, shape, stride), protocol=2)[2:-1]
    storage = text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage = b"(" + storage + pickle.dumps(count, protocol=2)[2:-1] + b"tQ"
    # (storage, *numbers, False, None): the numbers are a tuple, which is taken apart by its memo.
    parts = b"".join(pickle.dumps(part, protocol=2)[2:-1] for part in (offset, shape, stride))
    assert numbers
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + parts + b"\x89NtR"
    return b"\x80\2}" + text("w") + call + b"s."


@pytest.mark.parametrize(
    ("count", "offset", "shape", "stride"),
    [
        (4, 0, (5,), (1,)),
        (4, 1, (4,), (1,)),
        (4, 0, (2, 2), (3, 1)),
        (4, -1, (2,), (1,)),
        (4, 0, (-1,), (1,)),
        (4, 0, (2,), (-1,)),
        (4, 0, (2,), (1, 1)),
        (4, 0, (2**63,), (0,)),
        (4, 2**62, (2,), (2**62,)),
        (5, 0, (2,), (1,)),
        (-1, 0, (2,), (1,)),
    ],
)
def test_a_tensor_outside_its_data_is_refused(
    tmp_path: Path, count: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", tensor_program(count, offset, shape, stride))
        archive.writestr("a/data/0", bytes(16))
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path / "a.pt")


def test_the_tensor_of_that_test_is_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", tensor_program(4, 1, (3, 0), (1, 1)))
        archive.writestr("a/data/0", bytes(16))
    with pytest.raises(CheckpointError, match="not a network"):
        load(tmp_path / "a.pt")


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """A small one can hold more than fits into memory."""
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", tensor_program(1 << 20, 0, (1 << 20,), (1,)))
        archive.writestr("a/data/0", bytes(1 << 22))
    with pytest.raises(CheckpointError, match="is compressed"):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize("size", [33 << 20, 90 << 20, 5 << 30])
def test_a_long_header_in_a_sparse_file_is_not_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(size.to_bytes(8, "little") + b"{}")
        file.truncate(size + 1000)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=rf"header has {size >> 20} MiB"):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="is a pipe, not a regular file"):
        load(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path / "nowhere")
    for name in ("loop", "x" * 300, "a\0b"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            load(tmp_path / name)


@pytest.mark.parametrize("name", [b"\xff.pt", b"-x.pt", b"a\nb.pt", b"z:car:b.pt", b"[red].pt"])
def test_any_file_name_will_do(tmp_path: Path, small: nn.Module, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    torch.save(small.state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.pt").rename(path)
    model = load(path)
    json.dumps(model.source_name).encode()
    model.source_name.encode()  # no lone surrogates, which JSON in UTF-8 cannot hold
    assert model.source_path == path.resolve()
    save_checkpoint(small, path, overwrite=True)
    assert torch.equal(load(path).conv[0].weight, small.conv[0].weight)


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


def test_a_flipped_bit_in_an_archive_is_found(tmp_path: Path, small: nn.Module) -> None:
    path = tmp_path / "model.pt"
    torch.save(small.state_dict(), path)
    content = bytearray(path.read_bytes())
    content[content.index(small.conv[0].weight.detach().numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"conv.0.weight is damaged: Bad CRC-32 for file"):
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
