"""The machine of a result file, down to what decides how fast int8 is."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from waveedge.runtime.machine import describe_machine

__all__ = ["describe", "describe_versions", "name_of", "same_machine"]

PACKAGES = ("waveedge", "torch", "onnx", "onnxruntime", "openvino", "numpy", "tensorrt_rtx_cu13")

Machine = dict[str, Any]

_CPU = {"family": "cpu family", "model": "model", "stepping": "stepping"}
_IDENTITY = ("cpu", *_CPU, "cores", "isa")


def describe(root: Path = Path("/")) -> Machine:
    """Describe this machine: the fields of ``describe_machine``, and family, model and stepping.

    A processor's name may be as vague as "AMD EPYC"; the numbers tell its generation. They are None
    where the system does not give them, as on Arm.

    Args:
        root: where ``/proc`` and ``/sys`` are; tests give another.
    """
    cpuinfo: dict[str, str] = {}
    path = root / "proc/cpuinfo"
    for line in path.read_text().splitlines() if path.is_file() else ():
        key, _, value = line.partition(":")
        cpuinfo.setdefault(key.strip(), value.strip())  # the first core's
    numbers = {ours: cpuinfo.get(theirs) for ours, theirs in _CPU.items()}
    return {
        **describe_machine(root).to_dict(),
        **{name: int(text) if text and text.isdigit() else None for name, text in numbers.items()},
    }


def same_machine(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether figures from both may stand in one table: processor and cores are the same."""
    return all(one.get(field) == other.get(field) for field in _IDENTITY)


def name_of(machine: Mapping[str, Any]) -> str:
    """A machine in one line, for readers."""
    numbers = [f"{name} {machine[name]}" for name in _CPU if machine.get(name) is not None]
    flags = ", ".join(machine["isa"]) or "no vector extensions known"
    return f"{', '.join([machine['cpu'], *numbers])}, {machine['cores']} cores ({flags})"


def describe_versions() -> dict[str, str]:
    """Versions of the packages that a measurement depends on, as far as they are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
