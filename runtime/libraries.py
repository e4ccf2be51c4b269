"""Which libraries that run networks can be imported here, each tried in a process of its own.

An import may end its process (an illegal instruction, on processors that a library was not built
for) or never return; what asks must survive that. ``python -m waveedge.runtime.libraries NAME``
is the process that tries one.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from waveedge.errors import reason
from waveedge.runtime.child import environment
from waveedge.runtime.schema import shown

__all__ = ["LIBRARIES", "Library", "find_libraries"]

LIBRARIES = ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda")
"""What is looked for: modules of Python, and the driver of NVIDIA GPUs under the name cuda."""

_SECONDS = 60.0
_CAUSE = 200
_MARK = "waveedge found: "


@dataclass(frozen=True)
class Library:
    """What came of a library.

    Attributes:
        version: None where it cannot be used.
        problem: why not, in one line; empty where it can.
        details: execution providers of onnxruntime; GPUs that the driver sees, as compute
            capabilities such as ``"8.7"``.
    """

    version: str | None
    problem: str
    details: tuple[str, ...] = ()


def find_libraries(
    names: Iterable[str] = LIBRARIES, *, seconds: float = _SECONDS
) -> dict[str, Library]:
    """Try libraries.

    Args:
        names: of :data:`LIBRARIES`.
        seconds: how long an import may take.

    Returns:
        what came of each, by name.
    """
    names = list(names)
    # Two at a time: small boards have the cores for that, and the memory.
    with ThreadPoolExecutor(max_workers=2) as pool:
        found = pool.map(lambda name: _find(name, seconds), names)
        return dict(zip(names, found, strict=True))


def _find(name: str, seconds: float) -> Library:
    if name != "cuda" and not _installed(name):
        return Library(None, "not installed")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "waveedge.runtime.libraries", name],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Library(None, f"its import did not end within {seconds:g} s")
    except (OSError, ValueError) as error:
        return Library(None, f"no process could be started: {shown(str(error), _CAUSE)}")
    if done.returncode < 0:
        return Library(None, f"its import ended the process ({_signal(-done.returncode)})")
    for line in reversed(done.stdout.splitlines()):  # libraries print lines of their own
        if line.startswith(_MARK):
            values = json.loads(line.removeprefix(_MARK))
            return Library(values["version"], values["problem"], tuple(values["details"]))
    cause = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Library(None, f"status {done.returncode}: {shown(cause, _CAUSE)}")


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # ValueError: something in its place is no module
        return False


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _try(name: str) -> dict[str, Any]:
    """Import a library in this process, which may not survive it."""
    try:
        if name == "cuda":
            from waveedge.runtime import cuda

            version, details = cuda.driver_version(), cuda.compute_capabilities()
            problem = "" if version else "no driver (libcuda.so.1)"
        else:
            module = importlib.import_module(name)
            version, details = str(module.__version__).split("-")[0], []
            problem = ""
            if name == "onnxruntime":
                details = [str(provider) for provider in module.get_available_providers()]
    except Exception as error:  # whatever foreign code raises
        return {"version": None, "problem": shown(reason(error), _CAUSE), "details": []}
    return {"version": version and shown(version), "problem": problem, "details": details}


if __name__ == "__main__":
    print(f"\n{_MARK}{json.dumps(_try(sys.argv[1]))}")
