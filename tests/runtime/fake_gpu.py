"""A fake TensorRT over a fake CUDA driver: its engines double their input."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np

from waveedge.runtime import cuda


class FakeDriver:
    """The CUDA driver's functions over host memory, as ctypes would call them."""

    def __init__(self, gpus: int = 1, memory: int = 1 << 20) -> None:
        self.gpus, self.memory = gpus, memory
        self.blocks: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.copies_waiting = 0
        self.events: list[float] = []
        self.clock = 0.0
        self.streams = 6
        self.integrated = False
        self.capturing: list[Callable[[], object]] | None = None
        self.graphs: list[list[Callable[[], object]]] = []
        self.captured_stream = 0
        self.executables = 0
        self.launched = 0

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = {18: int(self.integrated), 75: 8, 76: 7}[attribute]
        return 0

    def cuStreamCreate(self, stream: Any, flags: int) -> int:
        self.streams += 1
        stream._obj.value = self.streams
        return 0

    def cuStreamDestroy_v2(self, stream: Any) -> int:
        assert 7 <= stream.value <= self.streams
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        free._obj.value = self.memory - sum(map(len, self.blocks.values()))
        total._obj.value = self.memory
        return 0

    def queue(self, work: Callable[[], object]) -> None:
        """What a library queues in a stream: done at once, unless it is captured."""
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)

    def cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> int:
        assert mode.value == 1
        self.capturing, self.captured_stream = [], stream.value
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        assert self.capturing is not None
        assert stream.value == self.captured_stream
        self.graphs.append(self.capturing)
        graph._obj.value = len(self.graphs)
        self.capturing = None
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:
        assert flags.value == 0
        self.executables += 1
        executable._obj.value = graph.value
        return 0

    def cuGraphDestroy(self, graph: Any) -> int:
        return 0 if graph.value else 1

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        assert 7 <= stream.value <= self.streams
        self.launched += 1
        for work in self.graphs[executable.value - 1]:
            work()
        return 0

    def cuGraphExecDestroy(self, executable: Any) -> int:
        self.executables -= 1
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        assert self.capturing is None, "no graph can hold this"
        if sum(map(len, self.blocks.values())) + size.value > self.memory:
            return 2
        block = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(block)
        self.blocks[address._obj.value] = block
        return 0

    def cuMemFree_v2(self, address: Any) -> int:
        return 0 if self.blocks.pop(address.value, None) is not None else 1

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        assert 7 <= stream.value <= self.streams
        assert self.capturing is None
        assert size.value <= len(self.blocks[to.value])
        ctypes.memmove(to.value, source.value, size.value)
        self.copies_waiting += 1
        return 0

    def cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        assert size.value <= len(self.blocks[source.value])
        ctypes.memmove(to.value, source.value, size.value)
        self.copies_waiting += 1
        return 0

    def cuEventCreate(self, event: Any, flags: int) -> int:
        self.events.append(0.0)
        event._obj.value = len(self.events)
        return 0

    def cuEventRecord(self, event: Any, stream: Any) -> int:
        self.clock += 2.5
        self.events[event.value - 1] = self.clock
        return 0

    def cuEventElapsedTime(self, elapsed: Any, start: Any, end: Any) -> int:
        elapsed._obj.value = self.events[end.value - 1] - self.events[start.value - 1]
        return 0

    def cuEventDestroy_v2(self, event: Any) -> int:
        return 0

    def cuStreamSynchronize(self, stream: Any) -> int:
        self.copies_waiting = 0
        return 0


class Mode(Enum):
    INPUT, OUTPUT = range(2)


MOST = 8
"""Images at once, at the upper end of the profile."""


class FakeContext:
    """Doubles its float32 input."""

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.works = True
        self.capturable = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        if shape[0] > MOST:
            return False
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        driver: FakeDriver = cuda._driver()
        if driver.capturing is not None and not self.capturable:
            return False
        assert driver.capturing is None or stream == driver.captured_stream
        count = int(np.prod(self.shape))
        source, target = (
            np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.addresses[name]))
            for name in ("image", "twice")
        )
        driver.queue(lambda: np.multiply(source, 2, out=target))
        return self.works


class FakeEngine:
    num_io_tensors = 2
    device_memory_size_v2 = 12345

    def __init__(self) -> None:
        self.contexts: list[FakeContext] = []

    def get_tensor_name(self, index: int) -> str:
        return ("twice", "image")[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "image" else Mode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3, 4, 4)

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
        return (1, 3, 4, 4), (1, 3, 4, 4), (MOST, 3, 4, 4)

    def get_engine_stat(self, statistic: str) -> int:
        return {"total": 777}[statistic]

    def create_execution_context(self) -> FakeContext:
        self.contexts.append(FakeContext())
        driver: FakeDriver = cuda._driver()
        driver.memory -= 1000
        return self.contexts[-1]


def fake_tensorrt(name: str, accepts: bytes) -> Any:
    """A TensorRT library that loads the engine whose content is ``accepts``."""

    class Logger:
        ERROR = 1

        def __init__(self, severity: int) -> None: ...

    class Runtime:
        def __init__(self, logger: Logger) -> None: ...

        def deserialize_cuda_engine(self, data: bytes) -> FakeEngine | None:
            return FakeEngine() if data == accepts else None

    return SimpleNamespace(
        EngineStat=SimpleNamespace(TOTAL_WEIGHTS_SIZE="total"),
        __name__=name,
        __version__="99.1",
        Logger=Logger,
        Runtime=Runtime,
        TensorIOMode=Mode,
    )
