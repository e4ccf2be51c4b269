"""What a reader of a benchmark must know to trust its figures."""

from __future__ import annotations

import os

from waveedge.runtime.session import Session

__all__ = ["busy", "foreign_target", "without_energy", "without_events"]


def busy(cores: int) -> list[str]:
    """Say that a machine of so many cores had other work."""
    if not hasattr(os, "getloadavg"):
        return []
    load = os.getloadavg()[0]
    # One busy core is what a shell that just finished an export looks like.
    return (
        [f"The machine was busy (load {load:.1f} on {cores} cores): times are not its best."]
        if load > 0.5 * cores + 1
        else []
    )


def foreign_target(side: str, session: Session) -> list[str]:
    """Warn where a graph made for TensorRT was timed on onnxruntime."""
    target = session.manifest["target"] if session.manifest is not None else ""
    if not target.startswith("trt") or session.path.suffix not in (".onnx", ".ort"):
        return []
    return [
        f"{side} was exported for {target} and ran on onnxruntime: these times say nothing about "
        "the engine's. Measure on the device, or export with --target ort for this machine."
    ]


def without_events(side: str, session: Session) -> list[str]:
    """Say what the time of a GPU's run is where nothing marks its parts, as in engines alone."""
    if not session.on_gpu or session.engine is not None:
        return []
    return [
        f"{side} ran on a GPU without CUDA events: its wall time is from arrays on the host to "
        "outputs on the host, copies and waiting included, and its time on the GPU is not known."
    ]


def without_energy(*reasons: str) -> list[str]:
    """Say why there is no energy of a side, by the reasons of all; both mostly lack one thing."""
    if len(set(reasons)) == 1:
        return [f"No energy: {reasons[0]}."] if reasons[0] else []
    return [f"No energy of {side}: {why}." for side, why in zip("AB", reasons, strict=True) if why]
