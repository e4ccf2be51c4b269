"""Bundles: trusted only when whole, and the newest one found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from waveedge.errors import ArtifactError, InputError, OutputError
from waveedge.outputs import BUNDLE, check_output
from waveedge.runtime import Session, newest_bundle, open_bundle
from waveedge.runtime.manifest import seal

Make = Callable[..., Path]
Fields = Callable[..., dict[str, Any]]

FORM = {"name": "a", "file": "model.onnx", "precision": "bfloat16", "snr_db": 40.0}


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
        ({"files": None}, "files is null"),
        ({"files": {"model.onnx": 7}}, r"files\.model\.onnx is 7; it must be a SHA-256"),
        ({"files": {"../model.onnx": "0" * 64}}, r"a name in files is \"\.\./model\.onnx\""),
        ({"files": {"/etc/passwd": "0" * 64}}, "plain name of a file in the bundle"),
        ({"model": "other.onnx"}, "model is 'other.onnx', which is not among the files"),
        ({"model": None}, "model is null"),
        ({"model": ["model.onnx"]}, "model is a list of 1 entries"),
        ({"baseline": {"model.onnx": 1}}, "baseline is an object of 1 entries"),
        ({"engine": "model.engine"}, "engine is 'model.engine', which is not among"),
        (
            {"forms": [{**FORM, "outputs": "a.npz"}]},
            r"forms\[0\]\.outputs is 'a\.npz', which is not among",
        ),
        ({"forms": [{**FORM, "outputs": "a.npy"}]}, r"forms\[0\]\.outputs .* ending in \.npz"),
        ({"engine": 3}, r"engine is 3; .* ending in \.engine"),
        ({"verification": "absent.json"}, "verification is 'absent.json', which is not among"),
        ({"name": "x" * 10**6}, "name is .*; it must be at most 1000 characters, not 1000000"),
        ({"name": 7}, "name is 7"),
        ({"layers": 3}, "layers is 3; it must be a list"),
        ({"layers": "x"}, 'layers is "x"'),
        ({"layers": [1]}, r"layers\[0\] is 1; it must be an object of 4 fields"),
        ({"layers": [{}]}, r"layers\[0\] lacks the field 'name'"),
        ({"layers": [None]}, r"layers\[0\] is null"),
        ({"layers": {"a": 1}}, "layers is an object"),
        (
            {"preprocessing": {"colour": "rgb", "range": [0, 1], "mean": [0.0], "std": [0]}},
            r"std\[0\] is 0",
        ),
        (
            {"preprocessing": {"colour": "rgb", "range": [0, 1], "mean": [True], "std": [1]}},
            r"mean\[0\] is true",
        ),
        ({"recipe": {"a": [[[[[[[1]]]]]]]}}, r"recipe\.a.* is nested too deep"),
        ({"extra": 1}, "has a field 'extra', which is not known"),
        ({"\x1b[31m\ud800": 1}, r"has a field '\\x1b\[31m\\ud800'"),
        ({"sha256": ""}, "sha256 is"),
    ],
    ids=repr,
)
def test_a_manifest_that_cannot_be_right_names_the_field(
    bundle: Path, changes: dict[str, Any], message: str
) -> None:
    edit_manifest(bundle, **changes)
    with pytest.raises(ArtifactError, match=message) as caught:
        Session(bundle)
    assert "\n" not in caught.value.what
    assert len(str(caught.value)) < 500


def test_a_field_that_is_left_out_is_named(bundle: Path) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    for name in manifest:
        left = {key: value for key, value in manifest.items() if key != name}
        file.write_text(json.dumps(left))
        with pytest.raises(ArtifactError, match="has format null" if name == "format" else name):
            open_bundle(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing": {"colour": "rgb", "range": [0.0, 1.0], "mean": [9], "std": [1.0]}},
        {"input": {"name": "image", "shape": [1, 3, 64, 64], "dtype": "float32"}},
        {"notes": []},
        {"name": "another"},
        {"baseline": "model.onnx"},
    ],
    ids=str,
)
def test_a_field_that_was_changed_since_export_is_refused(
    bundle: Path, changes: dict[str, Any]
) -> None:
    edit_manifest(bundle, **changes)
    with pytest.raises(ArtifactError, match=r"manifest\.json.*changed since export"):
        open_bundle(bundle)


def test_executed_bits_cannot_be_edited(bundle: Path) -> None:
    layers = json.loads((bundle / "manifest.json").read_text())["layers"]
    layers[0]["executed"]["weight_bits"] = 2
    edit_manifest(bundle, layers=layers)
    with pytest.raises(ArtifactError, match="changed since export"):
        Session(bundle)


def test_spaces_and_the_order_of_fields_are_no_change(bundle: Path) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(dict(sorted(manifest.items())), indent=7))
    assert open_bundle(bundle).manifest == manifest


@pytest.mark.parametrize(
    "form", ["waveedge-bundle/4", "waveedge-bundle/6", None, 9**12, ["x" * 999]]
)
def test_another_format_is_told_how_to_be_made_again(bundle: Path, form: object) -> None:
    edit_manifest(bundle, format=form)
    with pytest.raises(ArtifactError, match="this waveedge reads waveedge-bundle/5") as caught:
        open_bundle(bundle)
    assert caught.value.hint.endswith(f"waveedge export MODEL --target ort --out {bundle}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"[]", "holds no JSON object"),
        (b'"text"', "holds no JSON object"),
        (b"\xff\xfe", "can't decode byte"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"format": 1' + b"0" * 5000 + b"}", "a number of 5001 digits"),
        (b'{"format": NaN}', "NaN where a number"),
        (b" " * (2**24 + 1), "larger than 16 MiB"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_a_manifest_that_is_no_json_object(bundle: Path, content: bytes, message: str) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"manifest\.json is damaged or edited: .*{message}"):
        open_bundle(bundle)


def test_a_manifest_that_is_no_regular_file_is_not_opened(bundle: Path) -> None:
    file = bundle / "manifest.json"
    file.unlink()
    for make in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")):
        make(file)
        with pytest.raises(ArtifactError, match="it is not a regular file"):
            open_bundle(bundle)
        file.rmdir() if file.is_dir() else file.unlink()
    file.symlink_to("nowhere")
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        open_bundle(bundle)
    file.unlink()
    file.symlink_to("manifest.json")
    with pytest.raises(ArtifactError, match="cannot be read: Too many levels of symbolic links"):
        open_bundle(bundle)


def test_a_listed_file_that_is_no_regular_file_is_not_opened(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    os.mkfifo(bundle / "model.onnx")
    with pytest.raises(ArtifactError, match=r"lacks its file model\.onnx"):
        open_bundle(bundle)


def test_what_the_manifest_does_not_list_is_left_alone(bundle: Path) -> None:
    """An engine built on the device stands beside the files, and is named to be run."""
    (bundle / "model.engine").write_bytes(b"built later")
    os.mkfifo(bundle / "pipe")
    assert open_bundle(bundle).engine is None
    assert Session(bundle).path == bundle / "model.onnx"


def test_verification_figures_are_hashed(bundle: Path) -> None:
    (bundle / "verification.json").write_text('{"passed": 1}')
    with pytest.raises(ArtifactError, match=r"verification\.json is not the file"):
        open_bundle(bundle)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not an exported bundle"):
        open_bundle(tmp_path)
    with pytest.raises(InputError, match="no bundle at"):
        open_bundle(tmp_path / "absent")


def test_what_a_reader_would_refuse_is_not_written(bundle: Path, make_fields: Fields) -> None:
    fields = make_fields(bundle)
    assert json.loads((bundle / "manifest.json").read_text()) == seal(fields)
    for wrong in ({"notes": None}, {"layers": [{}]}, {"engine": "absent.engine"}):
        with pytest.raises(ArtifactError, match=next(iter(wrong))):
            seal({**fields, **wrong})


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


@pytest.mark.parametrize("name", ["model.engine.json", "race.json"])
def test_what_another_program_left_in_a_bundle_keeps_it_from_being_replaced(
    bundle: Path, name: str
) -> None:
    check_output(bundle, BUNDLE)
    (bundle / name).write_text('{"Layers": []}')
    with pytest.raises(OutputError, match=f"holds {name}, which is no part"):
        check_output(bundle, BUNDLE)
