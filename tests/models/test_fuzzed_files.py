"""Random damage to checkpoint files ends in a network or in a clear refusal, never in a crash.

Four kinds of damage: bytes, entries of the zip archive, instructions of the pickle in it (with
right checksums, so that they are carried out), and the header of safetensors. The seed is fixed;
``WAVEEDGE_FUZZ=100000`` tries so many of each kind.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import pickletools
import random
import resource
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from waveedge.checkpoint import load, save_checkpoint
from waveedge.errors import WaveedgeError
from waveedge.models import WaveMixConfig, build
from waveedge.models.families import describe

CASES = int(os.environ.get("WAVEEDGE_FUZZ", "210"))

Damage = Callable[[random.Random, bytes], bytes]


def tiny() -> nn.Module:
    config = WaveMixConfig(
        depth=1, dim=4, ff_channels=4, num_classes=3, stem="strided", stride=1, head="expand",
        head_widths=(2,),
    )  # fmt: skip
    return build(describe(config))


def content(kind: str) -> bytes:
    """Return a good checkpoint, with objects beside the weights."""
    torch.manual_seed(0)
    file = io.BytesIO()
    if kind == "safetensors":
        path = Path(f"good.{kind}")
        save_checkpoint(tiny(), path)
        return path.read_bytes()
    objects = {"path": Path("a"), "kinds": {1, 2}, "rate": 0.1, "device": torch.device("cpu")}
    state = {"state_dict": tiny().state_dict(), "hyper_parameters": objects}
    torch.save(state, file, _use_new_zipfile_serialization=kind == "zip")
    return file.getvalue()


def flip_bytes(choose: random.Random, good: bytes) -> bytes:
    changed = bytearray(good)
    for _ in range(choose.choice((1, 4, 16))):
        # Names and shapes are in the first bytes, weights in the others.
        end = min(choose.choice((200, 5000, len(changed))), len(changed))
        changed[choose.randrange(end)] = choose.randrange(256)
    if choose.random() < 0.2:
        del changed[choose.randrange(10, len(changed)) :]
    return bytes(changed)


def rewritten(good: bytes, change: Callable[[list[tuple[str, bytes]]], None]) -> bytes:
    """Return a zip archive with changed entries and right checksums."""
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    change(entries)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def change_entries(choose: random.Random, good: bytes) -> bytes:
    def change(entries: list[tuple[str, bytes]]) -> None:
        index = choose.randrange(len(entries))
        name, data = entries[index]
        other, other_data = choose.choice(entries)
        entries[index] = choose.choice(
            (
                (name, data[: choose.randrange(len(data) + 1)]),
                (name, data + bytes(choose.randrange(1, 9))),
                (name, other_data),
                (other.replace("/", "//") + "x", data),
                (name.upper(), data),
                (name, bytes(choose.randrange(256) for _ in data[:4096])),
            )
        )
        if choose.random() < 0.2:
            del entries[choose.randrange(len(entries))]

    return rewritten(good, change)


EXTREMES = (0, 1, -1, 2, 255, 2**31 - 1, -(2**31), 2**32, 2**62, 2**63, 2**200)
INSTRUCTIONS = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
NAMES = (b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nSize\n", b"ccollections\nOrderedDict\n")
STORES = (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_tensor_v3\n")


def change_program(choose: random.Random, good: bytes) -> bytes:
    """Exchange, remove, repeat and invent instructions of a pickle."""
    positions = [position for _, _, position in pickletools.genops(good)] + [len(good)]
    parts = [good[start:end] for start, end in itertools.pairwise(positions)]
    for _ in range(choose.choice((1, 1, 2, 8))):
        index, other = choose.randrange(1, len(parts)), choose.randrange(1, len(parts))
        action = choose.randrange(7)
        if action == 0:
            del parts[index]
        elif action == 1:
            parts[index], parts[other] = parts[other], parts[index]
        elif action == 2:
            parts.insert(index, parts[other])
        elif action == 3:
            parts[index] = pickle.dumps(choose.choice(EXTREMES), protocol=2)[2:-1]
        elif action == 4:
            parts.insert(index, choose.choice((*NAMES, *STORES)))
        elif action == 5:
            touch = b"X\x0e\0\0\0touch executed"
            parts.insert(index, choose.choice(NAMES) + touch + b"\x85R")
        else:
            parts[index] = choose.choice(INSTRUCTIONS) + parts[index][1:]
    return b"".join(parts)


def change_pickle(choose: random.Random, good: bytes) -> bytes:
    def change(entries: list[tuple[str, bytes]]) -> None:
        index = next(i for i, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
        name, data = entries[index]
        entries[index] = (name, change_program(choose, data))

    return rewritten(good, change)


def change_header(choose: random.Random, good: bytes) -> bytes:
    length = int.from_bytes(good[:8], "little")
    header: dict[str, Any] = json.loads(good[8 : 8 + length])
    entry = header[choose.choice(list(header))]
    values = (None, [], {}, "F64", "F16", "I8", "BOOL", "x" * 5000, *EXTREMES)
    action = choose.randrange(4)
    if action == 0 and isinstance(entry, dict):
        entry[choose.choice(list(entry))] = choose.choice(values)
    elif action == 1 and "shape" in entry:
        entry["shape"] = [choose.choice((*EXTREMES, *entry["shape"])) for _ in range(4)]
    elif action == 2 and "data_offsets" in entry:
        entry["data_offsets"] = [choose.choice((*EXTREMES, *entry["data_offsets"])) for _ in "ab"]
    else:
        spec = json.loads(header["__metadata__"]["waveedge.spec"])
        place = choose.choice((spec, spec["config"], spec["preprocessing"]))
        place[choose.choice(list(place))] = choose.choice((*values, 3, 8, 10**6))
        header["__metadata__"]["waveedge.spec"] = json.dumps(spec)
    text = json.dumps(header).encode()
    claimed = choose.choice((len(text),) * 9 + (choose.choice(EXTREMES) % 2**64,))
    return claimed.to_bytes(8, "little") + text + good[8 + length :]


KINDS: dict[str, tuple[str, Damage, float]] = {
    "bytes of a zip archive": ("zip", flip_bytes, 0.5),
    "bytes of the older format": ("older format", flip_bytes, 0.5),
    "bytes of safetensors": ("safetensors", flip_bytes, 0.5),
    "entries": ("zip", change_entries, 0.2),
    "instructions": ("zip", change_pickle, 0.5),
    "headers": ("safetensors", change_header, 0.3),
}
"""The good file, its damage, and the least share of cases in which it must be noticed."""


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_or_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written, damage, share = KINDS[kind]
    good, choose = content(written), random.Random(kind)
    refused: list[WaveedgeError] = []
    damaged = Path("damaged.pt")
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    before = memory()
    for case in range(CASES):
        damaged.write_bytes(damage(choose, good))
        try:
            network = load(damaged)
        except WaveedgeError as error:
            refused.append(error)
        except BaseException as error:
            raise AssertionError(f"case {case}: {type(error).__name__}: {error}") from error
        else:
            assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
    assert len(refused) > share * CASES
    assert all(error.what and error.hint and len(str(error)) < 2000 for error in refused)
    assert memory() - before < 100 << 20
    assert not Path("executed").exists()
    assert not unraisable


def memory() -> int:
    """Return the most bytes that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
