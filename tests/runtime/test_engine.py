"""TensorRT sessions, on a fake TensorRT over a fake CUDA driver, and where both are missing."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from waveedge.errors import ArtifactError, InputError, MissingDependencyError, WaveedgeError
from waveedge.runtime import Session, cuda
from waveedge.runtime.cuda import Cuda, gpu_count
from waveedge.runtime.engine import EngineBackend, can_run_engines


class FakeDriver:
    """The CUDA driver's functions over host memory, as ctypes would call them."""

    def __init__(self, gpus: int = 1, memory: int = 1 << 20) -> None:
        self.gpus, self.memory = gpus, memory
        self.blocks: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.copies_waiting = 0
        self.events: list[float] = []
        self.clock = 0.0

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

    def cuStreamCreate(self, stream: Any, flags: int) -> int:
        stream._obj.value = 7
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        if sum(map(len, self.blocks.values())) + size.value > self.memory:
            return 2
        block = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(block)
        self.blocks[address._obj.value] = block
        return 0

    def cuMemFree_v2(self, address: Any) -> int:
        return 0 if self.blocks.pop(address.value, None) is not None else 1

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        assert stream.value == 7
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


MOST = 4096
"""Images at once, at the upper end of the profile."""


class FakeContext:
    """Doubles its float32 input."""

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.works = True

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
        assert stream == 7
        count = int(np.prod(self.shape))
        source, target = (
            np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.addresses[name]))
            for name in ("image", "twice")
        )
        target[:] = 2 * source
        return self.works


class FakeEngine:
    num_io_tensors = 2
    device_memory_size_v2 = 12345

    def __init__(self) -> None:
        self.context = FakeContext()

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

    def create_execution_context(self) -> FakeContext:
        return self.context


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
        __name__=name, __version__="99.1", Logger=Logger, Runtime=Runtime, TensorIOMode=Mode
    )


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """A machine with one GPU, tensorrt and tensorrt_rtx."""
    driver = FakeDriver()
    monkeypatch.setattr(cuda, "_driver", lambda: driver)
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("tensorrt", b"enterprise"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake_tensorrt("tensorrt_rtx", b"rtx"))
    yield driver
    assert driver.blocks == {}, "all device memory was given back"


def engine_file(folder: Path, content: bytes = b"enterprise") -> Path:
    path = folder / "model.engine"
    path.write_bytes(content)
    return path


def test_an_engine_runs_and_any_batch_grows_its_buffers(driver: FakeDriver, tmp_path: Path) -> None:
    session = Session(engine_file(tmp_path))
    assert session.input_shape == ("batch", 3, 4, 4)
    assert session.backend == "tensorrt 99.1"
    assert session.activation_bytes == 12345
    rng = np.random.default_rng(0)
    for batch in (1, 3, 2):
        x = rng.standard_normal((batch, 3, 4, 4)).astype(np.float32)
        np.testing.assert_array_equal(session.run(x), 2 * x)
        assert driver.copies_waiting == 0
        assert session.device_ms == 2.5  # between the events around the engine
    assert sorted(map(len, driver.blocks.values())) == [3 * 3 * 4 * 4 * 4] * 2
    with pytest.raises(InputError, match="number of channels must be 3"):
        session.run(np.zeros((1, 1, 4, 4), np.float32))


@pytest.mark.usefixtures("driver")
def test_the_library_that_built_an_engine_loads_it(tmp_path: Path) -> None:
    assert Session(engine_file(tmp_path, b"rtx")).backend == "tensorrt_rtx 99.1"
    with pytest.raises(ArtifactError, match=r"by tensorrt 99\.1, tensorrt_rtx 99\.1\n.*one GPU"):
        Session(engine_file(tmp_path, b"of another GPU"))


@pytest.mark.usefixtures("driver")
def test_a_failed_run_is_an_error(tmp_path: Path) -> None:
    backend = EngineBackend(engine_file(tmp_path))
    backend._context.works = False
    with pytest.raises(WaveedgeError, match="failed to run the engine"):
        backend.run(np.zeros((1, 3, 4, 4), np.float32))


@pytest.mark.usefixtures("driver")
def test_a_shape_outside_the_profile_is_refused(tmp_path: Path) -> None:
    engine = EngineBackend(engine_file(tmp_path))
    with pytest.raises(
        InputError, match=r"does not take an input of shape \(4097, 3, 4, 4\)"
    ) as no:
        engine.run(np.zeros((MOST + 1, 3, 4, 4), np.float32))
    assert "from (1, 3, 4, 4) to (4096, 3, 4, 4)" in no.value.hint


def test_a_full_gpu_is_named(driver: FakeDriver, tmp_path: Path) -> None:
    driver.memory = 64
    with pytest.raises(WaveedgeError, match=r"cuMemAlloc_v2 returned CUDA error 2\n.*full"):
        Session(engine_file(tmp_path)).run(np.zeros((1, 3, 4, 4), np.float32))


def test_without_a_gpu_the_message_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("tensorrt", b"enterprise"))
    monkeypatch.setattr(cuda, "_driver", lambda: None)
    assert not can_run_engines()
    with pytest.raises(MissingDependencyError, match=r"needs an NVIDIA GPU(.|\n)*'cpu'"):
        Session(engine_file(tmp_path))
    assert gpu_count(FakeDriver(gpus=0)) == 0


def test_without_tensorrt_the_message_names_jetpack_and_pip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"JetPack(.|\n)*waveedge\[trt\]"):
        Session(engine_file(tmp_path))


def test_an_engine_cannot_run_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="provider 'cpu' cannot run it"):
        Session(engine_file(tmp_path), provider="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(gpu_count() == 0, reason="no NVIDIA GPU here")
def test_bytes_survive_the_way_to_a_real_gpu_and_back() -> None:
    gpu = Cuda()
    there = np.random.default_rng(0).standard_normal(1000)
    back = np.zeros_like(there)
    address = gpu.allocate(there.nbytes)
    gpu.to_device(address, there)
    gpu.to_host(back, address)
    gpu.wait()
    gpu.free(address)
    np.testing.assert_array_equal(there, back)
