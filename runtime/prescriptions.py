"""Whether a machine can run what each target makes; if not, what is missing and what mends it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from waveedge.extras import requirement
from waveedge.runtime.findings import Findings
from waveedge.runtime.libraries import Library
from waveedge.wheel import wheel_name

__all__ = ["JUDGES", "Advice", "Verdict", "advise", "judge"]

_TENSORRT = (10, 3)
_ONNXRUNTIME = (1, 20)

_DISTRIBUTIONS = {"tensorrt_rtx": "tensorrt-rtx-cu13"}
"""Library -> what an index calls it, where that is another name."""

_JETPACK = "sudo apt update && sudo apt install nvidia-jetpack"

_GIB = 2**30


@dataclass(frozen=True)
class Verdict:
    """Whether bundles of a target run on a machine.

    Attributes:
        target: its name.
        runs: None where it is not known.
        by: what runs them, with its version; empty where nothing does.
        missing: what keeps them from running; empty where nothing does.
        mend: the one command that mends it; None where no command does.
    """

    target: str
    runs: bool | None
    by: str
    missing: str = ""
    mend: str | None = None


@dataclass(frozen=True)
class Advice:
    """A setting that makes measurements slower or less steady, and the command that changes it."""

    what: str
    command: str


def judge(found: Findings, targets: Iterable[str] | None = None) -> list[Verdict]:
    """Say of each target whether its bundles run here.

    Args:
        targets: their names; by default all that are known here.
    """
    return [
        JUDGES[name](name, found)
        if name in JUDGES
        else Verdict(name, None, "", "what this target needs is not known here")
        for name in (JUDGES if targets is None else targets)
    ]


def _onnxruntime(target: str, found: Findings) -> Verdict:
    library = found.libraries["onnxruntime"]
    if library.version is None:
        again = "--force-reinstall" if library.problem != "not installed" else ""
        mend = _pip(found, "onnxruntime", again)
        return Verdict(target, False, "", f"onnxruntime: {library.problem}", mend)
    if _older(library, _ONNXRUNTIME):
        mend = _pip(found, "onnxruntime", "--upgrade")
        return Verdict(target, False, "", f"onnxruntime {library.version} is older than 1.20", mend)
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in library.details)
    return Verdict(target, True, f"onnxruntime {library.version} ({providers})")


def _openvino(target: str, found: Findings) -> Verdict:
    library = found.libraries["openvino"]
    if library.version is None:
        mend = _pip(found, "openvino")
        return Verdict(target, False, "", f"OpenVINO: {library.problem}", mend)
    return Verdict(target, True, f"OpenVINO {library.version} (CPU)")


def _tensorrt(target: str, found: Findings) -> Verdict:
    library, driver = found.libraries["tensorrt"], found.libraries["cuda"]
    if library.version is not None and _older(library, _TENSORRT):
        return Verdict(target, False, "", *_too_old(found, library.version))
    if library.version is None:
        return Verdict(target, False, "", *_without_tensorrt(found, library))
    if not driver.details:
        return Verdict(target, False, "", *_without_gpu(found))
    gpus = ", ".join(f"SM {capability}" for capability in driver.details)
    return Verdict(target, True, f"TensorRT {library.version} ({gpus})")


def _tensorrt_rtx(target: str, found: Findings) -> Verdict:
    library, driver = found.libraries["tensorrt_rtx"], found.libraries["cuda"]
    if found.jetson:
        missing = "TensorRT-RTX is for GPUs of desktops; a Jetson runs bundles of --target trt"
        return Verdict(target, False, "", missing)
    if found.architecture not in ("x86_64", "AMD64"):
        return Verdict(target, False, "", f"TensorRT-RTX is not made for {found.architecture}")
    if not driver.details:
        return Verdict(target, False, "", *_without_gpu(found))
    if library.version is None:
        mend = _pip(found, "tensorrt_rtx")
        return Verdict(target, False, "", f"TensorRT-RTX: {library.problem}", mend)
    gpus = ", ".join(f"SM {capability}" for capability in driver.details)
    return Verdict(target, True, f"TensorRT-RTX {library.version} ({gpus})")


JUDGES: dict[str, Callable[[str, Findings], Verdict]] = {
    "onnx": _onnxruntime,
    "openvino": _openvino,
    "ort": _onnxruntime,
    "trt": _tensorrt,
    "trt-rtx": _tensorrt_rtx,
}
"""By the names of targets, as ``waveedge export --target`` takes them."""


def _too_old(found: Findings, version: str) -> tuple[str, str | None]:
    missing = f"TensorRT {version} is older than 10.3, the first that keeps a graph's own types"
    if found.jetson:  # no command takes a board from one JetPack to another without risk
        return f"{missing}: it needs JetPack 6.1 or later", None
    return missing, _pip(found, "tensorrt", "--upgrade")


def _without_tensorrt(found: Findings, library: Library) -> tuple[str, str | None]:
    """Say why TensorRT cannot be imported, and what to do: (missing, mend)."""
    if not found.jetson:
        if not found.libraries["cuda"].details:
            return _without_gpu(found)
        return f"TensorRT: {library.problem}", _pip(found, "tensorrt")
    if found.tensorrt is None:
        return f"TensorRT: {library.problem}", _JETPACK
    if _numbers(found.tensorrt) < _TENSORRT:
        return _too_old(found, found.tensorrt)
    here = f"TensorRT {found.tensorrt} is installed"
    if not found.bindings:
        return f"{here}, its Python bindings are not", "sudo apt install python3-libnvinfer"
    ours = found.python.version
    if not {ours, "3"} & {*found.bindings}:
        others = " and ".join(found.bindings)
        fresh = _fresh_venv(f"python{found.bindings[0]}")
        return f"{here} for Python {others}, this is Python {ours}", fresh
    if found.python.venv and not found.python.sees_system:
        fresh = _fresh_venv("python3")
        return f"{here}, and this virtual environment does not see the system's packages", fresh
    return f"{here}, its import fails: {library.problem}", (
        "sudo apt install --reinstall python3-libnvinfer"
    )


def _without_gpu(found: Findings) -> tuple[str, str | None]:
    """Say why no GPU is seen, and what to do: (missing, mend)."""
    driver = found.libraries["cuda"]
    if (found.jetson or found.card) and found.container:
        option = "--runtime nvidia" if found.jetson else "--gpus all"
        return "this container does not see the GPU", f"docker run {option} ..."
    if found.jetson:
        if not found.may_use_gpu:
            return "this user may not use the GPU", 'sudo usermod -aG video,render "$USER"'
        return f"the GPU does not answer ({driver.problem or 'the driver sees none'})", _JETPACK
    if found.card:
        return "the NVIDIA card has no working driver", "sudo ubuntu-drivers install"
    return "there is no NVIDIA GPU", None


def _pip(found: Findings, library: str, option: str = "") -> str:
    asked = requirement(_DISTRIBUTIONS.get(library, library))
    if found.python.managed:
        return f'{_fresh_venv("python3")} "{asked}"'
    words = (found.python.pip, "install", option, f'"{asked}"')
    return " ".join(word for word in words if word)


def _fresh_venv(python: str) -> str:
    """A virtual environment with waveedge, which sees TensorRT among the system's packages."""
    return (
        f"{python} -m venv --system-site-packages ~/waveedge && "
        f"~/waveedge/bin/pip install {wheel_name()}"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _older(library: Library, least: tuple[int, int]) -> bool:
    return _numbers(library.version or "") < least


def advise(found: Findings) -> list[Advice]:
    """Name the settings that would make measurements here slower, unsteady or impossible."""
    machine, modes = found.machine, found.power_modes
    advice = []
    best = modes.unlimited
    if machine.power_mode and best is not None and machine.power_mode != modes.names[best]:
        advice.append(
            Advice(
                f"power mode {machine.power_mode} caps the clocks; {modes.names[best]} does not",
                f"sudo nvpmodel -m {best}",
            )
        )
    if found.jetson and False in (machine.cpu_clock_fixed, machine.gpu_clock_fixed):
        advice.append(
            Advice("the clocks rise and fall with the load: times vary", "sudo jetson_clocks")
        )
    elif machine.cpu_clock_fixed is False and machine.cpu_governor not in (None, "performance"):
        advice.append(
            Advice(
                f"the CPU's clock follows the load (governor {machine.cpu_governor}): times vary",
                "sudo cpupower frequency-set --governor performance",
            )
        )
    if found.jetson and found.fan is not None and found.fan.drive == 0:
        advice.append(
            Advice("the fan stands still: long runs may throttle", "sudo jetson_clocks --fan")
        )
    if found.jetson and found.tensorrt is not None and not found.trtexec:
        advice.append(
            Advice("trtexec, which builds engines, is missing", "sudo apt install libnvinfer-bin")
        )
    return [*advice, *_room(found)]


def _room(found: Findings) -> list[Advice]:
    """Memory and disk."""
    advice = []
    total = found.machine.memory_bytes
    if found.jetson and found.swap == 0 and total is not None and total < 10 * _GIB:
        advice.append(
            Advice(
                "no swap: building an engine may run out of memory",
                "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && "
                "sudo mkswap /swapfile && sudo swapon /swapfile",
            )
        )
    if found.jetson and found.memory_free is not None and found.memory_free < _GIB:
        advice.append(
            Advice(
                "less than 1 GiB of memory is free; this stops the desktop",
                "sudo systemctl isolate multi-user.target",
            )
        )
    if found.disk_free is not None and found.disk_free < _GIB:
        advice.append(Advice("less than 1 GiB of disk is free", "sudo apt clean"))
    return advice
