"""Peak memory that a network's activations take, measured so that it repeats.

``python -m waveedge.runtime.memory MODEL`` runs the model in a fresh process in which

* onnxruntime's arena and memory pattern are off, so that each tensor is allocated when it is
  needed and given back when it is not;
* glibc gives freed blocks of 4 KiB and more back to the system at once
  (``MALLOC_MMAP_THRESHOLD_`` and ``MALLOC_TRIM_THRESHOLD_``, read when a process starts);
* after loading and a first run, which maps the pages of the library's own code (about 1 MiB), 5 is
  written to ``/proc/self/clear_refs``, which resets the kernel's record of the peak resident size
  (``VmHWM``).

The figure is ``VmHWM`` after more runs minus the resident size before them: what running costs
beyond weights and code. It repeats within 1 to 5 %, is not given below 0.5 MiB, and needs Linux
with glibc.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from waveedge.errors import InputError, WaveedgeError
from waveedge.runtime.child import environment

__all__ = ["PeakMemory", "added_by", "peak_memory"]

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_MEMINFO = Path("/proc/meminfo")
_RESET_PEAK = "5"
_RESOLUTION = 1 << 19  # Linux adds up the pages of each processor now and then, not at once
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_TRIM_THRESHOLD_": "4096"}


@dataclass(frozen=True)
class PeakMemory:
    """Result of the probe.

    Attributes:
        peak_bytes: peak of the activations in bytes, or None where it cannot be measured.
        loaded_bytes: resident size of the process after loading and a first run, or None.
        note: why there is no figure; empty where there is one.
        process_bytes: most that the process ever had, libraries and weights included, or None.
        board_bytes: what the machine has less available after the runs than before the libraries
            were loaded; other programs change it too. None where it does not say.
    """

    peak_bytes: int | None
    loaded_bytes: int | None
    note: str = ""
    process_bytes: int | None = None
    board_bytes: int | None = None


def peak_memory(
    model: str | Path,
    *,
    threads: int = 1,
    shape: Sequence[int] | None = None,
    runs: int = 2,
    provider: str = "cpu",
) -> PeakMemory:
    """Measure a model's peak activation memory in a fresh process.

    Args:
        model: a bundle folder, an ``.onnx`` file or an engine.
        threads: CPU threads.
        shape: the first input's shape, where the model leaves it open.
        runs: how often to run it, after a first run that is not counted.
        provider: as for ``Session``; the peak is onnxruntime's on the CPU alone.
    """
    command = [sys.executable, "-m", "waveedge.runtime.memory", str(Path(model).resolve())]
    command += ["--in-process", "--threads", str(threads), "--runs", str(runs)]
    command += ["--provider", provider]
    if shape is not None:
        command += ["--shape", "x".join(str(size) for size in shape)]
    child = subprocess.run(
        command,
        env={**environment(), **_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        lines = child.stderr.strip().splitlines() or ["no message"]
        own = [line for line in lines if line.startswith("error: ")]  # a hint may follow
        cause = own[-1].removeprefix("error: ") if own else lines[-1]
        return PeakMemory(None, None, f"the probe ended with status {child.returncode}: {cause}")
    return PeakMemory(**json.loads(child.stdout.splitlines()[-1]))


def measure_here(
    model: Path,
    *,
    threads: int,
    shape: Sequence[int] | None,
    runs: int,
    provider: str = "cpu",
) -> PeakMemory:
    """Measure in this process, which must be fresh and started with the allocator's settings."""
    before = _available()
    # Imported here: whoever only starts the probe needs neither numpy nor onnxruntime.
    from waveedge.runtime.session import Session

    session = Session(model, threads=threads, provider=provider, arena=False)
    arrays = session.example_inputs(shape)
    session.run(*arrays)
    gc.collect()
    try:
        most = _status("VmHWM")
        peak, loaded = added_by(lambda: session.run(*arrays), runs)
        most = max(most, _status("VmHWM"))
    except OSError as error:
        return PeakMemory(None, None, f"peak memory needs {_CLEAR_REFS} of Linux: {error}")
    after = _available()
    whole = most, None if before is None or after is None else before - after
    if provider != "cpu":
        return PeakMemory(None, loaded, f"what runs by {provider} keeps its memory", *whole)
    if peak < _RESOLUTION:
        return PeakMemory(None, loaded, "less than 0.5 MiB: too little to be measured", *whole)
    return PeakMemory(peak, loaded, "", *whole)


def added_by(run: Callable[[], object], runs: int) -> tuple[int, int]:
    """Peak of what ``runs`` calls add to this process's resident memory, and that before; bytes.

    Raises:
        OSError: this is no Linux.
    """
    _CLEAR_REFS.write_text(_RESET_PEAK)
    before = _status("VmRSS")
    for _ in range(runs):
        run()
    return _status("VmHWM") - before, before


def _status(field: str) -> int:
    """Return a field of ``/proc/self/status`` in bytes."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {field}")


def _available() -> int | None:
    """Return what programs could still take of the machine's memory, in bytes."""
    with suppress(OSError, ValueError, IndexError):
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split("x"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the probe from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m waveedge.runtime.memory",
        description="Peak activation memory of a bundle or an ONNX model, in a fresh process.",
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--shape", type=_shape, help="input shape, as 1x3x224x224")
    parser.add_argument("--provider", default="cpu", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = {"threads": options.threads, "shape": options.shape, "runs": options.runs}
    provider = options.provider
    try:
        if not options.model.exists():
            raise InputError(f"there is no file or folder {options.model}")
        if options.in_process:
            print(json.dumps(asdict(measure_here(options.model, **settings, provider=provider))))
            return 0
        result = peak_memory(options.model, **settings, provider=provider)
    except WaveedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"model": str(options.model), **settings, **asdict(result)}))
    elif result.peak_bytes is None:
        print(f"no figure: {result.note}")
    else:
        print(f"{result.peak_bytes / 2**20:.1f} MiB of activations at the peak")
    return 0


if __name__ == "__main__":
    sys.exit(main())
