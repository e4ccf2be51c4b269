"""Lazy imports: each room loads without the libraries that only other rooms need.

Every module of a room is imported in a process in which those libraries are blocked. A library that
is heavy, or that is an extra, belongs inside the function that uses it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

EXTRAS = ("accelerate", "jtop", "matplotlib", "pynvml", "tensorrt", "tensorrt_rtx")
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
import importlib, json, os, pkgutil, sys, traceback
rooms, alone, first = json.loads(sys.argv[1]), set(json.loads(sys.argv[2])), sys.argv[3:]

class Blocker:
    def __init__(self, blocked):
        self.blocked = blocked
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.blocked:
            raise ModuleNotFoundError(f"{name} is blocked: import it where it is used", name=name)

def load(room, blocked):
    known = {name.partition(".")[0] for name in sys.modules}
    assert not known & {*blocked, "waveedge"}, known & {*blocked, "waveedge"}
    sys.meta_path.insert(0, Blocker(blocked))
    package = importlib.import_module(room)
    if room not in alone:
        for module in pkgutil.walk_packages(package.__path__, room + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)

for name in first:
    importlib.import_module(name)
for room, blocked in rooms.items():
    child = os.fork()
    if not child:
        try:
            load(room, blocked)
        except BaseException:
            sys.stderr.write(f"{room}: {traceback.format_exc()}")
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""


def loaded(rooms: dict[str, tuple[str, ...]], *first: str) -> str:
    """What goes wrong as rooms load, each in a process of its own that has ``first`` already."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(rooms), json.dumps([*ALONE]), *first]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr


@cache
def _all_rooms() -> str:
    """torch, which takes seconds to load, is loaded once for the rooms that may have it."""
    without = {room: names for room, names in BLOCKED.items() if "torch" in names}
    with_torch = {room: names for room, names in BLOCKED.items() if room not in without}
    return loaded(without) + loaded(with_torch, "torch")


@pytest.mark.parametrize("room", BLOCKED)
def test_a_room_loads_without_the_others_libraries(room: str) -> None:
    found = _all_rooms()
    assert f"{room}: Traceback" not in found, found[-4000:]


def test_the_block_works() -> None:
    """A test that could not fail would prove nothing."""
    assert "numpy is blocked" in loaded({"waveedge.runtime": ("numpy",)})
