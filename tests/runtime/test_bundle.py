"""Bundles: trusted only when whole, and the newest one found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from waveedge.errors import ArtifactError, InputError
from waveedge.runtime import Session, newest_bundle, open_bundle

Make = Callable[..., Path]


def edit_manifest(bundle: Path, **changes: Any) -> None:
    file = bundle / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_whole_bundle_opens(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.name == "net"
    assert opened.model == bundle / "model.onnx"
    assert opened.baseline == bundle / "published.onnx"
    assert opened.engine is None


@pytest.mark.parametrize("name", ["model.onnx", "published.onnx"])
def test_one_flipped_bit_is_found_and_the_file_named(bundle: Path, name: str) -> None:
    file = bundle / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{name} is not the file that was exported"):
        Session(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "published.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"lacks its file published\.onnx"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "waveedge-bundle/2"}, "'waveedge-bundle/2'; this waveedge reads"),
        ({"format": None}, "has format None"),
        ({"files": None}, "'files' must map"),
        ({"files": {"model.onnx": 7}}, "'files' must map"),
        ({"files": {"../model.onnx": ""}}, "outside the bundle"),
        ({"files": {"/etc/passwd": ""}}, "outside the bundle"),
        ({"model": "other.onnx"}, "model is 'other.onnx', which is not among the files"),
        ({"model": None}, "model is None"),
        ({"engine": "model.engine"}, "engine is 'model.engine'"),
    ],
)
def test_a_manifest_that_cannot_be_right(
    bundle: Path, changes: dict[str, Any], message: str
) -> None:
    edit_manifest(bundle, **changes)
    with pytest.raises(ArtifactError, match=message):
        open_bundle(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"'])
def test_a_manifest_that_is_no_json_object(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        open_bundle(bundle)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not an exported bundle"):
        open_bundle(tmp_path)
    with pytest.raises(InputError, match="no bundle at"):
        open_bundle(tmp_path / "absent")


def test_the_newest_bundle_is_found_by_its_manifest(tmp_path: Path, make_bundle: Make) -> None:
    for age, name in enumerate(["b", "c", "a"]):
        manifest = make_bundle(tmp_path / name) / "manifest.json"
        os.utime(manifest, (1e9 - age, 1e9 - age))
    make_bundle(tmp_path / ".hidden.part")  # an export in progress is newer, and not taken
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"format": "something else"}')
    (tmp_path / "file.txt").touch()
    assert newest_bundle(tmp_path) == tmp_path / "b"
    assert newest_bundle(tmp_path / "c") == tmp_path / "c"
    with pytest.raises(InputError, match=r"no exported bundle in .*\n.*waveedge export"):
        newest_bundle(tmp_path / "other")
    with pytest.raises(InputError, match="no exported bundle"):
        newest_bundle(tmp_path / "absent")
