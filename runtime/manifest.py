"""The manifest of a bundle: what export writes and every reader checks, by one schema.

``manifest.json`` holds the fields of :data:`SCHEMA`. The last one, ``sha256``, is the hash of all
others, so that whatever a report takes from a manifest is what export wrote there. ``files`` has
the hashes of the other files.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from waveedge.errors import ArtifactError
from waveedge.filetypes import BUNDLE_FORMAT, MANIFEST
from waveedge.runtime.schema import (
    Json,
    ListOf,
    MapOf,
    Nullable,
    Real,
    Record,
    Rule,
    SchemaError,
    Text,
    TextOr,
    Whole,
    shown,
)

__all__ = ["FLOATS", "FORMAT", "MANIFEST", "OPENVINO", "SCHEMA", "read_manifest", "seal"]

FORMAT = f"{BUNDLE_FORMAT}5"

OPENVINO = {"openvino": "float32", "openvino-bfloat16": "bfloat16"}
"""Providers that are OpenVINO -> the precision of its floating-point layers."""

_MOST_BYTES = 16 * 2**20
_MOST_DIGITS = 20  # of a number: more take Python long, or are refused by it
_SEAL = "sha256"

_FILE = Text(255, r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "the plain name of a file in the bundle")
_MODEL = Text(255, rf"{_FILE.pattern}\.onnx", f"{_FILE.what}, ending in .onnx")
_ENGINE = Text(255, rf"{_FILE.pattern}\.engine", f"{_FILE.what}, ending in .engine")
_ARRAYS = Text(255, rf"{_FILE.pattern}\.npz", f"{_FILE.what}, ending in .npz")
_SHA256 = Text(64, r"[0-9a-f]{64}", "a SHA-256 of 64 hexadecimal digits")
_NAME = Text(1000)
_NUMBER = Real(-1e12, 1e12)
_BITS = Whole(1, 32)
_SHAPE = ListOf(TextOr(_NAME, Whole(0, 2**31 - 1)), most=16)
_SIZE = ListOf(Whole(1, 2**16), most=2, least=2)
FLOATS = Text(8, "float32|float16|bfloat16", "a floating-point type")
_TENSOR: dict[str, Rule] = {"name": _NAME, "shape": _SHAPE}
_PRECISION = {"weight_bits": _BITS, "activation_bits": _BITS}

SCHEMA = Record(
    {
        "format": Text(40),
        "name": _NAME,
        "target": Text(40),
        "task": Text(40),
        "model": _MODEL,
        "baseline": Nullable(_MODEL),
        "engine": Nullable(_ENGINE),
        "provider": Text(40, "|".join(("cpu", *OPENVINO)), "what a Session can run it by"),
        "precision": FLOATS,
        "weights": Text(7, "float32|int8|uint8", "'float32', 'int8' or 'uint8'"),
        "input": Record({**_TENSOR, "dtype": Text(20)}),
        "sizes": Nullable(
            Record(
                {
                    "calibrated": _SIZE,
                    "multiple": _SIZE,
                    "least": _SIZE,
                    "most": Nullable(_SIZE),
                }
            )
        ),
        "outputs": ListOf(Record(_TENSOR), most=1000, least=1),
        "preprocessing": Nullable(
            Record(
                {
                    "colour": Text(5, "rgb|ycbcr", "'rgb' or 'ycbcr'"),
                    "range": ListOf(_NUMBER, most=2, least=2),
                    "mean": ListOf(_NUMBER, most=2**16, least=1),
                    "std": ListOf(Real(1e-12, 1e12), most=2**16, least=1),
                }
            )
        ),
        "forms": ListOf(
            Record(
                {
                    "name": Text(100, r"[A-Za-z0-9_.-]+", "a plain name"),
                    "file": _MODEL,
                    "precision": FLOATS,
                    "snr_db": Real(-1000, 1000),
                    "outputs": Nullable(_ARRAYS),
                }
            ),
            most=100,
        ),
        "images": Nullable(_FILE),
        "recipe": Nullable(Json(depth=6, most=10_000)),
        "autotune": Nullable(Json(depth=6, most=10_000)),
        "layers": ListOf(
            Record(
                {
                    "name": _NAME,
                    "type": _NAME,
                    "requested": Record({**_PRECISION, "ratio": Real(0, 1)}),
                    "executed": Record(_PRECISION),
                }
            ),
            most=10_000,
        ),
        "files": MapOf(_FILE, _SHA256, most=1000),
        "versions": MapOf(Text(100), Text(100), most=100),
        "source_sha256": Text(64, r"([0-9a-f]{64})?", "a SHA-256, or empty"),
        "artifact_sha256": Nullable(_SHA256),
        "verification": _FILE,
        "notes": ListOf(Text(2**16), most=10_000),
        _SEAL: _SHA256,
    }
)


def seal(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of these fields, with the hash over them.

    Raises:
        ArtifactError: a reader would refuse it; the message names the field.
    """
    manifest = {**fields, _SEAL: _hash(fields)}
    try:
        _check(manifest)
    except SchemaError as error:
        raise ArtifactError(f"the bundle cannot be described: {error}") from error
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a bundle.

    Raises:
        ArtifactError: there is none, its format is another one, it breaks the schema, or it was
            changed since it was written; the message is one line that names the field.
    """
    file = folder / MANIFEST
    if not os.path.lexists(file):
        raise ArtifactError(
            f"{folder} is not an exported bundle: it has no {MANIFEST}",
            hint="Name the folder that waveedge export wrote, or an .onnx file.",
        )
    try:
        manifest = _parse(_read(file))
        if manifest.get("format") != FORMAT:
            raise _other_format(folder, manifest)
        _check(manifest)
        if manifest[_SEAL] != _hash(manifest):
            raise SchemaError("its fields were changed since export: their hash differs")
    except RecursionError:
        raise _damaged(file, "it is nested too deep") from None
    except OSError as error:
        raise _damaged(file, f"it cannot be read: {error.strerror}") from error
    except ValueError as error:  # SchemaError, or what decoding text and JSON raises
        raise _damaged(file, str(error)) from error
    return manifest


def _read(file: Path) -> bytes:
    # Looked at before it is opened: opening a pipe waits, and reading a device may never end.
    if not stat.S_ISREG(file.stat().st_mode):
        raise SchemaError("it is not a regular file")
    with file.open("rb") as opened:
        content = opened.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise SchemaError(f"it is larger than {_MOST_BYTES // 2**20} MiB")
    return content


def _parse(content: bytes) -> dict[str, Any]:
    manifest = json.loads(content.decode(), parse_int=_whole, parse_constant=_no_number)
    if not isinstance(manifest, dict):
        raise SchemaError("it holds no JSON object")
    return manifest


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise SchemaError(f"it has a number of {len(digits)} digits")
    return int(digits)


def _no_number(name: str) -> None:
    raise SchemaError(f"it has {name} where a number must be")


def _check(manifest: Mapping[str, Any]) -> None:
    SCHEMA(manifest, "")
    named = {field: manifest[field] for field in ("model", "baseline", "engine", "verification")}
    named["images"] = manifest["images"]
    for index, form in enumerate(manifest["forms"]):
        named |= {f"forms[{index}].{field}": form[field] for field in ("file", "outputs")}
    for field, name in named.items():
        if name is not None and name not in manifest["files"]:
            raise SchemaError(f"{field} is {name!r}, which is not among the files with a hash")


def _hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of all fields but the hash itself, however their text is spaced and ordered."""
    fields = {name: value for name, value in manifest.items() if name != _SEAL}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(file: Path, what: str) -> ArtifactError:
    return ArtifactError(
        f"{file} is damaged or edited: {what}",
        hint="Copy the bundle again, or export the network again with: waveedge export",
    )


def _other_format(folder: Path, manifest: Mapping[str, Any]) -> ArtifactError:
    """Tell a bundle of another version how to become one of this version."""
    target = manifest.get("target")
    option = f" --target {shown(target)}" if isinstance(target, str) else ""
    form = shown(json.dumps(manifest.get("format"), ensure_ascii=False))
    return ArtifactError(
        f"{folder / MANIFEST} has format {form}; this waveedge reads {FORMAT}",
        hint=f"Export the network again with: waveedge export MODEL{option} --out {folder}",
    )
