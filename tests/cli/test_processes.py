"""``waveedge tune`` in two processes: they share every batch, and one of them writes and tells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import waveedge
from waveedge.compression.compressed import Compressed
from waveedge.compression.processes import Processes

from .inside import run_inside
from .shared_steps import few_steps

pytest.importorskip("accelerate", reason="accelerate is not installed")

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def test_two_processes_tune_as_one(model: Path, tmp_path: Path) -> None:
    made = run_inside(
        tmp_path,
        "compress",
        model,
        "--bits",
        "2",
        "--uniform",
        "--no-tune",
        "--input-size",
        "16x16",
    )
    assert made.code == 0, made.err
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *TORCHRUN, Path(__file__).with_name("shared_steps.py")],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote model.w8a2.tuned.safetensors") == 1
    assert done.stderr.count("from the 15 real photos") == 1
    assert not list(tmp_path.glob("*.tuning"))

    alone = few_steps(tmp_path, Processes())
    first, second = (torch.load(tmp_path / f"process{index}.pt") for index in (0, 1))
    for name in alone:
        assert torch.equal(_flat(first[name]), _flat(second[name]))
        # Sums in another order: a value on the border of two grid points may round the other way.
        error = (_flat(first[name]) - _flat(alone[name])).norm() / _flat(alone[name]).norm()
        assert float(error) < 0.01, name

    tuned = waveedge.load(tmp_path / "model.w8a2.tuned.safetensors")
    assert isinstance(tuned, Compressed)
    assert tuned.report.tuned is not None
    assert tuned.report.tuned.snr_db > tuned.report.tuned.snr_db_before


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_a_launcher_that_starts_one_is_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``accelerate launch --cpu --num_processes 2`` does, where there is no MPI."""
    assert model.is_file()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    refused = run_inside(tmp_path, "tune", "--data", "nowhere")
    assert "torchrun --nproc-per-node 2" in refused.err
