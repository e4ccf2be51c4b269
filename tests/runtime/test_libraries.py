"""Libraries are tried in processes of their own, whatever their import does to these."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from waveedge.runtime import cuda
from waveedge.runtime.libraries import Library, find_libraries


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a module first on the path of this process, which those of its own inherit."""

    def put(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)

    monkeypatch.syspath_prepend(tmp_path)
    return put


def test_onnxruntime_and_its_providers_are_found() -> None:
    found = find_libraries(["onnxruntime"])["onnxruntime"]
    assert found.version == onnxruntime.__version__
    assert "CPUExecutionProvider" in found.details


@pytest.mark.parametrize(
    ("text", "version", "problem"),
    [
        ("__version__ = '10.3.0'", "10.3.0", ""),
        ("import atexit; atexit.register(print, 'bye'); __version__ = '10.3.0-rc'", "10.3.0", ""),
        ("raise OSError('libnvinfer.so.10: cannot open')", None, "OSError: libnvinfer.so.10: c"),
        ("import os; os.kill(os.getpid(), 4)", None, "its import ended the process (SIGILL)"),
        ("import os; os._exit(3)", None, "status 3: no message"),
        ("import time; time.sleep(60)", None, "its import did not end within 3 s"),
        ("pass", None, "AttributeError"),
        ("raise ValueError('\\x1b[31m' + 'x' * 10000)", None, "ValueError: \\x1b[31mxx"),
    ],
)
def test_what_an_import_may_do(text: str, version: str | None, problem: str, install: Any) -> None:
    install("tensorrt", text)
    seconds = 3 if "sleep" in text else 60
    found = find_libraries(["tensorrt"], seconds=seconds)["tensorrt"]
    assert found.version == version
    assert found.problem.startswith(problem)
    assert len(found.problem) < 300


def test_what_is_not_installed_starts_no_process() -> None:
    found = find_libraries(["tensorrt_nowhere"], seconds=0)["tensorrt_nowhere"]
    assert found == Library(None, "not installed")


def driver(version: int, capabilities: list[tuple[int, int]]) -> Any:
    """A CUDA driver as ctypes gives it: results through pointers, 0 for success."""

    def put(pointer: Any, value: int) -> int:
        pointer._obj.value = value
        return 0

    return SimpleNamespace(
        cuInit=lambda flags: 0,
        cuDeviceGetCount=lambda count: put(count, len(capabilities)),
        cuDriverGetVersion=lambda number: put(number, version),
        cuDeviceGet=lambda device, index: put(device, index),
        cuDeviceGetAttribute=lambda value, attribute, device: put(
            value, capabilities[device.value][attribute - 75]
        ),
    )


def test_the_driver_tells_its_cuda_and_its_gpus() -> None:
    orin = driver(12060, [(8, 7)])
    assert cuda.driver_version(orin) == "12.6"
    assert cuda.compute_capabilities(orin) == ["8.7"]
    assert cuda.compute_capabilities(driver(13000, [])) == []
