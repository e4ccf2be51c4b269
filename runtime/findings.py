"""What there is on a machine to run bundles with: libraries, the Python at hand, memory, disk."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from waveedge.runtime import jetson
from waveedge.runtime.libraries import Library, find_libraries
from waveedge.runtime.machine import Machine, describe_machine, memory
from waveedge.runtime.sensors import describe_sensor
from waveedge.runtime.system_files import SystemFiles

__all__ = ["Findings", "Python", "find", "this_python"]

_TRTEXEC = "usr/src/tensorrt/bin/trtexec"
_NVIDIA, _DISPLAY = "0x10de", "0x03"


@dataclass(frozen=True)
class Python:
    """The Python that waveedge runs in.

    Attributes:
        version: such as 3.10.
        venv: whether it is a virtual environment.
        sees_system: whether packages of the system's Python can be imported.
        managed: whether pip refuses to install here (PEP 668).
        pip: how a shell calls the pip that installs here.
    """

    version: str
    venv: bool
    sees_system: bool
    managed: bool
    pip: str = "pip"


@dataclass(frozen=True)
class Findings:
    """What was found; None where it is not known.

    Attributes:
        machine: the hardware and its settings.
        architecture: of the processor, such as aarch64.
        python: the Python at hand.
        libraries: what came of importing each, by name.
        tensorrt: version of TensorRT's libraries among the system's own.
        bindings: versions of Python for which the system has TensorRT's bindings.
        trtexec: whether TensorRT's builder is among the system's programs.
        cuda_toolkit: version of the CUDA toolkit.
        card: whether an NVIDIA card is on the PCI bus, with a driver or without.
        container: whether this is one.
        may_use_gpu: whether this user is in the group that owns a Jetson's GPU, or root.
        power_modes: of nvpmodel.
        fan: the fan.
        memory_free: bytes that programs can still get.
        swap: bytes of swap space; 0 where there is none.
        swap_free: bytes of it that are free.
        disk_free: bytes that this user can still write in the working folder.
        power_sensor: what measures power here, and by what.
        no_power_sensor: why nothing does; empty where something does.
    """

    machine: Machine
    architecture: str
    python: Python
    libraries: Mapping[str, Library]
    tensorrt: str | None
    bindings: tuple[str, ...]
    trtexec: bool
    cuda_toolkit: str | None
    card: bool
    container: bool
    may_use_gpu: bool
    power_modes: jetson.PowerModes
    fan: jetson.Fan | None
    memory_free: int | None
    swap: int | None
    swap_free: int | None
    disk_free: int | None
    power_sensor: str | None
    no_power_sensor: str

    @property
    def jetson(self) -> bool:
        """Whether the machine is one of NVIDIA's embedded boards."""
        return self.machine.l4t is not None or "jetson" in (self.machine.board or "").lower()


def find(
    root: Path = Path("/"),
    *,
    libraries: Mapping[str, Library] | None = None,
    python: Python | None = None,
    architecture: str | None = None,
) -> Findings:
    """Look around; a fact that cannot be had is None, and nothing is raised.

    Args:
        root: the folder that stands for ``/``; tests give another.
        libraries, python, architecture: what to take for found instead of this process's own.
    """
    files = SystemFiles(root)
    libraries = find_libraries() if libraries is None else libraries
    runtime = libraries["onnxruntime"].version
    sensor, no_sensor = describe_sensor(root)
    return Findings(
        machine=describe_machine(root, onnxruntime=lambda: runtime),
        architecture=architecture or platform.machine(),
        python=python or this_python(),
        libraries=libraries,
        tensorrt=_tensorrt(files),
        bindings=_bindings(files),
        trtexec=files.holds(_TRTEXEC) or (files.is_own and shutil.which("trtexec") is not None),
        cuda_toolkit=_cuda_toolkit(files),
        card=_has_card(files),
        container=files.holds(".dockerenv") or files.holds("run/.containerenv"),
        may_use_gpu=_may_use_gpu(files),
        power_modes=jetson.power_modes(files),
        fan=jetson.fan(files),
        memory_free=memory(files, "MemAvailable"),
        swap=memory(files, "SwapTotal"),
        swap_free=memory(files, "SwapFree"),
        disk_free=_disk_free(Path() if files.is_own else root),
        power_sensor=sensor,
        no_power_sensor=no_sensor,
    )


def this_python() -> Python:
    """Describe the Python that runs this."""
    venv = sys.prefix != sys.base_prefix
    settings = SystemFiles(Path(sys.prefix)).text("pyvenv.cfg") or ""
    shared = re.search(r"^include-system-site-packages *= *true", settings, re.M | re.I)
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    return Python(
        version=f"{sys.version_info.major}.{sys.version_info.minor}",
        venv=venv,
        sees_system=not venv or shared is not None,
        managed=not venv and marker.exists(),
        pip=_pip(Path(sys.executable)),
    )


def _pip(python: Path) -> str:
    """By its name alone only where that finds it: an environment need not be activated."""
    found = shutil.which("pip")
    if found is not None and Path(found).parent == python.parent:
        return "pip"
    return f"{shlex.quote(str(python))} -m pip"


def _tensorrt(files: SystemFiles) -> str | None:
    """By the names of its files, as packages, archives and containers all lay them there."""
    versions = []
    for folder in ("usr/lib/*-linux-gnu", "usr/local/tensorrt/lib", "usr/lib64"):
        for name in files.names(f"{folder}/libnvinfer.so.*"):
            if found := re.search(r"\.so\.(\d{1,3}(?:\.\d{1,3}){1,3})$", name):
                versions.append(tuple(int(part) for part in found[1].split(".")))
    return ".".join(map(str, max(versions))) if versions else None


def _bindings(files: SystemFiles) -> tuple[str, ...]:
    found = files.names("usr/lib/python3*/dist-packages/tensorrt/__init__.py")
    versions = (re.match(r"usr/lib/python(3(?:\.\d+)?)/", name) for name in found)
    return tuple(version[1] for version in versions if version)


def _cuda_toolkit(files: SystemFiles) -> str | None:
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        version = json.loads(files.text("usr/local/cuda/version.json") or "")["cuda"]["version"]
        if re.fullmatch(r"[\d.]{1,20}", version):
            return str(version)
    # Of CUDA 10, as JetPack 4 has it.
    found = re.match(r"CUDA Version ([\d.]{1,20})$", files.line("usr/local/cuda/version.txt") or "")
    return found[1] if found else None


def _has_card(files: SystemFiles) -> bool:
    return any(
        files.line(f"{folder}/vendor") == _NVIDIA
        and (files.line(f"{folder}/class") or "").startswith(_DISPLAY)
        for folder in files.names("sys/bus/pci/devices/*")
    )


def _may_use_gpu(files: SystemFiles) -> bool:
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        return True
    numbers = re.findall(
        r"^(?:video|render):[^:\n]*:(\d{1,10}):", files.text("etc/group") or "", re.M
    )
    # Without such groups nothing is known against this user.
    return not numbers or bool({int(number) for number in numbers} & {*os.getgroups()})


def _disk_free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
