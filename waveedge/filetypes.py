"""What waveedge's own files look like, told from their bytes.

Imports the standard library alone: ``waveedge.runtime`` uses it on devices without torch.
Nothing but regular files is ever opened: a FIFO would wait for ever, a device may never end.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "ARTIFACT_KEY",
    "BUNDLE_FORMAT",
    "CHECKPOINT_KEY",
    "COST_PROFILE_HEADER",
    "DLA_PLACE",
    "ENGINE",
    "ENGINE_FORMAT",
    "MANIFEST",
    "PICTURE_TEXT",
    "RACE",
    "RACE_FORMAT",
    "TIMING_CACHE",
    "TUNING_KEY",
    "bundle_files",
    "is_artifact_file",
    "is_bundle_manifest",
    "is_checkpoint_file",
    "is_cost_profile",
    "is_engine",
    "is_picture",
    "is_race",
    "is_tuning_state",
    "is_wheel",
    "newest",
]

ARTIFACT_KEY = "waveedge.artifact"
CHECKPOINT_KEY = "waveedge.spec"
TUNING_KEY = "waveedge.tuning"
MANIFEST = "manifest.json"
BUNDLE_FORMAT = "waveedge-bundle/"
ENGINE = "model.engine"
"""Of a bundle; it may be built later, on the device, as may those of further forms."""

DLA_PLACE = r"\.dla(\d{1,2})"
"""Pattern of what the name of an engine for a deep learning accelerator has before its suffix."""

TIMING_CACHE = "waveedge-timing.cache"
"""Of a bundle: what TensorRT measured as it built engines."""

ENGINE_FORMAT = "waveedge-engine/"

RACE = "race.json"
"""Of a bundle: which of its engines is fastest on a device."""

RACE_FORMAT = "waveedge-race/"

PICTURE_TEXT = {"Software": "waveedge"}
"""The text chunk of a PNG by which waveedge knows its pictures."""

COST_PROFILE_HEADER = "# waveedge cost profile"
"""The first line of a cost profile's YAML."""

_MANIFEST_BYTES = 64 << 20
_HEADER_BYTES = 100 << 20  # the format's own limit


def is_artifact_file(file: Path) -> bool:
    """Whether ``file`` is a safetensors file with a compressed artifact in it.

    Raises:
        ValueError: it is no safetensors file, or is cut; the text says which.
        OSError: it cannot be read.
    """
    return ARTIFACT_KEY in _metadata(file)


def is_checkpoint_file(file: Path) -> bool:
    """Whether ``file`` is a checkpoint that ``save_checkpoint`` wrote; raises as the above."""
    return CHECKPOINT_KEY in _metadata(file)


def is_tuning_state(file: Path) -> bool:
    """Whether ``file`` tells how far a tuning has come; raises as the above."""
    return TUNING_KEY in _metadata(file)


def is_bundle_manifest(file: Path) -> bool:
    """Whether ``file`` is the manifest of an exported bundle, and not another program's.

    Raises:
        ValueError: it is no JSON object; the text says what is wrong.
        OSError: it cannot be read.
    """
    return str(_manifest(file).get("format", "")).startswith(BUNDLE_FORMAT)


def bundle_files(file: Path) -> set[str]:
    """Return the names that a bundle with this manifest holds; none if it is another program's.

    Raises as :func:`is_bundle_manifest`.
    """
    listed = _manifest(file).get("files")
    if not is_bundle_manifest(file) or not isinstance(listed, dict):
        return set()
    ours = {MANIFEST, ENGINE, TIMING_CACHE, *listed}
    forms = {name.removesuffix(".onnx") for name in listed if name.endswith(".onnx")}
    # By their manifests: an engine may be missing, where a build was cut short.
    for beside in file.parent.glob("*.engine.json"):
        name = beside.name.removesuffix(".json")
        form = re.sub(rf"({DLA_PLACE})?\.engine$", "", name)
        if form in forms and _is(is_engine, beside.with_name(name)):
            ours |= {name, beside.name}
    return ours | ({RACE} if _is(is_race, file.with_name(RACE)) else set())


def _is(kind: Callable[[Path], bool], file: Path) -> bool:
    try:
        return kind(file)
    except (OSError, ValueError):
        return False


def is_picture(file: Path) -> bool:
    """Whether ``file`` is a PNG that waveedge drew; raises OSError where it cannot be read."""
    (name, text), *_ = PICTURE_TEXT.items()
    mark = f"{name}\0{text}".encode("latin-1")
    with _open(file) as stream:
        if stream.read(8) != b"\x89PNG\r\n\x1a\n":
            return False
        while len(head := stream.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"tEXt" and length == len(mark):
                return stream.read(length) == mark
            stream.seek(length + 4, os.SEEK_CUR)  # 4 bytes of checksum
    return False


def is_cost_profile(file: Path) -> bool:
    """Whether ``waveedge fit-cost`` wrote ``file``; raises OSError where it cannot be read."""
    with _open(file) as stream:
        return stream.readline(100).rstrip() == COST_PROFILE_HEADER.encode()


def is_engine(file: Path) -> bool:
    """Whether ``file`` is an engine of ``waveedge build``, or missing where its manifest is there.

    Raises OSError where the manifest cannot be read, ValueError where it is another program's.
    """
    with _open(file.with_name(f"{file.name}.json")) as stream:
        fields = json.loads(stream.read(1 << 20))
    if not isinstance(fields, dict) or not str(fields.get("format")).startswith(ENGINE_FORMAT):
        return False
    if not os.path.lexists(file):
        return True
    with _open(file) as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == fields.get("engine_sha256")


def is_race(file: Path) -> bool:
    """Whether ``file`` is the result of a race; raises OSError where it cannot be read."""
    with _open(file) as stream:
        return f'"{RACE_FORMAT}'.encode() in stream.read(1000)


def is_wheel(file: Path) -> bool:
    """Whether ``file`` is a wheel of waveedge; raises OSError where it cannot be read."""
    first = b"waveedge/__init__.py"
    with _open(file) as stream:
        head = stream.read(30 + len(first))  # a zip file's header, then its first file's name
    return head[:4] == b"PK\3\4" and head[30:] == first


def newest(
    files: Iterable[Path], is_ours: Callable[[Path], bool], warn: Callable[[str], object]
) -> Path | None:
    """Return the file that was written last of those that are ours, or None.

    Args:
        is_ours: raises ValueError or OSError where a file is broken; such files are named with
            ``warn`` and passed over, if no whole file is newer.
        warn: takes one sentence.
    """
    for file in sorted(files, key=_written, reverse=True):
        try:
            if is_ours(file):
                return file
        except FileNotFoundError:
            warn(f"{file} is passed over: it is a link to nowhere")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            warn(f"{file} is passed over: {reason}")
    return None


def _written(file: Path) -> tuple[float, str]:
    """When ``file`` was written; names break ties. What is no file might be newer than all."""
    try:
        status = file.stat()
    except OSError:
        return math.inf, str(file)
    return status.st_mtime_ns if stat.S_ISREG(status.st_mode) else math.inf, str(file)


def _open(file: Path) -> BinaryIO:
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError("it is not a regular file")
    return file.open("rb")


def _manifest(file: Path) -> dict[str, Any]:
    with _open(file) as stream:
        content = stream.read(_MANIFEST_BYTES + 1)
    if len(content) > _MANIFEST_BYTES:
        raise ValueError("it is too large for a manifest")
    return _json_object(content)


def _metadata(file: Path) -> dict[str, Any]:
    """Return the metadata of a safetensors file after checking that the file is whole."""
    with _open(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if size == 0:
            raise ValueError("it is empty")
        if size < 8 or length > min(size - 8, _HEADER_BYTES):
            raise ValueError("it is cut, or no safetensors file")
        header = _json_object(stream.read(length))
    metadata: dict[str, Any] = header.pop("__metadata__", {})
    try:
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        whole = 8 + length + end == size and isinstance(metadata, dict)
    except (KeyError, IndexError, TypeError):
        whole = False
    if not whole:
        raise ValueError("it is cut, or its header is damaged")
    return metadata


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("its JSON is damaged") from None
    if not isinstance(value, dict):
        raise ValueError("its JSON is no object")
    return value
