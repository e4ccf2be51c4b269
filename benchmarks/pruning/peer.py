"""torch-pruning: where it works, what it is asked for, and which of its settings is its best."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.environments import ROOT, Environment
from benchmarks.networks import EXAMPLES, Network
from benchmarks.peers import TORCH
from benchmarks.records import Record, write_text
from waveedge.errors import ExportError

__all__ = ["TORCH_PRUNING", "Pruned", "prune"]

TORCH_PRUNING = Environment(
    "torch-pruning",
    # The rest is what the code of waveedge's networks imports, which is taken from this repository.
    ("torch-pruning==1.6.1", TORCH, "numpy", "PyWavelets", "pydantic", "pyyaml", "safetensors"),
)
WORKER = Path(__file__).with_name("worker.py")
_TIMEOUT = 3600  # seconds, for all settings and shares of one network


class Pruned:
    """What torch-pruning made of a network.

    Args:
        folder: of its files.
        report: what the worker printed.
    """

    def __init__(self, folder: Path, report: Mapping[str, Any]) -> None:
        self._folder = folder
        self.rows: list[Record] = report["rows"]
        self.versions: dict[str, str] = report["versions"]

    def of(self, share: float) -> list[Record]:
        """The settings that came through, for a share of the multiply-adds.

        Raises:
            ExportError: none did; the message is that of the first.
        """
        rows = [row for row in self.rows if row["share"] == share]
        made = [row for row in rows if "error" not in row]
        if not made:
            raise ExportError(f"torch-pruning failed: {rows[0]['error']}")
        return made

    def module(self, row: Record) -> nn.Module:
        """The network of one row."""
        module = torch.load(self._folder / row["file"], weights_only=False)
        assert isinstance(module, nn.Module)
        return module


def prune(
    network: Network,
    model: nn.Module,
    images: Sequence[Any],
    shares: Sequence[float],
    settings: Mapping[str, Mapping[str, Any]],
    folder: Path,
) -> Pruned:
    """Let torch-pruning work under all settings, or take what it did before for the same job.

    Args:
        network: which; the code of its example is needed to read it.
        model: it, as published.
        images: (1, C, H, W) float32, to calibrate on.
        shares: of the multiply-adds.
        settings: options by name; see ``worker.py``.
        folder: of all files.

    Raises:
        MissingDependencyError: its environment is not installed.
        ExportError: it failed altogether.
    """
    TORCH_PRUNING.require()
    named = json.dumps([list(shares), dict(settings), TORCH_PRUNING.packages], sort_keys=True)
    out = folder / hashlib.sha256(named.encode()).hexdigest()[:12]
    out.mkdir(parents=True, exist_ok=True)
    note = out / "report.json"
    if not note.is_file():
        torch.save(model, out / "model.pt")
        np.savez(out / "images.npz", images=np.concatenate(images))
        job = {
            "paths": [str(ROOT), str(EXAMPLES / str(network.example))],
            "model": str(out / "model.pt"),
            "images": str(out / "images.npz"),
            "shares": list(shares),
            "settings": dict(settings),
            "out": str(out),
        }
        asked = out / "job.json"
        write_text(asked, json.dumps(job))
        log = out / "worker.log"
        made = TORCH_PRUNING.run(WORKER, [asked], log, "torch-pruning", _TIMEOUT)
        write_text(note, json.dumps(made))
    return Pruned(out, json.loads(note.read_text()))
