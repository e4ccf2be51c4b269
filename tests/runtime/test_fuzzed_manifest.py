"""Seeded damage to bundles: each is opened unchanged, or refused by one short message.

``WAVEEDGE_FUZZ=50000`` runs a longer campaign, and ``-s`` prints its counts. A failure names its
kind and number, which make the same damage again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from waveedge.errors import WaveedgeError
from waveedge.runtime import Bundle, open_bundle
from waveedge.runtime.bits import bits_of
from waveedge.runtime.manifest import MANIFEST, SCHEMA

CASES = int(os.environ.get("WAVEEDGE_FUZZ", "1000"))
LONGEST = 500
"""Characters of a message, without the paths of this test's folder in it."""

Files = dict[str, bytes]
HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 33, 2**31, 2**63, 10**19, 10**20, 10**400),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
    *("", "x", "x" * 10**5, "\x00", "\x1b[31m", "a\nb", "\ud800", "🚗" * 300, "$x$"),
    *("../model.onnx", "/etc/passwd", ".", "..", "model.onnx\x00", "absent.onnx", "w32a32"),
    *("model.onnx", "0" * 64, "waveedge-bundle/1", [], [[]], [None], {}, {"": {}}, {"a": [1]}),
    *(["x"] * 50, [0] * 20_000, {"k" * 10**4: 0}, {str(i): i for i in range(2000)}),
]
FILES: list[Callable[[Path], object]] = [
    Path.mkdir,
    os.mkfifo,
    lambda path: path.symlink_to("nowhere"),
    lambda path: path.symlink_to(path.name),
    lambda path: path.symlink_to(path.parent),
    lambda path: path.write_bytes(b""),
    lambda path: None,
]


def model(location: str) -> bytes:
    """A tiny model with one weight inside and one in another file."""
    inside, outside = (numpy_helper.from_array(np.ones(3, np.float32), name) for name in "wv")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", location
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy"]
    nodes = [helper.make_node("Add", ["x", "w"], ["z"]), helper.make_node("Add", ["z", "v"], ["y"])]
    graph = helper.make_graph(nodes, "tiny", infos[:1], infos[1:], [inside, outside])
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


@pytest.fixture(scope="module")
def whole() -> Files:
    """The files of an undamaged bundle."""
    return {
        "model.onnx": model("w.bin"),
        "published.onnx": model("w.bin"),
        "w.bin": np.ones(3, np.float32).tobytes(),
        "verification.json": b"{}",
    }


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """Whoever edits a manifest can compute its hash too; unlike ``seal``, whatever it holds."""
    fields = {name: value for name, value in manifest.items() if name != "sha256"}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return {**fields, "sha256": digest(text.encode())}


def edit(value: Any, rng: random.Random) -> None:
    """Change one place in a tree of JSON values: replace, drop, double or add."""
    places = [value]
    for place in places:
        items = place.values() if isinstance(place, dict) else place
        places += [item for item in items if isinstance(item, dict | list) and item]
    place = rng.choice(places)
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    key, hostile = rng.choice(keys), rng.choice(HOSTILE)
    action = rng.randrange(6)
    if action == 0:
        del place[key]
    elif action == 1 and isinstance(place, dict):
        place[rng.choice(["", "extra", "a" * 999, "\x1b", "\ud800", str(key).upper()])] = hostile
    elif action == 2 and isinstance(place, list):
        # Copies of a large value would multiply to gigabytes.
        number = rng.choice([1, 100, 11_000]) if len(json.dumps(place[key])) < 500 else 1
        place += [copy.deepcopy(place[key]) for _ in range(number)]
    elif action == 3 and isinstance(place[key], int | float):
        place[key] *= rng.choice([-1, 2, 0.5, 1e9, 10**9])
    else:
        place[key] = copy.deepcopy(hostile)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, remove, repeat or insert bytes."""
    at, length = rng.randrange(len(content) + 1), rng.choice([1, 1, 2, 8, 200])
    action = rng.randrange(6)
    if action == 0:
        return content[:at]
    if action == 1:
        return content[:at] + content[at + length :]
    if action == 2:
        return content[:at] + content[at : at + length] * 2 + content[at + length :]
    if action == 3:
        nested = [b"[", b'{"a":', b"[[]," * 3, b"9", b"\xff", b"\x80", b'"', b"-", b"1e9"]
        return content[:at] + rng.choice(nested) * rng.choice([1, 30, 9000]) + content[at:]
    flipped = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 5])):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def dumped(manifest: Any) -> bytes:
    return json.dumps(manifest, indent=1).encode()


def edited_fields(files: Files, manifest: dict[str, Any], rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 2, 4])):
        edit(manifest, rng)
    files[MANIFEST] = dumped(manifest)


def edited_and_sealed_fields(files: Files, manifest: dict[str, Any], rng: random.Random) -> None:
    edit(manifest, rng)
    files[MANIFEST] = dumped(sealed(manifest))


def damaged_manifest(files: Files, manifest: dict[str, Any], rng: random.Random) -> None:
    files[MANIFEST] = damaged(dumped(manifest), rng)


def damaged_file(files: Files, manifest: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(list(manifest["files"]))
    files[name] = damaged(files[name], rng)
    files[MANIFEST] = dumped(manifest)


def damaged_and_sealed_model(files: Files, manifest: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(["model.onnx", "published.onnx"])
    files[name] = damaged(files[name], rng)
    manifest["files"][name] = digest(files[name])
    files[MANIFEST] = dumped(sealed(manifest))


KINDS = [
    edited_fields,
    edited_and_sealed_fields,
    damaged_manifest,
    damaged_file,
    damaged_and_sealed_model,
]


def check(folder: Path, original: dict[str, Any], *, resealed: bool) -> bool:
    """Open a bundle; return whether it was refused, as it should be."""
    try:
        bundle = open_bundle(folder)
    except WaveedgeError as error:
        refusal = error
    else:
        assert opened_rightly(bundle, original, resealed=resealed)
        return False
    message = str(refusal).replace(str(folder), "")
    assert len(message) < LONGEST
    assert "\n" not in refusal.what
    assert "\x1b" not in message
    assert refusal.hint
    return True


def opened_rightly(bundle: Bundle, original: dict[str, Any], *, resealed: bool) -> bool:
    """What opens is what was exported, or made anew by the rules, with hashes that are right."""
    SCHEMA(dict(bundle.manifest), "")
    files = bundle.manifest["files"].items()
    return (
        (resealed or bundle.manifest == original)
        and all(digest((bundle.path / name).read_bytes()) == expected for name, expected in files)
        and bundle.model.is_file()
        and (not bundle.manifest["layers"] or bits_of(bundle.model, bundle.manifest) is not None)
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damage_is_refused_in_one_line(
    kind: Callable[[Files, dict[str, Any], random.Random], None],
    whole: Files,
    make_fields: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    hashes = {name: digest(content) for name, content in whole.items()}
    manifest = sealed(make_fields(tmp_path, files=hashes))
    refused = 0
    cases = CASES // len(KINDS)
    for case in range(cases):
        files, edited = dict(whole), copy.deepcopy(manifest)
        kind(files, edited, random.Random(f"{kind.__name__} {case}"))
        folder = tmp_path / "b"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        try:
            refused += check(folder, manifest, resealed="sealed" in kind.__name__)
        except Exception as error:
            raise AssertionError(f"case {case} of {kind.__name__}") from error
        shutil.rmtree(folder)
    print(f"{kind.__name__}: {refused} of {cases} refused")
    # Not all are damage: a flipped byte of an operator's name, hashed anew, is another model.
    assert refused > cases * (0.3 if "sealed" in kind.__name__ else 0.9)


@pytest.mark.parametrize("state", FILES)
def test_files_that_are_no_files_are_refused(state: Callable[[Path], object], bundle: Path) -> None:
    for name in ("manifest.json", "model.onnx", "published.onnx", "verification.json"):
        kept = (bundle / name).read_bytes()
        (bundle / name).unlink()
        state(bundle / name)
        assert check(bundle, {}, resealed=False)
        if (bundle / name).is_dir() and not (bundle / name).is_symlink():
            (bundle / name).rmdir()
        (bundle / name).unlink(missing_ok=True)
        (bundle / name).write_bytes(kept)
    assert open_bundle(bundle).name == "net"


def test_the_undamaged_bundle_opens(whole: Files, make_fields: Any, tmp_path: Path) -> None:
    """Else all of the above would be refused for nothing."""
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    manifest = sealed(make_fields(tmp_path))
    (tmp_path / MANIFEST).write_bytes(dumped(manifest))
    assert not check(tmp_path, manifest, resealed=False)
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
