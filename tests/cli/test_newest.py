"""The newest result: a broken one is named, and what is no file is passed over."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from waveedge.artifact import newest_artifact
from waveedge.errors import InputError
from waveedge.runtime import newest_bundle


def artifact(path: Path, age: int, key: str = "waveedge.artifact") -> Path:
    save_file({"a": torch.zeros(9)}, path, metadata={key: "{}"})
    return aged(path, age)


def bundle(path: Path, age: int, manifest: str | None = None) -> Path:
    path.mkdir()
    (path / "manifest.json").write_text(manifest or json.dumps({"format": "waveedge-bundle/1"}))
    aged(path / "manifest.json", age)
    return path


def aged(path: Path, age: int) -> Path:
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def cut(path: Path) -> None:
    path.write_bytes(artifact(path, 0).read_bytes()[:-1])


BROKEN_FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.touch(),
    "cut": cut,
    "seven bytes": lambda path: path.write_bytes(b"1234567"),
    "no safetensors": lambda path: path.write_text("hello, this is a text"),
    "a header that is no JSON": lambda path: path.write_bytes(bytes([2, *[0] * 7]) + b"{:"),
    "a header that is a list": lambda path: path.write_bytes(bytes([2, *[0] * 7]) + b"[]"),
    "a header of numbers": lambda path: path.write_bytes(bytes([7, *[0] * 7]) + b'{"a":1}'),
    "a FIFO": os.mkfifo,
    "a link to a FIFO": lambda path: (os.mkfifo(path.parent / "pipe"), path.symlink_to("pipe")),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", BROKEN_FILES)
def test_a_broken_newest_artifact_is_named(what: str, tmp_path: Path) -> None:
    whole = artifact(tmp_path / "whole.safetensors", 5)
    BROKEN_FILES[what](tmp_path / "broken.safetensors")
    warnings: list[str] = []
    assert newest_artifact(tmp_path, warn=warnings.append) == whole
    assert len(warnings) == 1
    assert "broken.safetensors is passed over: " in warnings[0]
    whole.unlink()
    assert newest_artifact(tmp_path, warn=warnings.append) is None
    assert len(warnings) == 2


def test_older_files_and_other_files_are_passed_over_in_silence(tmp_path: Path) -> None:
    (tmp_path / "old.safetensors").touch()
    aged(tmp_path / "old.safetensors", 9)
    whole = artifact(tmp_path / "whole.safetensors", 5)
    artifact(tmp_path / "checkpoint.safetensors", 1, key="format")
    (tmp_path / "link.safetensors").symlink_to(whole)
    warnings: list[str] = []
    found = newest_artifact(tmp_path, warn=warnings.append)
    assert found is not None
    assert found.samefile(whole)
    assert not warnings


def test_python_warns_where_nobody_else_does(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    with pytest.warns(UserWarning, match=r"a\.safetensors is passed over: it is empty"):
        newest_artifact(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("{")
    with (
        pytest.warns(UserWarning, match=r"b.manifest\.json is passed over"),
        pytest.raises(InputError, match="no exported bundle"),
    ):
        newest_bundle(tmp_path)


BROKEN_MANIFESTS = {
    "empty": b"",
    "cut": b'{"format": "waveedge-bun',
    "a list": b"[1, 2]",
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("what", BROKEN_MANIFESTS)
def test_a_broken_newest_bundle_is_named(what: str, tmp_path: Path) -> None:
    whole = bundle(tmp_path / "whole", 5)
    broken = bundle(tmp_path / "broken", 1)
    (broken / "manifest.json").write_bytes(BROKEN_MANIFESTS[what])
    warnings: list[str] = []
    assert newest_bundle(tmp_path, warn=warnings.append) == whole
    assert len(warnings) == 1
    assert "broken/manifest.json is passed over: " in warnings[0]


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_a_manifest_that_is_no_file_is_never_opened(kind: str, tmp_path: Path) -> None:
    whole = bundle(tmp_path / "whole", 5)
    (tmp_path / "odd").mkdir()
    manifest = tmp_path / "odd" / "manifest.json"
    if kind == "fifo":
        os.mkfifo(manifest)
    elif kind == "link":
        manifest.symlink_to("nowhere")
    else:
        manifest.mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    warnings: list[str] = []
    assert newest_bundle(tmp_path, warn=warnings.append) == whole
    assert len(warnings) == 1
    assert "odd/manifest.json is passed over: " in warnings[0]


def test_other_programs_manifests_are_passed_over_in_silence(tmp_path: Path) -> None:
    whole = bundle(tmp_path / "whole", 5)
    bundle(tmp_path / "site", 1, '{"name": "a web page", "format": 3}')
    warnings: list[str] = []
    assert newest_bundle(tmp_path, warn=warnings.append) == whole
    assert not warnings
