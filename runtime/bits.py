"""Requested and executed bits of what runs, for reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from waveedge.runtime.figures import Bits

__all__ = ["bits_of", "distinct_bits", "has_integers"]

_FLOAT_BITS = 32


def bits_of(path: Path, manifest: Mapping[str, Any] | None) -> Bits | None:
    """Summarise a bundle's layers: every distinct pair of bits, widest first.

    An engine may be of another form than the manifest describes: floating point, or float16 around
    the integers; what it executes was read from it when it was built.

    Args:
        path: what runs: the bundle's ONNX file, or an engine.
        manifest: the bundle's; None for a file without a bundle.
    """
    if manifest is None or not manifest["layers"]:
        return None
    form = _form_of(path, manifest)
    inspected = _inspected(path)
    float_bits = {"float32": 32}.get(form["precision"], 16) if form else None
    if form is not None and _network(form) != _network(_own_form(manifest) or form):
        return Bits("w32a32", inspected or f"w{float_bits}a{float_bits}")
    layers = manifest["layers"]

    def text(kind: str) -> str:
        pairs = []
        for layer in layers:
            bits = layer[kind]["weight_bits"], layer[kind]["activation_bits"]
            if kind == "executed" and float_bits is not None and min(bits) > 8:
                bits = float_bits, float_bits
            pairs.append(bits)
        return distinct_bits(pairs)

    return Bits(text("requested"), inspected or text("executed"))


def distinct_bits(pairs: Iterable[Sequence[int]]) -> str:
    """Every distinct pair of weight and activation bits, widest first: ``w16a16, w8a8``."""
    distinct = sorted({(weight, activation) for weight, activation in pairs}, reverse=True)
    return ", ".join(f"w{weight}a{activation}" for weight, activation in distinct)


def has_integers(form: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether a form of a bundle has quantizers: those of the network as it was compressed."""
    own = _own_form(manifest)
    if own is None or _network(form) != _network(own):
        return False
    asked = (layer["requested"] for layer in manifest["layers"])
    return any(min(one["weight_bits"], one["activation_bits"]) < _FLOAT_BITS for one in asked)


def _inspected(path: Path) -> str:
    """What the inspector read from an engine when it was built; empty where nothing did."""
    from waveedge.runtime.engine_manifest import read_engine, sidecar

    if path.suffix != ".engine" or not sidecar(path).is_file():
        return ""
    return distinct_bits(read_engine(path)["executed"].values())


def _form_of(engine: Path, manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The form that an engine of a bundle was built from."""
    from waveedge.runtime.engine_manifest import onnx_of

    if engine.suffix != ".engine":
        return None
    onnx = onnx_of(engine)
    return next((form for form in manifest["forms"] if form["file"] == onnx), None)


def _own_form(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((form for form in manifest["forms"] if form["file"] == manifest["model"]), None)


def _network(form: Mapping[str, Any]) -> str:
    return str(form["name"]).rpartition("-")[0]
