"""Lazy imports: each room loads without the libraries that only other rooms need.

Every module of a room is imported in a fresh process in which those libraries are blocked. A
library that is heavy, or that is an extra, belongs inside the function that uses it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

EXTRAS = ("jtop", "matplotlib", "pynvml", "tensorrt", "tensorrt_rtx")
SOURCES_OF_DATA = ("skimage", "sklearn", "torchvision", "timm")
ONNX = ("onnx", "onnx_ir", "onnxruntime", "onnxscript", "onnxsim")
TERMINAL = ("rich", "typer")
TORCH = ("torch", "pytorch_wavelets", "safetensors")

BLOCKED = {
    "waveedge": (*EXTRAS, *SOURCES_OF_DATA, *ONNX, *TERMINAL, *TORCH, "numpy", "pydantic", "PIL"),
    "waveedge.runtime": (*EXTRAS, *SOURCES_OF_DATA, *ONNX, *TERMINAL, *TORCH, "pydantic", "PIL"),
    "waveedge.nn": (*EXTRAS, *SOURCES_OF_DATA, *ONNX, *TERMINAL, "PIL", "pydantic"),
    "waveedge.models": (*EXTRAS, *SOURCES_OF_DATA, *ONNX, *TERMINAL, "PIL"),
    "waveedge.compression": (*EXTRAS, *SOURCES_OF_DATA, *ONNX, *TERMINAL),
    "waveedge.calibration": (*EXTRAS, *SOURCES_OF_DATA, *ONNX, *TERMINAL),
    "waveedge.export": (*EXTRAS, *SOURCES_OF_DATA, *TERMINAL),
    "waveedge.cli": (*EXTRAS, *SOURCES_OF_DATA, *ONNX, *TORCH, "numpy"),
}
# These promise to load none of a package's other modules; the others are imported whole.
ALONE = {"waveedge", "waveedge.cli"}

PROGRAM = """
import importlib, pkgutil, sys
room, alone, blocked = sys.argv[1], sys.argv[2] == "alone", set(sys.argv[3:])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked: import it where it is used", name=name)

sys.meta_path.insert(0, Blocker())
package = importlib.import_module(room)
if not alone:
    for module in pkgutil.walk_packages(package.__path__, room + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


@pytest.mark.parametrize("room", BLOCKED)
def test_a_room_loads_without_the_others_libraries(room: str) -> None:
    if importlib.util.find_spec(room) is None:
        pytest.skip(f"{room} does not exist yet")
    scope = "alone" if room in ALONE else "whole"
    command = [sys.executable, "-c", PROGRAM, room, scope, *BLOCKED[room]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_block_works() -> None:
    """A test that could not fail would prove nothing."""
    command = [sys.executable, "-c", PROGRAM, "waveedge.runtime", "whole", "numpy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "numpy is blocked" in done.stderr
