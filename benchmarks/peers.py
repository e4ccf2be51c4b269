"""The tools that waveedge is compared with, each on the runtime that it was made for.

``python -m benchmarks.peers`` creates their environments. onnxruntime's quantizer and torch.compile
come with waveedge's own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import Environment, install_missing
from benchmarks.records import write_text
from waveedge.files import sha256

__all__ = [
    "ENVIRONMENTS",
    "PEERS",
    "Attempt",
    "Options",
    "Peer",
    "attempts",
    "is_peer",
    "make",
    "title_of",
]

WORKER = Path(__file__).with_name("peer_worker.py")
TIMEOUT = 1200  # seconds; a peer that takes longer on one network is recorded as failed

Options = dict[str, Any]

SUFFIXES = {
    "onnxruntime": ".onnx",
    "openvino": ".xml",
    "ncnn": ".param",
    "mnn": ".mnn",
    "inductor": ".pt2",
}
"""Runtime -> how the file ends that it loads."""

OWN = Environment("waveedge")
OPENVINO = Environment("openvino", ("openvino==2026.4.1", "nncf==3.4.0"))
# torch is pinned: unpinned, it pulls gigabytes of CUDA libraries.
TORCH = "torch==2.13.0"
NCNN = Environment("ncnn", ("ncnn==1.0.20261020", "pnnx==20261020", TORCH))


@dataclass(frozen=True)
class Peer:
    """A tool, what it needs, and the settings that it is tried under.

    Attributes:
        name: in records; of its function in ``peer_worker.py``.
        title: for readers.
        runtime: what its results run on, a key of :data:`SUFFIXES`.
        environment: where it works and, unless its results are ONNX files, runs.
        settings: options by label; of ``peer_worker.py``.
        loading: those of the options that ``peer_runner.py`` takes.
        int8: whether the result is quantized.
    """

    name: str
    title: str
    runtime: str
    environment: Environment
    settings: dict[str, Options] = field(default_factory=lambda: {"default": {}})
    loading: tuple[str, ...] = ()
    int8: bool = False


PEERS = (
    Peer(
        "onnxruntime",
        "onnxruntime quantize_static",
        "onnxruntime",
        OWN,
        {
            "MinMax": {"method": "MinMax"},
            "Percentile": {"method": "Percentile"},
            "Entropy": {"method": "Entropy"},
            "MinMax, convolutions and Gemm only": {"method": "MinMax", "compute_only": True},
            # What its documentation advises where there is no VNNI.
            "MinMax, 7 bits of weights": {"method": "MinMax", "reduce_range": True},
        },
        int8=True,
    ),
    Peer("onnxslim", "onnxslim", "onnxruntime", Environment("onnxslim", ("onnxslim==0.1.98",))),
    Peer(
        "modelopt",
        "ModelOpt",
        "onnxruntime",  # its own ground is TensorRT on a GPU; this is its option for CPUs
        Environment("modelopt", ("nvidia-modelopt[onnx]==0.47.0", TORCH)),
        {"entropy": {"method": "entropy"}, "max": {"method": "max"}},
        int8=True,
    ),
    Peer(
        "openvino",
        "OpenVINO",
        "openvino",
        OPENVINO,
        {"float32": {"precision": "f32"}, "bfloat16": {"precision": "bf16"}},
        loading=("precision",),
    ),
    Peer(
        "nncf",
        "NNCF int8",
        "openvino",
        OPENVINO,
        {
            "mixed preset": {"preset": "mixed"},
            "performance preset": {"preset": "performance"},
            "mixed preset, transformer": {"preset": "mixed", "transformer": True},
            "mixed preset, accuracy control at 30 dB": {"preset": "mixed", "max_drop": 1e-3},
        },
        int8=True,
    ),
    Peer("ncnn", "ncnn, float32", "ncnn", NCNN),
    Peer("mnn", "MNN, float32", "mnn", Environment("mnn", ("MNN==3.6.1", "numpy"))),
    Peer(
        "inductor",
        "torch.compile, float32",
        "inductor",
        OWN,
        {"default": {"freeze": False}, "frozen weights": {"freeze": True}},
        loading=("freeze",),
    ),
)

ENVIRONMENTS = {
    peer.environment.name: peer.environment for peer in PEERS if peer.environment.packages
}


@dataclass(frozen=True)
class Attempt:
    """A peer under one of its settings."""

    peer: Peer
    setting: str

    @property
    def name(self) -> str:
        """In records."""
        return f"{self.peer.name}: {self.setting}"

    @property
    def options(self) -> Options:
        """How it is made."""
        return self.peer.settings[self.setting]

    @property
    def loading(self) -> Options:
        """How what was made is loaded."""
        return {name: self.options[name] for name in self.peer.loading}


def attempts(*, int8: bool) -> Iterator[Attempt]:
    """Every peer under each of its settings; ``int8``: with the quantizing ones."""
    for peer in PEERS:
        if int8 or not peer.int8:
            yield from (Attempt(peer, setting) for setting in peer.settings)


def is_peer(variant: str) -> bool:
    """Whether a variant of that name is a peer's."""
    return any(variant.startswith(f"{peer.name}: ") for peer in PEERS)


def title_of(variant: str) -> str:
    """A peer's variant for readers."""
    name, _, setting = variant.partition(": ")
    title = next(peer.title for peer in PEERS if peer.name == name)
    return title if setting == "default" else f"{title}, {setting}"


def make(attempt: Attempt, network: Path, calibration: Path, cache: Path) -> tuple[Path, Options]:
    """Let a peer turn ``network`` into a file for its runtime.

    Args:
        network: as ONNX, or as ``torch.export`` writes it, whichever the runtime is made for.
        calibration: ``.npz`` with ``images``, float32 (count, C, H, W).
        cache: folder of the files; the same input and options are not run again.

    Returns:
        The file, and the versions of the packages involved.

    Raises:
        MissingDependencyError: the peer is not installed.
        ExportError: it failed; the message ends with the last line of its output.
    """
    peer = attempt.peer
    peer.environment.require()
    named = json.dumps([peer.name, peer.environment.packages, attempt.options], sort_keys=True)
    digest = hashlib.sha256(f"{sha256(network)}{sha256(calibration)}{named}".encode()).hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / f"{peer.name}-{digest[:16]}{SUFFIXES[peer.runtime]}"
    note = file.with_suffix(".json")
    if not note.is_file():
        arguments = [peer.name, network, calibration, file, json.dumps(attempt.options)]
        log = file.with_suffix(".log")
        made = peer.environment.run(WORKER, arguments, log, peer.title, TIMEOUT)
        write_text(note, json.dumps(made))
    versions: Options = json.loads(note.read_text())
    return file, versions


def main() -> None:
    """Create the environments that the command line names, or all that are missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ENVIRONMENTS)}")
    names = parser.parse_args().names
    install_missing(one for name, one in ENVIRONMENTS.items() if not names or name in names)


if __name__ == "__main__":
    main()
