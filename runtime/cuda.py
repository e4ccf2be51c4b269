"""The little of the CUDA driver that running an engine needs: memory, copies and one stream.

Called through ctypes, so a device needs its driver alone, and neither torch nor a CUDA package.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from waveedge.errors import MissingDependencyError, WaveedgeError
from waveedge.runtime.backend import Array

__all__ = [
    "Cuda",
    "compute_capabilities",
    "driver_version",
    "gpu_count",
    "gpu_name",
    "shares_memory",
]

# Of CUdevice_attribute.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_INTEGRATED = 18


@cache
def _driver() -> Any:
    """The CUDA driver library, or None where there is none."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def gpu_count(driver: Any = None) -> int:
    """Return how many NVIDIA GPUs the driver sees; 0 without a driver."""
    driver = driver or _driver()
    count = ctypes.c_int(0)
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def driver_version(driver: Any = None) -> str | None:
    """Return the newest CUDA that the driver runs, such as 12.6; None without a driver."""
    driver = driver or _driver()
    number = ctypes.c_int(0)
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(number)):
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def gpu_name(driver: Any = None) -> str | None:
    """Return the first GPU's name, such as Orin; None without one."""
    driver = driver or _driver()
    device, name = ctypes.c_int(0), ctypes.create_string_buffer(200)
    if gpu_count(driver) == 0 or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    if driver.cuDeviceGetName(name, len(name), device):
        return None
    return name.value.decode("utf-8", "replace")


def compute_capabilities(driver: Any = None) -> list[str]:
    """Return the compute capability of every GPU that the driver sees, such as 8.7."""
    driver = driver or _driver()
    found = []
    for index in range(gpu_count(driver)):
        device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
        if driver.cuDeviceGet(ctypes.byref(device), index):
            continue
        parts = (major, _CAPABILITY_MAJOR), (minor, _CAPABILITY_MINOR)
        if not any(
            driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
            for part, attribute in parts
        ):
            found.append(f"{major.value}.{minor.value}")
    return found


def shares_memory(driver: Any = None) -> bool:
    """Say whether the first GPU has no memory but the machine's, as a Jetson's has none."""
    driver = driver or _driver()
    device, integrated = ctypes.c_int(0), ctypes.c_int(0)
    if gpu_count(driver) == 0 or driver.cuDeviceGet(ctypes.byref(device), 0):
        return False
    refused = driver.cuDeviceGetAttribute(ctypes.byref(integrated), _INTEGRATED, device)
    return not refused and integrated.value == 1


class Cuda:
    """The first GPU's primary context, which TensorRT uses too, with a stream of its own.

    Args:
        driver: the driver library; the system's by default.

    Raises:
        MissingDependencyError: there is no driver or no GPU.
    """

    def __init__(self, driver: Any = None) -> None:
        self._driver = driver or _driver()
        if gpu_count(self._driver) == 0:
            raise MissingDependencyError(
                "running a TensorRT engine needs an NVIDIA GPU and its driver; none was found",
                hint="Run it on the device it is meant for, or run the bundle's ONNX model "
                "with provider 'cpu'.",
            )
        device, context, stream = ctypes.c_int(0), ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._context = context
        self.activate()
        self.call("cuStreamCreate", ctypes.byref(stream), 0)
        self.stream = int(stream.value or 0)

    def activate(self) -> None:
        """Make the context current in this thread."""
        self.call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """Return the device address of ``size`` new bytes."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return int(address.value)

    def free(self, address: int) -> None:
        """Give back what ``allocate`` returned."""
        self.call("cuMemFree_v2", ctypes.c_uint64(address))

    def to_device(self, address: int, array: Array) -> None:
        """Queue the copy of a C-contiguous array to the device."""
        self.call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_size_t(array.nbytes),
            ctypes.c_void_p(self.stream),
        )

    def to_host(self, array: Array, address: int) -> None:
        """Queue the copy from the device into a C-contiguous array."""
        self.call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_uint64(address),
            ctypes.c_size_t(array.nbytes),
            ctypes.c_void_p(self.stream),
        )

    def event(self) -> int:
        """Return the handle of a new event, which can mark a place in the stream."""
        event = ctypes.c_void_p()
        self.call("cuEventCreate", ctypes.byref(event), 0)
        return int(event.value or 0)

    def record(self, event: int) -> None:
        """Let an event mark the place behind all that was queued."""
        self.call("cuEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(self.stream))

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds on the GPU between two events that have passed."""
        elapsed = ctypes.c_float()
        self.call(
            "cuEventElapsedTime",
            ctypes.byref(elapsed),
            ctypes.c_void_p(start),
            ctypes.c_void_p(end),
        )
        return float(elapsed.value)

    def forget(self, event: int) -> None:
        """Give an event back."""
        self.call("cuEventDestroy_v2", ctypes.c_void_p(event))

    def has(self, function: str) -> bool:
        """Say whether this driver has a function; older ones lack some."""
        return hasattr(self._driver, function)

    def free_bytes(self) -> int:
        """Device memory that is free; of a Jetson, whose GPU has no other, the board's."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return int(free.value)

    def wait(self) -> None:
        """Wait until all that was queued is done."""
        self.call("cuStreamSynchronize", ctypes.c_void_p(self.stream))

    def call(self, function: str, *arguments: object) -> None:
        """Call a function of the driver, and raise what it refuses."""
        status = getattr(self._driver, function)(*arguments)
        if status:
            raise WaveedgeError(
                f"the GPU refused: {function} returned CUDA error {status}",
                hint="Error 2 means that the GPU's memory is full."
                if status == 2
                else "Look the number up under CUresult in NVIDIA's CUDA driver API.",
            )

    def __del__(self) -> None:
        if getattr(self, "stream", 0):
            self.call("cuStreamDestroy_v2", ctypes.c_void_p(self.stream))
