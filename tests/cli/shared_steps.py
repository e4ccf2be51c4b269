"""A program for each of several processes: three steps of a tuning, kept to be looked at, and then
the verb. ``torchrun --nproc-per-node 2 shared_steps.py``, in a folder with a network and its
artifact."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import waveedge
from waveedge.cli import main
from waveedge.compression.compressed import Compressed
from waveedge.compression.processes import Accelerated, Processes, launched
from waveedge.compression.threads import one_thread
from waveedge.compression.tuning import Tuning

LINE = ("tune", "model.w8a2.safetensors", "--steps", "6")


@one_thread()
def few_steps(folder: Path, processes: Processes) -> dict[str, list[Tensor]]:
    """Take three steps; return the last gradients, and what was trained."""
    small, teacher = (waveedge.load(folder / name) for name in (LINE[1], "model.pt"))
    assert isinstance(small, Compressed)
    assert isinstance(teacher, nn.Module)
    images = waveedge.open_images(None, spec=small.spec, size=small.input_size)
    parts = images.calibration[:12], images.judged[:2]
    tuning = Tuning(small.graph, teacher, *parts, 12, 0, processes=processes)
    for _ in range(3):
        assert not tuning.step()
        tuning.done += 1
    gradients = [tensor.grad for tensor in tuning.tensors if tensor.grad is not None]
    return {"gradients": gradients, "tensors": [tensor.detach() for tensor in tuning.tensors]}


if __name__ == "__main__":
    accelerator = launched()
    assert accelerator is not None
    processes = Accelerated(accelerator)
    torch.save(few_steps(Path(), processes), f"process{processes.index}.pt")
    main(list(LINE))
