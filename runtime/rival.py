"""What a bundle is compared with: its network as published, as fast as this device runs it.

On a GPU that is no engine in float32: whoever has TensorRT builds in float16 first, and a ratio to
anything slower would be of that as much as of the compression.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from waveedge.errors import ArtifactError
from waveedge.runtime.bits import bits_of
from waveedge.runtime.bundle import Bundle, open_bundle
from waveedge.runtime.figures import Bits, Variant
from waveedge.runtime.manifest import OPENVINO

__all__ = ["Rival", "form_of", "rival_of"]


@dataclass(frozen=True)
class Rival:
    """A bundle's network as published.

    Attributes:
        path: its ONNX file, or an engine where the bundle itself runs as one.
        bundle: where it lies.
        note: why that form is not the one to expect; empty where it is.
    """

    path: Path
    bundle: Bundle
    note: str = ""

    def named(self, side: Variant) -> Variant:
        """What was measured of its file, which by itself knows neither its role nor its bits."""
        manifest = self.bundle.manifest
        form, precision = form_of(self.path, manifest)
        bits = bits_of(self.path, manifest) if self.path.suffix == ".engine" else None
        return replace(
            side,
            name="published",
            form=form,
            precision=side.precision or precision or "float32",
            bits=bits or Bits("w32a32", "w32a32"),
        )


def rival_of(network: object, provider: str) -> Rival | None:
    """What to compare a bundle with; None for anything else, and a bundle that carries nothing.

    Where an engine runs the bundle, it is a published one: the fastest that a race here admitted;
    without a race that in float16, if it lies here, fits, and is as near the network as what it is
    compared with; else that in float32.

    Args:
        network, provider: as for ``benchmark``.

    Raises:
        ArtifactError: the bundle is damaged, or none of its published engines fits this device.
    """
    if not isinstance(network, str | Path) or not os.path.isdir(network):
        return None
    bundle = open_bundle(network)
    if bundle.baseline is None:
        return None
    if provider in ("auto", "engine"):
        from waveedge.runtime.engine import can_run_engines
        from waveedge.runtime.race import chosen_engine

        if can_run_engines() and (bundle.engine or chosen_engine(bundle)) is not None:
            return _engine(bundle, bundle.baseline)
    return Rival(bundle.baseline, bundle)


def form_of(path: Path, manifest: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """Form and floating-point precision of a file that ran; None of what is not known.

    Args:
        path: an ONNX file or an engine.
        manifest: of its bundle.
    """
    from waveedge.runtime.engine_manifest import onnx_of, read_engine, sidecar

    onnx = onnx_of(path)
    if manifest is not None:
        for form in manifest["forms"]:
            if form["file"] == onnx:
                return form["name"], form["precision"]
        as_written = manifest["provider"] not in OPENVINO  # which rounds as it compiles
        return None, manifest["precision"] if onnx == manifest["model"] and as_written else None
    try:
        known = path.suffix == ".engine" and sidecar(path).is_file()
        return None, str(read_engine(path)["precision"]) if known else None
    except ArtifactError:  # beside an engine that was named itself, and is nobody's
        return None, None


def _engine(bundle: Bundle, baseline: Path) -> Rival:
    from waveedge.runtime.engine_manifest import engine_of

    problems: list[ArtifactError] = []
    missing = ""
    for form, core in _candidates(bundle, baseline):
        try:
            engine = engine_of(bundle, form["file"], core)
        except ArtifactError as error:
            problems.append(error)
            missing = missing or error.what
            continue
        if engine is not None:
            note = f"B is {form['name']}: {missing}." if missing else ""
            return Rival(engine, bundle, note)
        missing = missing or (
            f"there is no engine of {form['name']} here (waveedge build {bundle.path} "
            f"--form {form['name']})"
        )
    if problems:
        raise problems[-1]
    return Rival(baseline, bundle, f"B is {baseline.name}: {missing}.")


def _candidates(bundle: Bundle, baseline: Path) -> Iterator[tuple[Mapping[str, Any], int | None]]:
    """Published forms, each with the DLA core that runs it, the best one first."""
    from waveedge.runtime.race import admitted_here, least_quality

    forms = {form["file"]: form for form in bundle.manifest["forms"]}
    own = forms.get(baseline.name)
    if own is None:
        own = {"name": "published-float32", "file": baseline.name}
    network = own["name"].rpartition("-")[0]
    for file, core in admitted_here(bundle):
        if file in forms and forms[file]["name"].rpartition("-")[0] == network:
            yield forms[file], core
    least = least_quality(bundle)
    for form in forms.values():
        half = form["name"].rpartition("-") == (network, "-", "float16")
        if half and form["snr_db"] >= least:
            yield form, None
    yield own, None
