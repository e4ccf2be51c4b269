"""Run and measure exported networks on the device they are meant for.

Needs numpy and onnxruntime, nothing else: a device does not carry torch. TensorRT, NVML,
jetson-stats and matplotlib are used where they are installed.

The peak-memory probe is imported by its own name, ``waveedge.runtime.memory``: it runs as a
program (``python -m waveedge.runtime.memory MODEL``) and must not be loaded twice.
"""

from __future__ import annotations

from waveedge.runtime.benchmark import benchmark
from waveedge.runtime.bundle import Bundle, newest_bundle, open_bundle
from waveedge.runtime.figures import Ratio, Timing, Variant
from waveedge.runtime.machine import Machine, describe_machine
from waveedge.runtime.power import Power, measure_power
from waveedge.runtime.report import Comparison
from waveedge.runtime.session import Session

__all__ = [
    "Bundle",
    "Comparison",
    "Machine",
    "Power",
    "Ratio",
    "Session",
    "Timing",
    "Variant",
    "benchmark",
    "describe_machine",
    "measure_power",
    "newest_bundle",
    "open_bundle",
]
