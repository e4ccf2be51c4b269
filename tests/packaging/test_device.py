"""The wheel as a device installs it: without torch, on each Python that is asked for.

``WAVEEDGE_PYTHONS="3.10 3.12"`` names them (``make pythons``: all that are supported), as each
takes the installation of numpy and onnxruntime. Without it, what a device lacks is only blocked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import waveedge
from waveedge.extras import install_line
from waveedge.runtime.findings import Python, find
from waveedge.runtime.libraries import LIBRARIES, Library
from waveedge.runtime.prescriptions import judge
from waveedge.wheel import wheel_name

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = os.environ.get("WAVEEDGE_PYTHONS", "none").split()
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
DESK = install_line("desk")

PROGRAM = """
import sys
import numpy as np
import waveedge
session = waveedge.Session(sys.argv[1])
print(float(session.run(np.ones(session.input_shape, np.float32)).sum()))
for use in (lambda: waveedge.compress, lambda: waveedge.export("model.pt", "out")):
    try:
        use()
    except waveedge.MissingDependencyError as error:
        print(error.hint)
"""


def interpreter(version: str) -> str:
    """A Python of this version; skips where none is asked for, or none is here."""
    if version == "none":
        pytest.skip("WAVEEDGE_PYTHONS names no Python: make pythons")
    python = found(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    return python


def found(version: str) -> str | None:
    """A Python of this version: this one, one on the path, or one that pyenv installed."""
    if version == RUNNING:
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    by_pyenv = sorted(root.glob(f"versions/{version}.*/bin/python"))
    return str(by_pyenv[-1]) if by_pyenv else shutil.which(f"python{version}")


@pytest.mark.parametrize("version", PYTHONS)
def test_a_device_runs_a_bundle_and_says_what_it_lacks(
    built: Any, version: str, tmp_path: Path
) -> None:
    python = interpreter(version)
    place = tmp_path / "device"
    done(python, "-m", "venv", "--without-pip", place)
    device = place / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", device, "install", "--quiet", "--no-compile")
    done(*pip, "--disable-pip-version-check", "-c", CONSTRAINTS, f"{built.wheel}[device]")

    torch.manual_seed(0)
    images = torch.rand(4, 3, 8, 8)
    network = torch.nn.Conv2d(3, 4, 3).eval().requires_grad_(False)
    bundle = waveedge.export(network, tmp_path / "net.ort", target="ort", images=images).path
    total, *hints = done(device, "-c", PROGRAM, bundle).splitlines()
    expected = float(network(torch.ones(1, 3, 8, 8)).sum())
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert len(hints) == 2
    assert all(hint.endswith(DESK) for hint in hints)

    command = place / "bin" / "waveedge"
    comparison = json.loads(done(command, "bench", bundle, "--runs", "3", "--json"))
    assert len(comparison["a"]["cpu"]["samples"]) == 3
    targets = json.loads(done(command, "doctor", "--json"))["targets"]
    assert {item["target"] for item in targets if item["runs"]} == {"onnx", "ort"}
    (tmp_path / "model.pt").write_bytes(b"")
    refused = subprocess.run(
        [command, "inspect", tmp_path / "model.pt"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "which is not installed here" in refused.stderr
    assert DESK in refused.stderr


def managed(python: str, folder: Path) -> Path:
    """A Python like this one, whose pip refuses to install beside the system's packages (PEP 668).

    It shares the files of the other's library, but for the mark that Debian and Ubuntu put there.
    """
    code = "import sys, sysconfig; print(sys.base_prefix, sysconfig.get_path('stdlib'))"
    prefix, library = done(python, "-c", code).split()
    program = f"python{Path(library).name.removeprefix('python')}"
    (folder / "bin").mkdir(parents=True)
    shutil.copy(Path(prefix, "bin", program), folder / "bin" / program)
    (folder / "bin" / "python3").symlink_to(program)
    own = folder / "lib" / Path(library).name
    for place, shared in ((own, library), (own / "site-packages", f"{library}/site-packages")):
        place.mkdir(parents=True)
        for entry in Path(shared).iterdir():
            if entry.name != "site-packages":
                (place / entry.name).symlink_to(entry)
    (own / "EXTERNALLY-MANAGED").write_text("[externally-managed]\nError=Use a venv.\n")
    return folder / "bin" / "python3"


@pytest.mark.parametrize("version", PYTHONS)
def test_where_pip_refuses_the_line_that_doctor_prints_works(
    built: Any, version: str, tmp_path: Path
) -> None:
    """As on JetPack 7: the system's Python is for apt alone."""
    python = managed(interpreter(version), tmp_path / "system")
    wheel = shutil.copy(built.wheel, tmp_path / wheel_name())
    refused = subprocess.run(
        [python, "-m", "pip", "install", wheel], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "externally-managed-environment" in refused.stderr

    libraries = dict.fromkeys(LIBRARIES, Library(None, "not installed"))
    here = Python(version, venv=False, sees_system=True, managed=True)
    (verdict,) = judge(find(tmp_path / "root", libraries=libraries, python=here), ["ort"])
    assert verdict.mend is not None
    assert "python3 -m venv --system-site-packages ~/waveedge && " in verdict.mend
    paths = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {"PIP_QUIET": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COMPILE": "1"}
    ran = subprocess.run(
        ["sh", "-c", verdict.mend],
        cwd=tmp_path,
        env={**os.environ, **quiet, "PIP_CONSTRAINT": str(CONSTRAINTS)}
        | {"PATH": paths, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    # Before 3.11 a Python started by -m would take waveedge from the sources in this folder.
    waveedge_there = tmp_path / "waveedge" / "bin" / "waveedge"
    found = json.loads(done(waveedge_there, "doctor", "--json", cwd=tmp_path))
    assert found["python"]["version"] == version
    assert (found["python"]["venv"], found["python"]["sees_system"]) == (True, True)
    assert found["python"]["managed"] is False
    lacks = {item["target"]: item["missing"] for item in found["targets"]}
    assert (lacks["onnx"], lacks["ort"]) == ("", "")


BLOCKING = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "safetensors", "PIL"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
sys.argv = ["waveedge", *sys.argv[1:]]
from waveedge.cli import main
main()
"""


@pytest.mark.parametrize("verb", [("inspect", "a.pt"), ("compress", "a.pt"), ("export", "a.pt")])
def test_a_verb_of_the_desk_names_the_line_that_installs_it(
    verb: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "a.pt").write_bytes(b"PK")
    refused = subprocess.run(
        [sys.executable, "-c", BLOCKING, *verb],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 2
    assert "which is not installed here\n" in refused.stderr
    assert refused.stderr.endswith(f"{DESK}\n")


def test_the_doctor_needs_nothing_of_the_desk() -> None:
    values = json.loads(done(sys.executable, "-c", BLOCKING, "doctor", "--json"))
    verdicts = {item["target"]: item for item in values["targets"]}
    assert list(verdicts) == ["onnx", "openvino", "ort", "trt", "trt-rtx"]
    assert verdicts["ort"]["by"].startswith("onnxruntime ")
    assert values["machine"]["cores"] >= 1
    shown = done(sys.executable, "-c", BLOCKING, "doctor")
    for text in ("power mode" if values["machine"]["l4t"] else "board", "memory", "trt-rtx"):
        assert text in shown
    for item in verdicts.values():
        assert item["runs"] or (item["missing"] in shown)
        assert not item["mend"] or f"\n    {item['mend']}\n" in shown


def done(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command that has to succeed, and return what it printed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout
