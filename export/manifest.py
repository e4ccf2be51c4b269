"""The bundle's table of contents, by the schema that the runtime reads it with."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx

import waveedge
from waveedge.files import sha256
from waveedge.runtime.manifest import FORMAT, seal
from waveedge.runtime.sizes import SizeRange
from waveedge.spec import ModelSpec

__all__ = ["IMAGES", "MODEL", "PUBLISHED", "make_manifest", "tensor_info", "write_json"]

MODEL, PUBLISHED, IMAGES = "model.onnx", "published.onnx", "images.npy"
"""Files of a bundle; not every bundle has the last two."""

_PACKAGES = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxsim", "onnxruntime", "numpy")


def make_manifest(
    folder: Path,
    *,
    name: str,
    target: str,
    provider: str,
    precision: str,
    spec: ModelSpec | None,
    graph: onnx.ModelProto,
    sizes: SizeRange | None,
    baseline: str | None,
    engine: str | None,
    recipe: dict[str, Any] | None,
    autotune: dict[str, Any] | None,
    forms: list[dict[str, Any]],
    images: str | None,
    layers: list[dict[str, Any]],
    source_sha256: str,
    artifact_sha256: str | None,
    notes: list[str],
) -> dict[str, Any]:
    """Describes the files that stand in ``folder``; every one of them is hashed, and the rest.

    Raises:
        ArtifactError: a field is out of the bounds that a reader of bundles has.
    """
    fields = {
        "format": FORMAT,
        "name": name,
        "target": target,
        "task": spec.task if spec is not None else "unknown",
        "model": MODEL,
        "baseline": baseline,
        "engine": engine,
        "provider": provider,
        "precision": precision,
        "weights": _weight_encoding(graph),
        "input": {**tensor_info(graph.graph.input[0]), "dtype": "float32"},
        "sizes": sizes.to_dict() if sizes is not None else None,
        "outputs": [tensor_info(output) for output in graph.graph.output],
        "preprocessing": spec.preprocessing.model_dump(mode="json") if spec is not None else None,
        "recipe": recipe,
        "autotune": autotune,
        "forms": forms,
        "images": images,
        "layers": layers,
        "files": {file.name: sha256(file) for file in sorted(folder.iterdir()) if file.is_file()},
        "versions": _versions(),
        "source_sha256": source_sha256,
        "artifact_sha256": artifact_sha256,
        "verification": "verification.json",
        "notes": notes,
    }
    return seal(fields)


def _weight_encoding(graph: onnx.ModelProto) -> str:
    """How the weights of quantized layers are stored; float32 where there are none."""
    names = {onnx.TensorProto.INT8: "int8", onnx.TensorProto.UINT8: "uint8"}
    kinds = {t.data_type for t in graph.graph.initializer if len(t.dims) > 1}
    return next((name for kind, name in names.items() if kind in kinds), "float32")


def tensor_info(value: onnx.ValueInfoProto) -> dict[str, Any]:
    """Name and shape of a graph's input or output; a dynamic dimension is its name, or "axisN"."""
    shape = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"axis{axis}"
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
    ]
    return {"name": value.name, "shape": shape}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON for people and programs: indented, in the order given."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {"waveedge": waveedge.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        found[package] = metadata.version(package)
    return found
