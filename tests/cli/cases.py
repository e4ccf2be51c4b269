"""Bad inputs, one of a kind each: how to make it, and what the message must say."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from .inside import run_inside

Arguments = list[object]


@dataclass(frozen=True)
class Case:
    """A bad input: what it is, how to make it, what the message must say, the exit status."""

    name: str
    make: Callable[[Path], Arguments]
    says: tuple[str, ...]
    code: int = 1


def state(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "model.pt", weights_only=True)
    return loaded


def saved(folder: Path, value: object) -> Arguments:
    torch.save(value, folder / "bad.pt")
    return ["compress", "bad.pt"]


def content(octets: bytes, name: str = "bad.pt") -> Callable[[Path], Arguments]:
    def make(folder: Path) -> Arguments:
        (folder / name).write_bytes(octets)
        return ["compress", name]

    return make


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], Arguments]:
    def make(folder: Path) -> Arguments:
        entries = state(folder)
        change(entries)
        return saved(folder, entries)

    return make


def fleet(text: str) -> Callable[[Path], Arguments]:
    def make(folder: Path) -> Arguments:
        (folder / "fleet.yaml").write_text(text)
        return ["bench", "--hosts", "fleet.yaml"]

    return make


def _no_images(folder: Path) -> Arguments:
    return ["bench", "model.onnx", "--vs", "model.onnx", "--images", "model.pt"]


def flags(*given: object) -> Callable[[Path], Arguments]:
    return lambda _folder: ["compress", "model.pt", *given]


def recipe(text: str) -> Callable[[Path], Arguments]:
    def make(folder: Path) -> Arguments:
        (folder / "recipe.yaml").write_text(text)
        return ["compress", "model.pt", "--recipe", "recipe.yaml"]

    return make


class Hostile:
    """Unpickled carelessly, it leaves a file behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def _hostile(folder: Path) -> Arguments:
    return saved(folder, {"state_dict": state(folder), "optimizer": Hostile()})


def _hostile_plain(folder: Path) -> Arguments:
    (folder / "bad.pt").write_bytes(pickle.dumps(Hostile()))
    return ["inspect", "bad.pt"]


def _module(folder: Path) -> Arguments:
    return saved(folder, torch.nn.Conv2d(3, 4, 1))


def _truncated(folder: Path) -> Arguments:
    whole = (folder / "model.pt").read_bytes()
    (folder / "bad.pt").write_bytes(whole[: len(whole) // 2])
    return ["compress", "bad.pt"]


def _plain_zip(folder: Path) -> Arguments:
    with zipfile.ZipFile(folder / "bad.pt", "w") as archive:
        archive.writestr("readme.txt", "not a checkpoint")
    return ["compress", "bad.pt"]


def _cut_safetensors(folder: Path) -> Arguments:
    save_file(state(folder), folder / "whole.safetensors")
    whole = (folder / "whole.safetensors").read_bytes()
    (folder / "whole.safetensors").unlink()
    (folder / "bad.safetensors").write_bytes(whole[:-100])
    return ["compress", "bad.safetensors"]


def _poison(value: float) -> Callable[[dict[str, Any]], object]:
    def change(entries: dict[str, Any]) -> None:
        entries["layers.0.reduction.weight"][0, 0] = value

    return change


def _other_network(folder: Path) -> Arguments:
    return saved(folder, {"features.0.weight": torch.zeros(8, 3, 3, 3)})


def _empty_images(folder: Path) -> Arguments:
    (folder / "images").mkdir()
    return ["compress", "model.pt", "--calib", "images"]


def broken_images(folder: Path) -> Arguments:
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    (folder / "images" / "b.jpg").write_bytes(b"")
    return ["compress", "model.pt", "--calib", "images"]


def _pickled_array(folder: Path) -> Arguments:
    (folder / "images").mkdir()
    objects = np.array([Hostile()], dtype=object)
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


_ARTIFACTS: list[bytes] = []


def _labels(*lines: str) -> Callable[[Path], Arguments]:
    """An artifact, images, and lines of labels beside them."""

    def make(folder: Path) -> Arguments:
        artifact = folder / "a.safetensors"
        if not _ARTIFACTS:  # all cases have the same model
            compress = ("compress", "model.pt", "--out", artifact.name, "--input-size", "16x16")
            assert run_inside(folder, *compress).code == 0
            _ARTIFACTS.append(artifact.read_bytes())
        artifact.write_bytes(_ARTIFACTS[0])
        (folder / "images").mkdir()
        for name in "abcd":
            pixels = np.random.default_rng(ord(name)).integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
        (folder / "labels.csv").write_text("\n".join(lines))
        return ["tune", "a.safetensors", "--data", "images", "--labels", "labels.csv"]

    return make


def tune(*given: object) -> Callable[[Path], Arguments]:
    return lambda _folder: ["tune", "model.pt", *given]


CASES = [
    Case("no such file", lambda _: ["compress", "nowhere.pt"], ("nowhere.pt", "not")),
    Case("a folder", lambda _: ["compress", "."], ("folder",)),
    Case("an empty file", content(b""), ("bad.pt", "empty")),
    Case("a text file", content(b"hello, this is text\n" * 9), ("bad.pt",)),
    Case("a picture", content(b"\x89PNG\r\n\x1a\n" + bytes(64)), ("bad.pt",)),
    Case("a truncated checkpoint", _truncated, ("bad.pt", "truncated")),
    Case("a zip that is no checkpoint", _plain_zip, ("bad.pt",)),
    Case("a pickle that runs code, inside a checkpoint", _hostile, ("bad.pt", "--trust-pickle")),
    Case("a pickle that runs code, alone", _hostile_plain, ("bad.pt",)),
    Case("a pickled module of another network", _module, ("bad.pt", "--arch")),
    Case("a list", lambda folder: saved(folder, [1, 2]), ("bad.pt",)),
    Case("an empty dict", lambda folder: saved(folder, {}), ("bad.pt",)),
    Case("a dict without tensors", lambda folder: saved(folder, {"a": 1}), ("bad.pt",)),
    Case("an unknown network", _other_network, ("--arch",)),
    Case(
        "a missing key",
        _changed(lambda entries: entries.pop("layers.0.feedforward.3.bias")),
        ("WaveMix", "layers.0.feedforward.3.bias"),
    ),
    Case(
        "an extra key",
        _changed(lambda entries: entries.update({"layers.0.extra.weight": torch.zeros(3)})),
        ("WaveMix", "layers.0.extra.weight"),
    ),
    Case(
        "a mis-shaped key",
        _changed(lambda entries: entries.update({"layers.0.reduction.bias": torch.zeros(5)})),
        ("WaveMix", "layers.0.reduction.bias", "5"),
    ),
    Case("NaN weights", _changed(_poison(float("nan"))), ("layers.0.reduction.weight", "NaN")),
    Case("infinite weights", _changed(_poison(float("inf"))), ("layers.0.reduction.weight",)),
    Case("a cut safetensors file", _cut_safetensors, ("bad.safetensors",)),
    Case(
        "a safetensors header of 2**62 bytes",
        content(struct.pack("<Q", 1 << 62) + b"{}", "bad.safetensors"),
        ("bad.safetensors",),
    ),
    Case("an empty image folder", _empty_images, ("images",)),
    Case("a folder of broken images", broken_images, ("images",)),
    Case("a pickled array among the images", _pickled_array, ("images",)),
    Case("no image folder", flags("--calib", "nowhere"), ("nowhere",)),
    Case("0 bits", flags("--bits", 0), ("bits", "2 to 8"), code=2),
    Case("9 bits", flags("--bits", 9), ("bits", "2 to 8"), code=2),
    Case("bits that are no number", flags("--bits", "four"), ("--bits", "integer"), code=2),
    Case("a ratio of 0", flags("--wcc-ratio", 0), ("wcc_ratio", "greater than 0"), code=2),
    Case(
        "a ratio of 1.5",
        flags("--wcc-ratio", 1.5),
        ("wcc_ratio", "less than or equal to 1"),
        code=2,
    ),
    Case("no multiply-adds", flags("--macs", 0), ("macs", "greater than 0"), code=2),
    Case("fewer steps than none", flags("--tune", -1), ("tune", "greater than or equal"), code=2),
    Case("two budgets", tune("--steps", 9, "--minutes", 1), ("--steps", "--minutes"), code=2),
    Case("no minutes", tune("--minutes", 0), ("0 minutes", "more than 0"), code=2),
    Case("minutes that are none", tune("--minutes", "nan"), ("nan minutes",), code=2),
    Case("minutes of years", tune("--minutes", "1e9"), ("at most 10,080",), code=2),
    Case("labels of nothing", tune("--labels", "labels.csv"), ("--data FOLDER",), code=2),
    Case("a class that is a word", _labels("a.png,0", "b.png,cat"), ("line 2", "'cat'", "0")),
    Case("an image labelled twice", _labels("a.png,0", "a.png,0"), ("line 2", "a.png")),
    Case("labels without classes", _labels("a.png"), ("line 1", "cats/1.jpg,3")),
    Case("no label", _labels("name,class"), ("labels.csv holds no labels",)),
    Case("labels for images as outputs", _labels("a.png,0"), ("(1, 3, 32, 32)", "loop")),
    Case("an unknown selection", flags("--wcc-select", "best"), ("static or topk",), code=2),
    Case("no levels", flags("--wcc-levels", 0), ("wcc_levels",), code=2),
    Case("a pattern that matches nothing", flags("--skip", "layer.*"), ("layer.*", "inspect")),
    Case("an unknown flag", flags("--bitz", 4), ("--bitz",), code=2),
    Case("a size the levels do not divide", flags("--input-size", "33x40"), ("33x40", "32x40")),
    Case("a size that is no size", flags("--input-size", "big"), ("big", "HxW"), code=2),
    Case("a setting of no field", flags("--set", "strid=1"), ("strid", "stride"), code=2),
    Case("a setting without a value", flags("--set", "stride"), ("KEY=VALUE",), code=2),
    Case("no such factory", flags("--arch", "nowhere:net"), ("nowhere",)),
    Case("no recipe", flags("--recipe", "nowhere.yaml"), ("nowhere.yaml",)),
    Case("a recipe that is no YAML", recipe("bits: ["), ("recipe.yaml", "YAML")),
    Case("a recipe that would run code", recipe("!!python/object/apply:os.abort []"), ("YAML",)),
    Case("a recipe with an unknown field", recipe("bitz: 4"), ("bitz", "Known fields")),
    Case("nothing to export", lambda _: ["export"], ("waveedge compress",)),
    Case("a fleet that is no YAML", fleet("boards: ["), ("fleet.yaml", "YAML, line 1")),
    Case("a fleet without boards", fleet("boards: []"), ("'boards'", "boards: [{host: ")),
    Case("a board without a host", fleet("boards: [{name: a}]"), ("board 1", "host")),
    Case("a board of unknown fields", fleet("boards: [{host: a, x: 1}]"), ("board 1", "python")),
    Case("a board twice", fleet("boards: [a, {host: b, name: a}]"), ("two boards", "'a'")),
    Case("a board that is an option", lambda _: ["bench", "--on=-oX=y"], ("'-oX=y' is no host",)),
    Case("no fleet", lambda _: ["bench", "--hosts", "no.yaml"], ("no.yaml", "cannot be read")),
    Case("boards for none", lambda _: ["bench", "--keep"], ("--keep", "--on HOST"), code=2),
    Case(
        "batches that are none",
        lambda _: ["bench", "--batch", "1,2,2"],
        ("'1,2,2'", "1,2,4,8"),
        code=2,
    ),
    Case("streams for none", lambda _: ["bench", "--streams=2"], ("--throughput",), code=2),
    Case("images that are none", _no_images, ("model.pt holds no images", "numpy.save")),
    Case("two baselines", lambda _: ["bench", "--on=a", "--vs=model.pt"], ("--vs",), code=2),
    Case(
        "alone and against another",
        lambda _: ["bench", "model.pt", "--alone", "--vs=model.pt"],
        ("--alone", "--vs"),
        code=2,
    ),
    Case("nothing to measure", lambda _: ["bench"], ("waveedge export",)),
    Case(
        "an unknown target",
        lambda _: ["export", "model.pt", "--target", "gpu"],
        ("trt-rtx",),
        code=2,
    ),
    Case(
        "two choices of a form",
        lambda _: ["export", "model.pt", "--autotune", "--no-reparameterize"],
        ("--autotune", "--no-reparameterize"),
        code=2,
    ),
    Case(
        "a form timed for TensorRT",
        lambda _: ["export", "model.pt", "--autotune", "--target", "trt"],
        ("--autotune", "trt", "--target ort"),
        code=2,
    ),
    Case(
        "a batch of none",
        lambda _: ["export", "model.pt", "--batch", "0"],
        ("--batch", "at least 1"),
        code=2,
    ),
    Case("an artifact without a header", _artifact("{"), ("bad.safetensors", "waveedge compress")),
    Case("an artifact of the future", _artifact('{"format": 99}'), ("99", "Update")),
    Case("an out folder that is not there", flags("--out", "no/such/a.safetensors"), ("Create",)),
    Case("the input as output", flags("--out", "model.pt"), ("never modified",)),
]
