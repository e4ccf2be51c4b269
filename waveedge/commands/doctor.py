"""``waveedge doctor``: what this machine is as a place to run bundles. Needs no torch."""

from __future__ import annotations

from waveedge import console
from waveedge.export import target_names
from waveedge.runtime.doctor import Diagnosis, diagnose
from waveedge.runtime.findings import Findings
from waveedge.wheel import wheel_name

__all__ = ["run"]

_UNKNOWN = "unknown"
_TITLES = {
    "onnxruntime": "onnxruntime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT in Python",
    "tensorrt_rtx": "TensorRT-RTX",
    "cuda": "CUDA driver",
}


def run(*, as_json: bool) -> None:
    """Look at this machine and print what was found, as tables or as one JSON document."""
    diagnosis = diagnose(targets=target_names())
    if as_json:
        console.print_json(diagnosis.to_dict())
    else:
        show(diagnosis)


def show(diagnosis: Diagnosis) -> None:
    """Print a diagnosis: facts, targets, and what would help, each with its command."""
    rows = [*_board(diagnosis.found), *_room(diagnosis.found), *_libraries(diagnosis.found)]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.out.print(f"{name:<{width}}  {value}")
    console.table(
        "\nTargets",
        ("target", "runs here", "by, or what is missing"),
        [
            (
                verdict.target,
                {True: "yes", False: "no", None: _UNKNOWN}[verdict.runs],
                verdict.by or verdict.missing,
            )
            for verdict in diagnosis.targets
        ],
    )
    mends = {item.command: item.what for item in diagnosis.advice}
    for verdict in diagnosis.targets:
        if verdict.mend:  # targets may lack one thing together
            mends.setdefault(verdict.mend, f"{verdict.target}: {verdict.missing}")
    for command, what in mends.items():
        # On lines of their own: a command is to be copied whole.
        console.out.print(f"{what}\n    {command}")
    if any(wheel_name() in command for command in mends):
        console.out.print(f"{wheel_name()} is what 'waveedge wheel' writes, here or on the desk.")
    if not mends:
        console.out.print("No command would make more of this machine.")


def _board(found: Findings) -> list[tuple[str, str]]:
    machine = found.machine
    rows = [
        ("board", machine.board or _UNKNOWN),
        ("processor", f"{machine.cpu}, {machine.cores} cores"),
        ("architecture", found.architecture),
        ("system", machine.system),
        ("Python", f"{machine.python}{', a virtual environment' if found.python.venv else ''}"),
    ]
    if found.jetson:
        rows += [
            ("L4T", machine.l4t or _UNKNOWN),
            ("JetPack", machine.jetpack or _UNKNOWN),
            ("power mode", machine.power_mode or _UNKNOWN),
            ("GPU clock", _clock(machine.gpu_clock_fixed)),
        ]
    governor = f", governor {machine.cpu_governor}" if machine.cpu_governor else ""
    rows.append(("CPU clock", _clock(machine.cpu_clock_fixed) + governor))
    rows.append(("fan", _fan(found)))
    rows.append(("power sensor", found.power_sensor or f"none: {found.no_power_sensor}"))
    return rows


def _clock(fixed: bool | None) -> str:
    return _UNKNOWN if fixed is None else "locked" if fixed else "follows the load"


def _fan(found: Findings) -> str:
    if found.fan is None:
        return _UNKNOWN
    drive, rpm = found.fan.drive, found.fan.rpm
    parts = [] if drive is None else [f"driven at {drive:.0%}"]
    parts += [] if rpm is None else [f"{rpm} turns a minute"]
    return ", ".join(parts)


def _room(found: Findings) -> list[tuple[str, str]]:
    def size(octets: int | None) -> str:
        return _UNKNOWN if octets is None else console.size(octets)

    swap = "none" if found.swap == 0 else f"{size(found.swap_free)} of {size(found.swap)} free"
    return [
        ("memory", f"{size(found.memory_free)} of {size(found.machine.memory_bytes)} free"),
        ("swap", _UNKNOWN if found.swap is None else swap),
        ("disk", f"{size(found.disk_free)} free in the working folder"),
    ]


def _libraries(found: Findings) -> list[tuple[str, str]]:
    rows = []
    for name, title in _TITLES.items():
        library = found.libraries[name]
        details = f" ({', '.join(library.details)})" if library.details else ""
        rows.append((title, f"{library.version}{details}" if library.version else library.problem))
    return [
        *rows,
        ("TensorRT of the system", found.tensorrt or "none found"),
        ("CUDA toolkit", found.cuda_toolkit or "none found"),
    ]
