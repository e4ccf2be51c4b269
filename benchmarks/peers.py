"""The tools that waveedge is compared with, each in an environment of its own.

``python -m benchmarks.peers`` creates the environments, ``.venv-peers-NAME`` in the repository.
onnxruntime's quantizer comes with waveedge's own onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waveedge.console import say
from waveedge.errors import ExportError, MissingDependencyError, OutputError

__all__ = ["PEERS", "Peer", "install", "install_missing", "is_installed", "run_peer"]

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("peer_worker.py")
TIMEOUT = 1200  # seconds; a peer that takes longer on one network is recorded as failed

Options = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A tool, what it needs, and the settings among which it gets the better.

    Attributes:
        name: in records; of its function in ``peer_worker.py`` and of its environment.
        title: for readers.
        packages: pip requirements; none where waveedge's own environment will do.
        settings: options by label.
        int8: whether the result is quantized.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    settings: dict[str, Options]
    int8: bool = True

    @property
    def environment(self) -> Path:
        """Folder of its virtual environment."""
        return ROOT / f".venv-peers-{self.name}"

    @property
    def python(self) -> Path:
        """The interpreter that runs it."""
        if not self.packages:
            return Path(sys.executable)
        return self.environment / (
            "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
        )


PEERS = (
    Peer(
        "onnxruntime",
        "onnxruntime quantize_static",
        (),
        {
            "MinMax": {"method": "MinMax"},
            "Percentile": {"method": "Percentile"},
            "Entropy": {"method": "Entropy"},
            "MinMax, convolutions and Gemm only": {"method": "MinMax", "compute_only": True},
        },
    ),
    Peer(
        "onnxslim",
        "onnxslim",
        ("onnxslim==0.1.98", "onnxruntime==1.31.1"),
        {"default": {}},
        int8=False,
    ),
    Peer(
        "nncf",
        "NNCF",
        ("nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.31.1"),
        {
            "performance preset": {"preset": "performance"},
            "mixed preset": {"preset": "mixed"},
            "mixed preset, transformer": {"preset": "mixed", "transformer": True},
        },
    ),
    Peer(
        "modelopt",
        "ModelOpt",
        # torch is pinned: unpinned, it pulls gigabytes of CUDA libraries.
        ("nvidia-modelopt[onnx]==0.47.0", "torch==2.13.0"),
        {"entropy": {"method": "entropy"}, "max": {"method": "max"}},
    ),
)


def is_installed(peer: Peer) -> bool:
    """Whether the peer's environment is complete and of the versions named here."""
    return not peer.packages or (
        _marker(peer).is_file() and _marker(peer).read_text() == _marker_text(peer)
    )


def install(peer: Peer) -> None:
    """Create the peer's environment.

    Raises:
        OutputError: pip failed; the message ends with its last line.
    """
    shutil.rmtree(peer.environment, ignore_errors=True)
    venv.create(peer.environment, with_pip=True)
    pip = [str(peer.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *peer.packages], text=True, capture_output=True, check=False)
    if done.returncode:
        _failure(peer).write_text(_last_line(done.stderr))
        raise OutputError(
            f"pip cannot install {' '.join(peer.packages)}: {_last_line(done.stderr)}",
            hint="Measure without it: python -m benchmarks --no-install",
        )
    _marker(peer).write_text(_marker_text(peer))


def install_missing(peers: Sequence[Peer]) -> None:
    """Install the peers that are not; one that cannot be is reported, and recorded later."""
    for peer in peers:
        if not is_installed(peer):
            say(f"installing {peer.title}: {' '.join(peer.packages)}")
            try:
                install(peer)
            except OutputError as error:
                say(f"failed: {error.what}")


def run_peer(
    peer: Peer, options: Options, model: Path, calibration: Path, out: Path
) -> dict[str, str]:
    """Let the peer turn the ONNX file ``model`` into ``out``; return the versions involved.

    Args:
        options: one of the peer's settings.
        calibration: ``.npz`` with ``images``, float32 (count, C, H, W).

    Raises:
        MissingDependencyError: it is not installed.
        ExportError: it failed; the message ends with the last line of its output.
    """
    if not is_installed(peer):
        why = f": {_failure(peer).read_text()}" if _failure(peer).is_file() else ""
        raise MissingDependencyError(
            f"{peer.title} is not installed{why}", hint=f"python -m benchmarks.peers {peer.name}"
        )
    arguments = [model, calibration, out, json.dumps(options)]
    # Isolated: this folder must not be on the path, where its modules could hide others.
    command = [str(part) for part in (peer.python, "-I", WORKER, peer.name, *arguments)]
    log = out.with_suffix(".log")
    with log.open("w") as output:
        try:
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"{peer.title} did not end within {TIMEOUT} s") from error
    text = log.read_text(errors="replace")
    if done.returncode:
        raise ExportError(f"{peer.title} failed: {_last_line(text)}")
    versions: dict[str, str] = json.loads(_last_line(text))
    return versions


def _marker(peer: Peer) -> Path:
    return peer.environment / "installed"


def _failure(peer: Peer) -> Path:
    return peer.environment / "failed"


def _marker_text(peer: Peer) -> str:
    return "\n".join(peer.packages)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def main() -> None:
    """Create the environments that the command line names, or all that are missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(peer.name for peer in PEERS)}")
    names = parser.parse_args().names
    install_missing([peer for peer in PEERS if not names or peer.name in names])


if __name__ == "__main__":
    main()
