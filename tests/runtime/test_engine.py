"""TensorRT sessions, on a fake TensorRT over a fake CUDA driver, and where both are missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from waveedge.errors import ArtifactError, InputError, MissingDependencyError, WaveedgeError
from waveedge.runtime import Session, cuda
from waveedge.runtime.cuda import Cuda, gpu_count
from waveedge.runtime.engine import EngineBackend, can_run_engines


def engine_file(folder: Path, content: bytes = b"enterprise") -> Path:
    path = folder / "model.engine"
    path.write_bytes(content)
    return path


def test_an_engine_runs_and_any_batch_grows_its_buffers(driver: Any, tmp_path: Path) -> None:
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
        assert session.engine is not None
        assert session.engine.times == (2.5, 2.5, 2.5)
    assert sorted(map(len, driver.blocks.values())) == [3 * 3 * 4 * 4 * 4] * 2
    with pytest.raises(InputError, match="number of channels must be 3"):
        session.run(np.zeros((1, 1, 4, 4), np.float32))


@pytest.mark.usefixtures("driver")
def test_the_library_that_built_an_engine_loads_it(tmp_path: Path) -> None:
    assert Session(engine_file(tmp_path, b"rtx")).backend == "tensorrt_rtx 99.1"
    with pytest.raises(ArtifactError, match=r"by tensorrt 99\.1, tensorrt_rtx 99\.1\n.*one GPU"):
        Session(engine_file(tmp_path, b"of another GPU"))


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("content", [b"enterprise", b"of another version"])
def test_tensorrt_8_is_too_old_for_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """It may load an engine of its own trtexec, and lacks what sizes and runs are asked by."""
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "8.6.1")
    with pytest.raises(MissingDependencyError, match=r"8\.6\.1 is too old") as refused:
        Session(engine_file(tmp_path, content))
    assert "JetPack 6.1" in refused.value.hint


@pytest.mark.usefixtures("driver")
def test_no_room_for_a_context_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: ModuleType
) -> None:
    monkeypatch.setattr(gpu.FakeEngine, "create_execution_context", lambda self: None)
    with pytest.raises(WaveedgeError, match="there is not enough memory for it"):
        EngineBackend(engine_file(tmp_path))


@pytest.mark.usefixtures("driver")
def test_a_failed_run_is_an_error(tmp_path: Path) -> None:
    backend = EngineBackend(engine_file(tmp_path))
    backend._context.works = False
    with pytest.raises(WaveedgeError, match="failed to run the engine"):
        backend.run(np.zeros((1, 3, 4, 4), np.float32))


@pytest.mark.usefixtures("driver")
def test_a_shape_outside_the_profile_is_refused(tmp_path: Path) -> None:
    engine = EngineBackend(engine_file(tmp_path))
    with pytest.raises(InputError, match=r"does not take an input of shape \(9, 3, 4, 4\)") as no:
        engine.run(np.zeros((9, 3, 4, 4), np.float32))
    assert "from (1, 3, 4, 4) to (8, 3, 4, 4)" in no.value.hint


def test_a_full_gpu_is_named(driver: Any, tmp_path: Path) -> None:
    driver.memory = 64
    with pytest.raises(WaveedgeError, match=r"cuMemAlloc_v2 returned CUDA error 2\n.*full"):
        Session(engine_file(tmp_path)).run(np.zeros((1, 3, 4, 4), np.float32))


def test_without_a_gpu_the_message_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpu: ModuleType
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", gpu.fake_tensorrt("tensorrt", b"enterprise"))
    monkeypatch.setattr(cuda, "_driver", lambda: None)
    assert not can_run_engines()
    with pytest.raises(MissingDependencyError, match=r"needs an NVIDIA GPU(.|\n)*'cpu'"):
        Session(engine_file(tmp_path))
    assert gpu_count(gpu.FakeDriver(gpus=0)) == 0


def test_without_tensorrt_the_message_names_jetpack_and_pip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r'JetPack(.|\n)*pip install "tensorrt>='):
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
