"""What a measurement was taken on: a figure without its machine is not a figure."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from waveedge.runtime import jetson
from waveedge.runtime.system_files import SystemFiles

__all__ = [
    "Machine",
    "describe_machine",
    "int8_saturates",
    "memory",
    "onnxruntime_version",
    "power_mode",
]

_CPUINFO = "proc/cpuinfo"

_ANSWER_SECONDS = 10.0
"""How long a command may take to say what it knows."""

# The instructions that decide how fast int8 and low-precision convolutions run.
_ISA_FLAGS = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)


@dataclass(frozen=True)
class Machine:
    """The machine and the versions behind a measurement; None where it cannot be told.

    Attributes:
        cpu: the processor's name.
        cores: processors that this process may use.
        isa: the instruction-set extensions present that matter for inference.
        memory_bytes: physical memory.
        system: operating system, kernel and architecture.
        python: Python version.
        onnxruntime: onnxruntime version.
        board: model of an embedded board, such as a Jetson.
        gpus: names of NVIDIA GPUs.
        power_mode: the Jetson's nvpmodel setting.
        cpu_governor: the first core's frequency governor.
        cpu_clock_fixed: whether lowest and highest allowed frequency coincide, as
            ``jetson_clocks`` sets them.
        gpu_clock_fixed: the same of an embedded GPU.
        l4t: release of NVIDIA's Linux for Tegra.
        jetpack: release of JetPack; where its package is not installed, what the release of
            L4T belongs to.
    """

    cpu: str
    cores: int
    isa: tuple[str, ...]
    memory_bytes: int | None
    system: str
    python: str
    onnxruntime: str | None
    board: str | None
    gpus: tuple[str, ...]
    power_mode: str | None
    cpu_governor: str | None
    cpu_clock_fixed: bool | None
    gpu_clock_fixed: bool | None
    l4t: str | None
    jetpack: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    def summary(self) -> str:
        """Return the machine in one line of text."""
        parts = [self.board or self.cpu, f"{self.cores} cores"]
        parts += [name for name in self.isa if "vnni" in name or "amx" in name or name == "i8mm"]
        parts += list(self.gpus)
        if self.power_mode:
            parts.append(f"power mode {self.power_mode}")
        if self.onnxruntime:
            parts.append(f"onnxruntime {self.onnxruntime}")
        return ", ".join(parts)


def onnxruntime_version() -> str | None:
    """Version of onnxruntime as this process imports it."""
    try:
        import onnxruntime
    except ImportError:
        return None
    return str(onnxruntime.__version__)


def describe_machine(
    root: Path = Path("/"), *, onnxruntime: Callable[[], str | None] = onnxruntime_version
) -> Machine:
    """Describe this machine.

    Args:
        root: where ``/proc`` and ``/sys`` are; tests give another.
        onnxruntime: tells its version; by default by importing it.
    """
    files = SystemFiles(root)
    cpuinfo = files.fields(_CPUINFO)
    frequencies = "sys/devices/system/cpu/cpu0/cpufreq"
    lowest, highest = (files.number(f"{frequencies}/scaling_{end}_freq") for end in ("min", "max"))
    # Arm kernels spell the flags' line differently.
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    return Machine(
        cpu=(cpuinfo.get("model name") or platform.processor() or platform.machine())[:200],
        cores=_usable_cores(),
        isa=tuple(flag for flag in _ISA_FLAGS if flag in flags),
        memory_bytes=memory(files, "MemTotal"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        onnxruntime=onnxruntime(),
        board=files.line("proc/device-tree/model"),
        gpus=_gpus(files),
        power_mode=power_mode(files),
        cpu_governor=files.line(f"{frequencies}/scaling_governor"),
        cpu_clock_fixed=None if None in (lowest, highest) else lowest == highest,
        gpu_clock_fixed=jetson.gpu_clock_fixed(files),
        l4t=jetson.l4t_release(files),
        jetpack=jetson.jetpack_release(files),
    )


def int8_saturates(root: Path = Path("/")) -> bool:
    """Whether onnxruntime cuts off sums of products with int8 weights on this processor.

    It does on x86 without VNNI: pairs of products are added in 16 bits there.

    Args:
        root: where ``/proc`` is; tests give another.
    """
    flags = set(
        SystemFiles(root).fields(_CPUINFO).get("flags", "").split()
    )  # Arm has none of that name
    return bool(flags) and not flags & {"avx_vnni", "avx512_vnni"}


def memory(files: SystemFiles, field: str) -> int | None:
    """A field of ``/proc/meminfo``, such as MemAvailable, in bytes; None where there is none."""
    number, _, unit = files.fields("proc/meminfo").get(field, "").partition(" ")
    return int(number) * 1024 if unit == "kB" and number.isdecimal() else None


def power_mode(files: SystemFiles) -> str | None:
    """The name of the power mode that a Jetson is in; None elsewhere."""
    return jetson.power_modes(files).current or (_power_mode() if files.is_own else None)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus(files: SystemFiles) -> tuple[str, ...]:
    # The driver lists its GPUs in /proc: no library is needed to name them.
    found = files.names("proc/driver/nvidia/gpus/*/information")
    names = (files.fields(name).get("Model") for name in found)
    return tuple(name[:200] for name in names if name)


def _power_mode() -> str | None:
    """The Jetson's power mode, from ``nvpmodel -q`` ("NV Power Mode: 15W")."""
    if shutil.which("nvpmodel") is None:
        return None
    try:
        answer = subprocess.run(
            ["nvpmodel", "-q"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"^NV Power Mode: *(\S{1,60})", answer.stdout, re.MULTILINE)
    return found[1] if found else None
