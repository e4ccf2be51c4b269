"""What makes an engine faster or slower where it runs, and does not keep it from running.

Power mode, JetPack and clocks: an engine's manifest and a race have those in which they were made.
Elsewhere kernels and forms that were fastest there may not be, which is said, and refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from waveedge.errors import ArtifactError
from waveedge.runtime.bundle import Bundle
from waveedge.runtime.drift import take_snapshot
from waveedge.runtime.engine_manifest import read_engine, sidecar
from waveedge.runtime.jetson import jetpack_release
from waveedge.runtime.machine import Machine, power_mode
from waveedge.runtime.race import raced_on
from waveedge.runtime.schema import shown
from waveedge.runtime.system_files import SystemFiles

__all__ = ["clocks", "engine_notes"]

_HERE = SystemFiles(Path("/"))
_SETTINGS = {"power_mode": "power mode", "jetpack": "JetPack"}


def clocks(machine: Machine, files: SystemFiles = _HERE) -> dict[str, int | None]:
    """Clocks now, in Hz, of the fastest core and the embedded GPU's fastest part; 1 where fixed.

    None where the machine does not tell.
    """
    found = take_snapshot(files).clocks
    gpu = [clock for part, clock in found.items() if part != "cpu"]
    return {
        "cpu_hz": found.get("cpu"),
        "cpu_fixed": _whole(machine.cpu_clock_fixed),
        "gpu_hz": max(gpu, default=None),
        "gpu_fixed": _whole(machine.gpu_clock_fixed),
    }


def engine_notes(bundle: Bundle, engine: Path) -> list[str]:
    """What to say before an engine of a bundle runs: that the board is set otherwise now.

    Args:
        bundle: whose engine was chosen to run.
        engine: that engine.
    """
    here = _settings()
    again = f"waveedge build {bundle.path}"
    notes = []
    if found := _differences(_built_on(engine), here):
        notes.append(
            f"{engine} was built in {found}: its kernels were chosen for the former. "
            f"Build it again: {again} --again"
        )
    if found := _differences(raced_on(bundle), here):
        notes.append(
            f"{bundle.path} was raced in {found}: another form may be fastest now. "
            f"Race again: {again} --race"
        )
    return notes


def _settings() -> dict[str, str | None]:
    return {"power_mode": power_mode(_HERE), "jetpack": jetpack_release(_HERE)}


def _built_on(engine: Path) -> Mapping[str, Any]:
    try:
        return read_engine(engine) if sidecar(engine).is_file() else {}
    except ArtifactError:  # of a bundle's own engine this was said before
        return {}


def _differences(then: Mapping[str, Any], here: Mapping[str, str | None]) -> str:
    """``power mode 15W, and here is MAXN``; empty where nothing that is known differs."""
    return "; ".join(
        f"{what} {shown(then[field])}, and here is {shown(known)}"
        for field, what in _SETTINGS.items()
        if (known := here[field]) and isinstance(then.get(field), str) and then[field] != known
    )


def _whole(fixed: bool | None) -> int | None:
    return None if fixed is None else int(fixed)
