"""What a measurement was taken on: a figure without its machine is not a figure."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Machine", "describe_machine", "int8_saturates"]

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


def describe_machine(root: Path = Path("/")) -> Machine:
    """Describe this machine.

    Args:
        root: where ``/proc`` and ``/sys`` are; tests give another.
    """
    cpuinfo = _cpuinfo(root)
    frequencies = root / "sys/devices/system/cpu/cpu0/cpufreq"
    lowest, highest = (_text(frequencies / f"scaling_{end}_freq") for end in ("min", "max"))
    # Arm kernels spell the flags' line differently.
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    return Machine(
        cpu=cpuinfo.get("model name") or platform.processor() or platform.machine(),
        cores=_usable_cores(),
        isa=tuple(flag for flag in _ISA_FLAGS if flag in flags),
        memory_bytes=_memory_bytes(root),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        onnxruntime=_onnxruntime_version(),
        board=_text(root / "proc/device-tree/model"),
        gpus=_gpus(root),
        power_mode=_power_mode(),
        cpu_governor=_text(frequencies / "scaling_governor"),
        cpu_clock_fixed=None if None in (lowest, highest) else lowest == highest,
    )


def int8_saturates(root: Path = Path("/")) -> bool:
    """Whether onnxruntime cuts off sums of products with int8 weights on this processor.

    It does on x86 without VNNI: pairs of products are added in 16 bits there.

    Args:
        root: where ``/proc`` is; tests give another.
    """
    flags = set(_cpuinfo(root).get("flags", "").split())  # Arm has none of that name
    return bool(flags) and not flags & {"avx_vnni", "avx512_vnni"}


def _text(path: Path) -> str | None:
    try:
        # Device-tree strings end in a zero byte.
        return path.read_text(errors="replace").strip().strip("\0") or None
    except OSError:
        return None


def _fields(text: str | None) -> dict[str, str]:
    """Parse ``key : value`` lines; the first of a repeated key counts (the first core's)."""
    fields: dict[str, str] = {}
    for line in (text or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _cpuinfo(root: Path) -> dict[str, str]:
    return _fields(_text(root / "proc/cpuinfo"))


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes(root: Path) -> int | None:
    total = _fields(_text(root / "proc/meminfo")).get("MemTotal")
    return int(total.split()[0]) * 1024 if total else None


def _onnxruntime_version() -> str | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    return str(onnxruntime.__version__)


def _gpus(root: Path) -> tuple[str, ...]:
    # The driver lists its GPUs in /proc: no library is needed to name them.
    found = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    names = (_fields(_text(path)).get("Model") for path in found)
    return tuple(name for name in names if name)


def _power_mode() -> str | None:
    """The Jetson's power mode, from ``nvpmodel -q`` ("NV Power Mode: 15W")."""
    if shutil.which("nvpmodel") is None:
        return None
    try:
        answer = subprocess.run(
            ["nvpmodel", "-q"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _fields(answer.stdout).get("NV Power Mode")
