"""Engines that were built on this device, each with a manifest of its own beside it.

``model.engine`` of a bundle has ``model.engine.json``: what it was built from, by what, and for
which GPU. ``model.dla0.engine``, of the same form, is for a deep learning accelerator. An engine
fits one TensorRT version and one GPU model; TensorRT loads one of another model with a warning
alone, so that this is checked here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from waveedge.errors import ArtifactError
from waveedge.files import sha256
from waveedge.filetypes import DLA_PLACE, ENGINE_FORMAT
from waveedge.runtime.bundle import Bundle
from waveedge.runtime.cuda import compute_capabilities, gpu_name
from waveedge.runtime.dla import MOST_LETTERS, MOST_NAMES
from waveedge.runtime.manifest import FLOATS
from waveedge.runtime.schema import (
    ListOf,
    MapOf,
    Nullable,
    Real,
    Record,
    SchemaError,
    Text,
    Whole,
    shown,
)

__all__ = [
    "device_of",
    "dla_core",
    "engine_cores",
    "engine_name",
    "engine_of",
    "engine_path",
    "engines_of",
    "onnx_of",
    "read_engine",
    "seal_engine",
    "sidecar",
]

_FORMAT = f"{ENGINE_FORMAT}4"
_MOST_BYTES = 16 * 2**20
_HASH = Text(64, r"[0-9a-f]{64}", "a SHA-256 of 64 hexadecimal digits")
_SCHEMA = Record(
    {
        "format": Text(40),
        "onnx": Text(255),
        "onnx_sha256": _HASH,
        "engine_sha256": _HASH,
        "precision": FLOATS,
        "library": Text(100),
        "gpu": Nullable(Text(200)),
        "compute_capability": Nullable(Text(20)),
        "profile": ListOf(ListOf(Whole(0, 2**31 - 1), most=16), most=3),
        "snr_db": Nullable(Real(-1000, 1000)),
        "power_mode": Nullable(Text(100)),
        "jetpack": Nullable(Text(100)),
        "clocks": Record(
            {
                "cpu_hz": Nullable(Whole(1, 10**12)),
                "cpu_fixed": Nullable(Whole(0, 1)),
                "gpu_hz": Nullable(Whole(1, 10**12)),
                "gpu_fixed": Nullable(Whole(0, 1)),
            }
        ),
        "layers": Whole(0, 10**6),
        # Layer -> weight and activation bits, of those layers that the inspector tells of.
        "executed": MapOf(Text(1000), ListOf(Whole(1, 64), most=2, least=2), most=10_000),
        "dla": Nullable(
            Record(
                {
                    "core": Whole(0, 63),
                    "on_dla": Whole(0, 10**6),
                    "on_gpu": ListOf(Text(MOST_LETTERS), most=MOST_NAMES),
                }
            )
        ),
    }
)


def engine_path(bundle: Bundle, onnx: str, core: int | None = None) -> Path:
    """Where the engine of one of a bundle's ONNX files lies: the GPU's, or that of a DLA core."""
    return bundle.path / engine_name(onnx, core)


def engine_name(onnx: str, core: int | None = None) -> str:
    """The file name of the engine of an ONNX file, for the GPU or for a DLA core."""
    place = "" if core is None else f".dla{core}"
    return f"{onnx.removesuffix('.onnx')}{place}.engine"


def onnx_of(engine: Path) -> str:
    """The name of the ONNX file that an engine of a bundle was built from."""
    return re.sub(rf"({DLA_PLACE})?\.engine$", ".onnx", engine.name)


def sidecar(engine: Path) -> Path:
    """Where an engine's manifest lies."""
    return engine.with_name(f"{engine.name}.json")


def device_of(library: str) -> dict[str, str | None]:
    """What an engine is bound to: the version of a TensorRT library here, and the first GPU."""
    capabilities = compute_capabilities()
    return {
        "library": f"{library} {import_module(library).__version__}",
        "gpu": gpu_name(),
        "compute_capability": capabilities[0] if capabilities else None,
    }


def engines_of(bundle: Bundle, onnx: str) -> list[Path]:
    """All engines of one of a bundle's ONNX files: the GPU's first, then those of DLA cores.

    Raises as :func:`engine_of`.
    """
    found = (engine_of(bundle, onnx, core) for core in engine_cores(bundle, onnx))
    return [engine for engine in found if engine is not None]


def engine_cores(bundle: Bundle, onnx: str) -> list[int | None]:
    """For what an engine of one of a bundle's ONNX files may lie there, fitting or not.

    None is the GPU, numbers are DLA cores.
    """
    files = bundle.path.glob(f"{onnx.removesuffix('.onnx')}.dla*.engine")
    places = (re.search(rf"{DLA_PLACE}\.engine$", file.name) for file in files)
    return [None, *sorted(int(place[1]) for place in places if place is not None)]


def engine_of(bundle: Bundle, onnx: str, core: int | None = None) -> Path | None:
    """The engine of one of a bundle's ONNX files, as ``waveedge build`` left it; None without one.

    Args:
        core: of the deep learning accelerator that it is for; None for the GPU.

    Raises:
        ArtifactError: there is one that does not fit this device, or is not what was built; the
            message says why, and the hint how to build it again.
    """
    engine = engine_path(bundle, onnx, core)
    if not engine.is_file():
        return None
    again = f"Build it again here: waveedge build {bundle.path}"
    again += "" if core is None else f" --dla {core}"
    if not sidecar(engine).is_file():
        raise ArtifactError(
            f"{engine} has no manifest: nothing tells for which device it was built",
            hint=f"{again}. Or name the engine's own file.",
        )
    found = read_engine(engine)
    wanted = bundle.manifest["files"][onnx]
    if found["onnx_sha256"] != wanted:
        raise ArtifactError(f"{engine} was built from another {onnx} than lies here", hint=again)
    if found["engine_sha256"] != sha256(engine):
        raise ArtifactError(
            f"{engine} is damaged: its SHA-256 is not the one built", hint=f"{again} --overwrite"
        )
    here = device_of(str(found["library"]).partition(" ")[0])
    for field, name in (
        ("library", "by"),
        ("gpu", "for the GPU"),
        ("compute_capability", "for compute capability"),
    ):
        if found[field] != here[field]:
            raise ArtifactError(
                f"{engine} was built {name} {shown(str(found[field]))}, and here is "
                f"{shown(str(here[field]))}",
                hint=again,
            )
    return engine


def dla_core(engine: Path) -> int | None:
    """Which deep learning accelerator an engine was built for; None for the GPU alone."""
    if not sidecar(engine).is_file():
        return None
    try:
        placement = read_engine(engine)["dla"]
    except ArtifactError:  # nobody's, or of another version: whoever asks for a bundle's is told
        return None
    return int(placement["core"]) if placement is not None else None


def seal_engine(fields: Mapping[str, Any]) -> str:
    """Return the text of an engine's manifest.

    Raises:
        ArtifactError: a reader would refuse it; the message names the field.
    """
    manifest = {"format": _FORMAT, **fields}
    try:
        _SCHEMA(manifest, "")
    except SchemaError as error:
        raise ArtifactError(f"the engine cannot be described: {error}") from error
    return json.dumps(manifest, indent=2) + "\n"


def read_engine(engine: Path) -> Mapping[str, Any]:
    """Read an engine's manifest.

    Raises:
        ArtifactError: it cannot be read, or breaks its schema.
    """
    file = sidecar(engine)
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise SchemaError("it is larger than 16 MiB")
        fields = json.loads(content.decode())
        if isinstance(fields, dict) and fields.get("format") != _FORMAT:
            raise SchemaError(f"its format is not {_FORMAT}")
        _SCHEMA(fields, "")
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{file} is damaged or edited: {error}", hint="Build the engine again: waveedge build"
        ) from error
    checked: Mapping[str, Any] = fields
    return checked
