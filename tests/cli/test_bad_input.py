"""The table of bad inputs: each gets one clear message and exit status 1, and changes nothing.

Every case runs the real command line as a process. A case names what the message must say: what is
wrong, where, and what to do.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from .conftest import Run

Arguments = list[object]


@dataclass(frozen=True)
class Case:
    """A bad input: what it is, how to make it, and what the message must say."""

    name: str
    make: Callable[[Path], Arguments]
    says: tuple[str, ...]


def _state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "model.pt", weights_only=True)
    return state


def _saved(folder: Path, state: object) -> Arguments:
    torch.save(state, folder / "bad.pt")
    return ["compress", "bad.pt"]


def _bytes(content: bytes, name: str = "bad.pt") -> Callable[[Path], Arguments]:
    def make(folder: Path) -> Arguments:
        (folder / name).write_bytes(content)
        return ["compress", name]

    return make


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], Arguments]:
    def make(folder: Path) -> Arguments:
        state = _state(folder)
        change(state)
        return _saved(folder, state)

    return make


def _flags(*flags: object) -> Callable[[Path], Arguments]:
    return lambda _folder: ["compress", "model.pt", *flags]


def _recipe(text: str) -> Callable[[Path], Arguments]:
    def make(folder: Path) -> Arguments:
        (folder / "recipe.yaml").write_text(text)
        return ["compress", "model.pt", "--recipe", "recipe.yaml"]

    return make


class _Hostile:
    """Unpickled carelessly, it leaves a file behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def _hostile(folder: Path) -> Arguments:
    return _saved(folder, {"state_dict": _state(folder), "optimizer": _Hostile()})


def _hostile_plain(folder: Path) -> Arguments:
    (folder / "bad.pt").write_bytes(pickle.dumps(_Hostile()))
    return ["inspect", "bad.pt"]


def _module(folder: Path) -> Arguments:
    return _saved(folder, torch.nn.Conv2d(3, 4, 1))


def _truncated(folder: Path) -> Arguments:
    whole = (folder / "model.pt").read_bytes()
    (folder / "bad.pt").write_bytes(whole[: len(whole) // 2])
    return ["compress", "bad.pt"]


def _plain_zip(folder: Path) -> Arguments:
    with zipfile.ZipFile(folder / "bad.pt", "w") as archive:
        archive.writestr("readme.txt", "not a checkpoint")
    return ["compress", "bad.pt"]


def _cut_safetensors(folder: Path) -> Arguments:
    save_file(_state(folder), folder / "whole.safetensors")
    whole = (folder / "whole.safetensors").read_bytes()
    (folder / "whole.safetensors").unlink()
    (folder / "bad.safetensors").write_bytes(whole[:-100])
    return ["compress", "bad.safetensors"]


def _poison(value: float) -> Callable[[dict[str, Any]], object]:
    def change(state: dict[str, Any]) -> None:
        state["layers.0.reduction.weight"][0, 0] = value

    return change


def _other_network(folder: Path) -> Arguments:
    return _saved(folder, {"features.0.weight": torch.zeros(8, 3, 3, 3)})


def _empty_images(folder: Path) -> Arguments:
    (folder / "images").mkdir()
    return ["compress", "model.pt", "--calib", "images"]


def _broken_images(folder: Path) -> Arguments:
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    (folder / "images" / "b.jpg").write_bytes(b"")
    return ["compress", "model.pt", "--calib", "images"]


def _pickled_array(folder: Path) -> Arguments:
    (folder / "images").mkdir()
    objects = np.array([_Hostile()], dtype=object)
    np.save(folder / "images" / "a.npy", objects, allow_pickle=True)
    return ["compress", "model.pt", "--calib", "images"]


def _artifact(header: str, *flags: str) -> Callable[[Path], Arguments]:
    def make(folder: Path) -> Arguments:
        save_file(
            {"a": torch.zeros(1)},
            folder / "bad.safetensors",
            metadata={"waveedge.artifact": header},
        )
        return ["export", "bad.safetensors", *flags]

    return make


CASES = [
    Case("no such file", lambda _: ["compress", "nowhere.pt"], ("nowhere.pt", "not")),
    Case("a folder", lambda _: ["compress", "."], ("folder",)),
    Case("an empty file", _bytes(b""), ("bad.pt", "empty")),
    Case("a text file", _bytes(b"hello, this is text\n" * 9), ("bad.pt",)),
    Case("a picture", _bytes(b"\x89PNG\r\n\x1a\n" + bytes(64)), ("bad.pt",)),
    Case("a truncated checkpoint", _truncated, ("bad.pt", "truncated")),
    Case("a zip that is no checkpoint", _plain_zip, ("bad.pt",)),
    Case("a pickle that runs code, inside a checkpoint", _hostile, ("bad.pt", "--trust-pickle")),
    Case("a pickle that runs code, alone", _hostile_plain, ("bad.pt",)),
    Case("a pickled module of another network", _module, ("bad.pt", "--arch")),
    Case("a list", lambda folder: _saved(folder, [1, 2]), ("bad.pt",)),
    Case("an empty dict", lambda folder: _saved(folder, {}), ("bad.pt",)),
    Case("a dict without tensors", lambda folder: _saved(folder, {"a": 1}), ("bad.pt",)),
    Case("an unknown network", _other_network, ("--arch",)),
    Case(
        "a missing key",
        _changed(lambda state: state.pop("layers.0.feedforward.3.bias")),
        ("WaveMix", "layers.0.feedforward.3.bias"),
    ),
    Case(
        "an extra key",
        _changed(lambda state: state.update({"layers.0.extra.weight": torch.zeros(3)})),
        ("WaveMix", "layers.0.extra.weight"),
    ),
    Case(
        "a mis-shaped key",
        _changed(lambda state: state.update({"layers.0.reduction.bias": torch.zeros(5)})),
        ("WaveMix", "layers.0.reduction.bias", "5"),
    ),
    Case("NaN weights", _changed(_poison(float("nan"))), ("layers.0.reduction.weight", "NaN")),
    Case("infinite weights", _changed(_poison(float("inf"))), ("layers.0.reduction.weight",)),
    Case("a cut safetensors file", _cut_safetensors, ("bad.safetensors",)),
    Case(
        "a safetensors header of 2**62 bytes",
        _bytes(struct.pack("<Q", 1 << 62) + b"{}", "bad.safetensors"),
        ("bad.safetensors",),
    ),
    Case("an empty image folder", _empty_images, ("images",)),
    Case("a folder of broken images", _broken_images, ("images",)),
    Case("a pickled array among the images", _pickled_array, ("images",)),
    Case("no image folder", _flags("--calib", "nowhere"), ("nowhere",)),
    Case("0 bits", _flags("--bits", 0), ("bits", "2 to 8")),
    Case("9 bits", _flags("--bits", 9), ("bits", "2 to 8")),
    Case("bits that are no number", _flags("--bits", "four"), ("--bits", "integer")),
    Case("a ratio of 0", _flags("--wcc-ratio", 0), ("wcc_ratio", "greater than 0")),
    Case("a ratio of 1.5", _flags("--wcc-ratio", 1.5), ("wcc_ratio", "less than or equal to 1")),
    Case("no levels", _flags("--wcc-levels", 0), ("wcc_levels",)),
    Case("a pattern that matches nothing", _flags("--skip", "layer.*"), ("layer.*", "inspect")),
    Case("an unknown flag", _flags("--bitz", 4), ("--bitz",)),
    Case("a size the levels do not divide", _flags("--input-size", "33x40"), ("33x40", "32x40")),
    Case("a size that is no size", _flags("--input-size", "big"), ("big", "HxW")),
    Case("a setting of no field", _flags("--set", "strid=1"), ("strid", "stride")),
    Case("a setting without a value", _flags("--set", "stride"), ("KEY=VALUE",)),
    Case("no such factory", _flags("--arch", "nowhere:net"), ("nowhere",)),
    Case("no recipe", _flags("--recipe", "nowhere.yaml"), ("nowhere.yaml",)),
    Case("a recipe that is no YAML", _recipe("bits: ["), ("recipe.yaml", "YAML")),
    Case("a recipe that would run code", _recipe("!!python/object/apply:os.abort []"), ("YAML",)),
    Case("a recipe with an unknown field", _recipe("bitz: 4"), ("bitz", "Known fields")),
    Case("nothing to export", lambda _: ["export"], ("waveedge compress",)),
    Case("nothing to measure", lambda _: ["bench"], ("waveedge export",)),
    Case("an unknown target", lambda _: ["export", "model.pt", "--target", "gpu"], ("trt-rtx",)),
    Case(
        "two choices of a form",
        lambda _: ["export", "model.pt", "--autotune", "--no-reparameterize"],
        ("--autotune", "--no-reparameterize"),
    ),
    Case(
        "a form timed for TensorRT",
        lambda _: ["export", "model.pt", "--autotune", "--target", "trt"],
        ("--autotune", "trt", "--target ort"),
    ),
    Case(
        "another form of an artifact",
        _artifact("{}", "--autotune"),
        ("bad.safetensors is compressed", "checkpoint"),
    ),
    Case("a batch of none", lambda _: ["export", "model.pt", "--batch", "0"], ("dynamic",)),
    Case("an artifact without a header", _artifact("{"), ("bad.safetensors", "waveedge compress")),
    Case("an artifact of the future", _artifact('{"format": 99}'), ("99", "Update")),
    Case("an out folder that is not there", _flags("--out", "no/such/a.safetensors"), ("Create",)),
    Case("the input as output", _flags("--out", "model.pt"), ("never modified",)),
]


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_gets_one_message_and_changes_nothing(
    case: Case, run: Run, model: Path, tmp_path: Path
) -> None:
    assert model.is_file()
    arguments = case.make(tmp_path)
    before = _snapshot(tmp_path)
    result = run(*arguments)
    assert result.code == 1, result.err
    assert "\nerror: " in f"\n{result.err}", result.err
    assert "Traceback" not in result.err + result.out
    assert "unexpected" not in result.err, result.err
    for text in case.says:
        assert text in result.err, result.err
    assert _snapshot(tmp_path) == before


def test_debug_shows_the_traceback(run: Run) -> None:
    assert "Traceback" in run("compress", "nowhere.pt", "--debug").err


def test_a_mixed_folder_is_used_and_its_broken_files_are_named(
    run: Run, model: Path, tmp_path: Path
) -> None:
    _broken_images(tmp_path)
    random = np.random.default_rng(0)
    for index in range(6):
        pixels = random.integers(0, 255, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    result = run("compress", model, "--calib", "images", "--input-size", "48x48", "--json")
    assert result.code == 0, result.err
    assert "a.png" in result.err
    assert "b.jpg" in result.err
    assert json.loads(result.out)["quality"]["images"] >= 1
