"""Thousands of damaged and forged artifacts: each loads or is refused in one line, and soon.

``WAVEEDGE_FUZZ=100000`` tries that many instead of those that every run of the suite tries.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import waveedge
from waveedge.artifact import load_artifact
from waveedge.errors import ArtifactError, InputError

from .conftest import Fields, read, sign, write

CASES = int(os.environ.get("WAVEEDGE_FUZZ", "400"))
SLOWEST = 5.0
"""Seconds of processor time that one case may take."""
KINDS = ("damage", "damage", "forged fields", "forged fields", "forged tensors")
LARGEST = 300 << 10
"""KiB by which the process may grow."""

NUMBERS = [0, -1, 1, 2, 3, 7, 16, 10**4, 10**6, 2**31, 2**63, -(2**63), 10**30]
FLOATS = [0.0, -0.0, 0.5, 1.5, -1.0, 1e-320, 1e308, 1e30]
TEXTS = [
    "", "x", "stem", "stem.weight", "gain", "output", "forward", "__class__", "weight", "zeros",
    "call_function", "call_method", "get_attr", "placeholder", "parameter", "buffer", "float64",
    "Conv2d", "WTConv2d", "MultiheadAttention", "FramePool", "DWT2d", "PublishedWCC", "Embedding",
    "torch.cat", "F.pad", "getattr", "aten.add.Tensor", "aten.view.default", "os.system", "eval",
    "NaN", "Infinity", "../x", "a.b.c", "x" * 5000, "\x1b[31m", "\ud800", "__import__('os')",
    "lambda: 0", "*args", "self", "import", "a=1", 'a"b', "a'b", "a\nb", "a b", "日本",
]  # fmt: skip
VALUES: list[Any] = [
    *NUMBERS, *FLOATS, *TEXTS, None, True, False, [], {}, [[]], [1, 2], [[[[[[]]]]]], {"a": 1},
    {"tuple": [1, 2, 3]}, {"tuple": []}, {"slice": [None, 2**40, None]}, {"node": "x"},
    {"node": "act"}, {"float": "nan"}, {"dtype": "float16"}, {"device": "cpu"}, {"dict": {"a": 1}},
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in the metadata."""
    keys: Any = ()
    if isinstance(value, dict):
        keys = value.keys()
    elif isinstance(value, list):
        keys = range(len(value))
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


def found(value: Any, path: tuple[Any, ...]) -> Any:
    """The value at a path."""
    for key in path:
        value = value[key]
    return value


def forge_fields(fields: Fields, choose: random.Random) -> None:
    """Change the metadata in one place."""
    paths = [path for path in places(fields) if path[0] != "sha256"]
    path = choose.choice(paths)
    holder, key = found(fields, path[:-1]), path[-1]
    kind = choose.choice(("value", "value", "value", "near", "other", "drop", "twice", "rename"))
    if kind == "value":
        holder[key] = copy.deepcopy(choose.choice(VALUES))
    elif kind == "near" and isinstance(holder[key], int | float):
        near = holder[key]
        holder[key] = choose.choice([near + 1, near - 1, -near, near * 2])
    elif kind == "other":
        holder[key] = copy.deepcopy(found(fields, choose.choice(paths)))
    elif kind == "drop":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[choose.choice(TEXTS)] = holder.pop(key)
    elif isinstance(holder, list):
        holder.insert(choose.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    else:
        holder[key] = [holder[key]]


def forge_tensors(fields: Fields, tensors: dict[str, Tensor], choose: random.Random) -> None:
    """Change one tensor, and mostly its record."""
    name = choose.choice(sorted(tensors))
    tensor = tensors[name]
    changes = (
        lambda: torch.zeros_like(tensor),
        lambda: -tensor if tensor.dtype != torch.uint8 else tensor + 1,
        lambda: tensor.reshape(-1)[1:].clone(),
        lambda: tensor.unsqueeze(0),
        lambda: tensor.to(choose.choice([torch.int8, torch.float64, torch.bfloat16, torch.bool])),
        lambda: torch.full(tensor.shape, choose.choice([float("nan"), float("inf"), 1e38, 1e-40])),
        lambda: torch.empty(0),
        lambda: torch.zeros((0, 2**30)),
    )
    tensors[name] = choose.choice(changes)().contiguous()
    if choose.random() < 0.9:
        fields["tensors"][name]["shape"] = list(tensors[name].shape)
        fields["tensors"][name]["dtype"] = str(tensors[name].dtype).removeprefix("torch.")
    if choose.random() < 0.1:
        tensors[choose.choice(("extra", "stem.extra", "forward"))] = tensors.pop(name)


def damage(content: bytes, choose: random.Random) -> bytes:
    """Flip bits, or cut or lengthen a file."""
    changed = bytearray(content)
    kind = choose.random()
    if kind < 0.1:
        del changed[choose.randrange(len(changed)) :]
    elif kind < 0.2:
        changed[choose.randrange(len(changed)) :][:0] = choose.randbytes(choose.choice((1, 8, 99)))
        changed += choose.randbytes(3)
    else:
        header = 8 + int.from_bytes(content[:8], "little")
        end = choose.choice((16, header, len(changed)))
        for _ in range(choose.choice((1, 1, 4, 32))):
            changed[choose.randrange(end)] ^= 1 << choose.randrange(8)
    return bytes(changed)


_FOREIGN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.", "socket.")
_watched: list[str] | None = None


def _watch(event: str, _arguments: tuple[Any, ...]) -> None:
    if _watched is not None and event.startswith(_FOREIGN):
        _watched.append(event)


@pytest.fixture
def watched() -> Iterator[list[str]]:
    """What a file made the process do that reading and computing do not."""
    global _watched
    sys.addaudithook(_watch)  # for good: there is no way to take one away
    _watched = []
    yield _watched
    _watched = None


def test_damage_and_forgery(own_artifact: Path, tmp_path: Path, watched: list[str]) -> None:
    path = tmp_path / "a.safetensors"
    content, (fields, tensors) = own_artifact.read_bytes(), read(own_artifact)
    choose = random.Random(0)
    counts: Counter[str] = Counter()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(CASES):
        kind = choose.choice(KINDS)
        if kind == "damage":
            changed = damage(content, choose)
            if changed == content:
                continue
            path.write_bytes(changed)
        else:
            forged, other = copy.deepcopy(fields), dict(tensors)
            if kind == "forged fields":
                forge_fields(forged, choose)
            else:
                forge_tensors(forged, other, choose)
            try:
                sign(forged, other)
                write(path, forged, other)
            except Exception:  # there is no such file
                counts["not written"] += 1
                continue
        start = time.process_time()
        outcome = _outcome(path, inspect=case % 200 == 0)
        counts[f"{kind}: {outcome}"] += 1
        assert time.process_time() - start < SLOWEST, f"case {case}"
    print(dict(counts))
    assert counts["damage: loaded"] == 0
    assert counts["forged fields: refused"] > CASES / 5
    assert counts["forged tensors: refused"] > CASES / 9
    assert watched == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown < LARGEST


def _outcome(path: Path, *, inspect: bool) -> str:
    refusal = None
    try:
        loaded = load_artifact(path)
    except ArtifactError as error:
        refusal = error
    if refusal:
        assert refusal.what.isprintable()
        assert len(refusal.what) < len(str(path)) + 400
        assert refusal.hint.isprintable()
        return "refused"
    if inspect:  # takes longer than all the rest
        with contextlib.suppress(InputError):  # a forged graph need not run
            waveedge.inspect(loaded)
    return "loaded"
