"""The peak of this machine's arithmetic: multiply-adds on registers alone, by ``peaks.c``.

What a library's matrix product reaches is a peak of that library; a roof has to be the machine's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RegisterPeaks", "register_peaks"]

SOURCE = Path(__file__).with_name("peaks.c")
COMPILERS = ("cc", "gcc", "clang")


@dataclass(frozen=True)
class RegisterPeaks:
    """10^9 multiply-adds a second of all threads together, and how int8 was computed.

    Without instructions the rates are a library's: no compiler could tell.
    """

    float32_gmacs: float
    int8_gmacs: float
    int8_instructions: str | None


def register_peaks(threads: int, *, seconds: float = 0.5) -> RegisterPeaks | None:
    """Compile ``peaks.c`` for this processor and run it.

    Args:
        threads: processes to run at once; their rates are added.
        seconds: of each of the two measurements.

    Returns:
        None where there is no C compiler, or no kernel for this processor.
    """
    compiler = next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peaks"
        command = [compiler, "-O3", "-march=native", "-o", str(program), str(SOURCE)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        running = [
            subprocess.Popen([str(program), str(seconds)], stdout=subprocess.PIPE, text=True)
            for _ in range(threads)
        ]
        rates = [json.loads(process.communicate()[0]) for process in running]
    return RegisterPeaks(
        sum(rate["float32_gmacs"] for rate in rates),
        sum(rate["int8_gmacs"] for rate in rates),
        rates[0]["int8_instructions"],
    )
