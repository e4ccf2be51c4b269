"""Engines of a bundle's forms, built and checked on the device that shall run them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from waveedge.errors import (
    ArtifactError,
    InputError,
    MissingDependencyError,
    OutputError,
    WaveedgeError,
)
from waveedge.files import sha256
from waveedge.filetypes import TIMING_CACHE, is_engine
from waveedge.outputs import ENGINE, new_file
from waveedge.runtime.built import Built
from waveedge.runtime.bundle import Bundle, open_bundle
from waveedge.runtime.conditions import clocks
from waveedge.runtime.cuda import gpu_count
from waveedge.runtime.engine import EngineBackend
from waveedge.runtime.engine_builder import (
    MAX_BATCH,
    Backend,
    Build,
    Settings,
    build_engine,
    require_backend,
    require_version,
)
from waveedge.runtime.engine_check import compare
from waveedge.runtime.engine_layers import executed_bits, read_layers
from waveedge.runtime.engine_manifest import (
    device_of,
    engine_of,
    engine_path,
    read_engine,
    seal_engine,
    sidecar,
)
from waveedge.runtime.machine import describe_machine
from waveedge.runtime.sizes import SizeRange

__all__ = ["build"]

_LIBRARIES: dict[str, Backend] = {"trt": "tensorrt", "trt-rtx": "tensorrt_rtx"}

Progress = Callable[[str, int, int], None]
Form = Mapping[str, Any]
"""Of the bundle's manifest."""


def build(
    folder: str | Path,
    *,
    forms: Sequence[str] = (),
    settings: Settings | None = None,
    again: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Built]:
    """Build the engines of a bundle here, and compare each with its form on the bundle's images.

    An engine that lies here and fits is kept, so that a build that was cut short goes on.

    Args:
        folder: a bundle for TensorRT.
        forms: names of forms; all of them by default, and then one that cannot be built holds back
            no other.
        again: build those that fit, too.
        settings: how the builder works. The timing cache is the bundle's own.
        overwrite: replace engines that waveedge did not build, too.
        progress: called with (what is being done, steps done, steps in all).

    Raises:
        InputError: the bundle is for another target, or has no such form, or no such batch.
        ArtifactError: it is damaged.
        MissingDependencyError: TensorRT, a GPU or the DLA asked for is missing here, or TensorRT is
            too old.
        VerificationError: an engine computes something else; it is not kept.
        OutputError: an engine must not be replaced, or cannot be written.
        WaveedgeError: TensorRT refuses the graph of a form that was named, or all.
    """
    bundle = open_bundle(folder)
    library = _LIBRARIES.get(str(bundle.manifest["target"]))
    if library is None:
        raise InputError(
            f"{folder} was exported for {bundle.manifest['target']}, which needs no engine",
            hint="Export it for TensorRT: waveedge export --target trt",
        )
    settings = settings or Settings()
    core = settings.dla_core
    if core is not None and library == "tensorrt_rtx":
        raise InputError(
            f"{folder} is for TensorRT-RTX, which runs on desktop GPUs: these have no DLA",
            hint="Export it with --target trt for a Jetson.",
        )
    _require_batch(bundle, settings.opt_batch)
    require_version(library)
    require_backend(library)
    if gpu_count() == 0:
        raise MissingDependencyError(
            "there is no NVIDIA GPU here, and engines are checked where they are built",
            hint="Run this on the device that shall run them.",
        )
    chosen = _chosen(bundle, forms)
    built = []
    failure: WaveedgeError | None = None
    for number, form in enumerate(chosen):
        if progress is not None:
            progress("building", number, len(chosen))
        kept = _shipped(bundle, form, core) or (None if again else _kept(bundle, form, settings))
        try:
            built.append(kept or _build(bundle, library, form, settings, overwrite))
        except OutputError:
            raise
        except WaveedgeError as error:
            if forms:
                raise
            failure = failure or error
            engine = engine_path(bundle, form["file"], core)
            built.append(
                Built(form["name"], engine, form["file"], form["precision"], error=error.what)
            )
    if progress is not None:
        progress("building", len(chosen), len(chosen))
    if failure is not None and all(one.error for one in built):
        raise failure
    return built


def _shipped(bundle: Bundle, form: Form, core: int | None) -> Built | None:
    """The engine that export built and the bundle's manifest vouches for."""
    engine = engine_path(bundle, form["file"], core)
    if engine.name not in bundle.manifest["files"]:
        return None
    size = engine.stat().st_size
    return Built(
        form["name"], engine, form["file"], form["precision"], engine_bytes=size, reused=True
    )


def _require_batch(bundle: Bundle, batch: int | None) -> None:
    """Refuse to tune for a batch that engines of the bundle do not take."""
    if batch is None:
        return
    fixed = bundle.manifest["input"]["shape"][0]
    if isinstance(fixed, int):
        raise InputError(
            f"{bundle.path} takes a batch of {fixed} and no other: there is none to tune for",
            hint="Export it with --batch dynamic.",
        )
    if not 1 <= batch <= MAX_BATCH:
        raise InputError(f"opt-batch is {batch}", hint=f"Engines take 1 to {MAX_BATCH} images.")


def _kept(bundle: Bundle, form: Form, settings: Settings) -> Built | None:
    """The engine that lies here, if it fits, and is tuned for the batch asked for, if any is."""
    try:
        engine = engine_of(bundle, form["file"], settings.dla_core)
    except ArtifactError:
        return None
    if engine is None:
        return None
    usual = read_engine(engine)["profile"][1:2]
    if settings.opt_batch is not None and usual and usual[0][0] != settings.opt_batch:
        return None
    return Built.of_manifest(form["name"], engine, read_engine(engine), reused=True)


def _chosen(bundle: Bundle, names: Sequence[str]) -> list[Form]:
    known = {form["name"]: form for form in bundle.manifest["forms"]}
    for name in names:
        if name not in known:
            raise InputError(
                f"{bundle.path} has no form {name!r}", hint=f"It has: {', '.join(known)}."
            )
    return [form for name, form in known.items() if not names or name in names]


def _build(
    bundle: Bundle, library: Backend, form: Form, settings: Settings, overwrite: bool
) -> Built:
    cache = bundle.path / TIMING_CACHE
    if library == "tensorrt" and cache.is_file():
        settings = replace(settings, timing_cache=cache.read_bytes())
    onnx = str(form["file"])
    engine = engine_path(bundle, onnx, settings.dla_core)
    for file in (engine, sidecar(engine)):
        if os.path.lexists(file) and not overwrite and not _is_ours(engine):
            raise OutputError(
                f"{file} exists, and was not built by waveedge",
                hint="Move it elsewhere, or replace it with --overwrite.",
            )
    made = build_engine(
        (bundle.path / onnx).read_bytes(),
        library,
        SizeRange.of_manifest(bundle.manifest),
        settings,
    )
    if made.engine is None:
        raise WaveedgeError(
            f"{made.backend} does not build the form {form['name']}: {'; '.join(made.errors[:3])}",
            hint="Leave it out: name the others with --form.",
        )
    if made.timing_cache:
        with new_file(cache, ENGINE, overwrite=True) as temporary:
            temporary.write_bytes(made.timing_cache)
    with new_file(engine, ENGINE, overwrite=True) as temporary:
        temporary.write_bytes(made.engine)
        backend = EngineBackend(temporary, dla_core=settings.dla_core)
        quality = compare(bundle, form, backend)
        layers = read_layers(backend.information())
        executed = executed_bits(layers, [layer["name"] for layer in bundle.manifest["layers"]])
        fields = _manifest(bundle, library, form, made, quality)
        fields |= {"layers": len(layers), "dla": _dla(made)}
        fields["executed"] = {name: list(bits) for name, bits in executed.items()}
        # Before the engine has its name, and with none in its place: one without a manifest, or
        # with that of another, would be nobody's.
        if os.path.isfile(engine) and not os.path.islink(engine):
            engine.unlink()
        with new_file(sidecar(engine), ENGINE, overwrite=True) as beside:
            beside.write_text(seal_engine(fields), encoding="utf-8")
    return Built.of_manifest(form["name"], engine, fields)


def _dla(made: Build) -> dict[str, Any] | None:
    placed = made.placement
    return None if placed is None else {**vars(placed), "on_gpu": list(placed.on_gpu)}


def _is_ours(engine: Path) -> bool:
    try:
        return is_engine(engine)
    except (OSError, ValueError):
        return False


def _manifest(
    bundle: Bundle, library: Backend, form: Form, made: Build, quality: float | None
) -> dict[str, Any]:
    onnx = str(form["file"])
    machine = describe_machine()
    return {
        "onnx": onnx,
        "onnx_sha256": sha256(bundle.path / onnx),
        "engine_sha256": hashlib.sha256(made.engine or b"").hexdigest(),
        "precision": form["precision"],
        **device_of(library),
        "profile": [list(shape) for shape in made.profile],
        "snr_db": quality,
        "power_mode": machine.power_mode,
        "jetpack": machine.jetpack,
        "clocks": clocks(machine),
    }
