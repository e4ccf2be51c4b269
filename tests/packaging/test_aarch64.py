"""The wheel on aarch64, a Jetson's architecture: real Debian and PyPI packages under qemu-user.

``WAVEEDGE_AARCH64=1`` asks for it (``make aarch64``), as it takes downloads. No time that is
measured there says anything. What starts processes of its own (doctor's look at libraries, bench's
at memory) needs a kernel that runs foreign programs, so that only a session is shown here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import waveedge
from waveedge.runtime import Session

ROOT = Path(__file__).parents[2]
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
PACKAGES = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libffi8", "libcrypt1"),
    *("libbz2-1.0", "liblzma5", "libuuid1"),
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
)
PROGRAM = """
import sys
import numpy as np
import waveedge
session = waveedge.Session(sys.argv[1])
np.save(sys.argv[2], session.run(np.load(sys.argv[3])))
"""
Run = Callable[..., str]


@pytest.fixture(scope="module")
def aarch64(built: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs an aarch64 Python that has the wheel and what a device's installation brings."""
    if not os.environ.get("WAVEEDGE_AARCH64"):
        pytest.skip("WAVEEDGE_AARCH64 is not set: make aarch64")
    if QEMU is None or shutil.which("apt-get") is None:
        pytest.skip("no qemu or no Debian here: apt install qemu-user-static")
    folder = tmp_path_factory.mktemp("aarch64")
    apt = _apt(folder)
    done(*apt, "update", "-qq")
    done(*apt, "download", "-qq", *PACKAGES, cwd=folder)
    for package in folder.glob("*.deb"):
        done("dpkg", "-x", package, folder / "root")
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 27, 28)]
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for_python = ("--python-version=3.11", "--only-binary=:all:", *platforms)
    # The last one for Python 3.10, JetPack 6's; 1.31 does not start under qemu 7.2.
    done(*pip, *for_python, "--target", folder / "site", built.wheel, "onnxruntime==1.23.2")
    python = (
        *(
            QEMU,
            "-L",
            folder / "root",
            "-E",
            f"PYTHONHOME={folder / 'root' / 'usr'}",
        ),
        *("-E", f"PYTHONPATH={folder / 'site'}", folder / "root" / "usr" / "bin" / "python3.11"),
        "-P",  # the folder of these sources is no place to import from
    )
    return lambda *words, **options: done(*python, *words, **options)


def _apt(folder: Path) -> tuple[str, ...]:
    """apt-get for another architecture, with a state of its own: the system's is left alone."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    options = {
        "Dir::State": folder / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Sandbox::User": "",
    }
    return ("apt-get", *(f"-o{name}={value}" for name, value in options.items()))


def done(*command: object, cwd: Path | None = None) -> str:
    finished = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


def test_a_trained_network_gives_the_same_numbers_on_aarch64(aarch64: Run, tmp_path: Path) -> None:
    photos = ROOT / "calibration" / "photos"
    small = waveedge.compress(ROOT / "examples" / "super_resolution" / "model.pt", photos, bits=8)
    bundle = waveedge.export(small, tmp_path / "sr.ort", target="ort", input_size=(64, 64)).path
    session = Session(bundle)
    image = np.random.default_rng(0).random(session.input_shape, dtype=np.float32)
    np.save(tmp_path / "image.npy", image)
    aarch64("-c", PROGRAM, bundle, tmp_path / "out.npy", tmp_path / "image.npy")
    # onnxruntime's kernels for the two add up floats in another order where integers are rounded:
    # a few numbers in a thousand come out one step of 1/255 apart.
    steps = 255 * np.abs(np.load(tmp_path / "out.npy") - session.run(image))
    assert steps.max() < 1.01
    assert (steps > 0.5).mean() < 0.005


def test_a_board_s_verbs_start_on_aarch64(aarch64: Run) -> None:
    found = json.loads(aarch64("-m", "waveedge", "doctor", "--json"))
    assert found["architecture"] == "aarch64"
    assert found["python"]
